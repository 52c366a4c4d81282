"""The arguments of a handler, read from its signature when it is registered.

A handler takes nothing, the request, path parameters by name, or both: ``h()``,
``h(request)``, ``h(request, id: int)``, ``h(id)``. All of that is settled once; a
handler of the request alone is called directly.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import Any, TypeAlias

from tako.errors import ConfigError, HttpError
from tako.http.request import Request


Handler: TypeAlias = Callable[..., Any]
"""A plain or async function; it returns what ``into_response`` takes."""

BoundHandler: TypeAlias = Callable[[Request], object]
"""A handler with its arguments settled; the result may have to be awaited."""

MOUNT = "is_mount"
"""An attribute, true of a handler that answers for a whole tree of paths by itself."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_REQUEST_NAMES = frozenset({"req", "request"})
_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def bind_handler(handler: Handler, names: Sequence[str]) -> BoundHandler:
    """Return ``handler`` as a function of the request alone.

    Args:
        handler: what the developer registered.
        names: the path's parameters.

    Raises:
        ConfigError: ``handler`` cannot be called with the request and those parameters.
    """
    if not callable(handler):
        msg = f"{handler!r} is not a handler: it cannot be called"
        raise ConfigError(msg)
    parameters = _parameters(handler)
    if parameters is None:
        return handler
    request_name = _request_parameter(parameters, names)
    injected: list[tuple[str, Callable[[str], object]]] = []
    for parameter in parameters:
        name = parameter.name
        if name == request_name or parameter.kind in _VARIADIC:
            continue
        if name in names and parameter.kind in _KEYWORD:
            injected.append((name, _converter(parameter)))
        elif parameter.default is Parameter.empty:
            msg = (
                f"{_name(handler)} takes {name!r}, which is not a parameter of its path"
            )
            raise ConfigError(msg)
    if injected:
        return _injecting(handler, _position(parameters, request_name), injected)
    if request_name is None:
        return lambda _: handler()
    return _with_request(handler, _position(parameters, request_name))


def _parameters(handler: Handler) -> list[Parameter] | None:
    """Return the handler's parameters; ``None`` for built-ins without a signature."""
    try:
        try:
            signature = inspect.signature(handler, eval_str=True)
        except (NameError, AttributeError, TypeError, SyntaxError):
            signature = inspect.signature(handler)  # annotated for type checkers only
    except ValueError:
        return None
    return list(signature.parameters.values())


def _request_parameter(parameters: list[Parameter], names: Sequence[str]) -> str | None:
    """Return which parameter takes the request, if one does."""
    for parameter in parameters:
        if parameter.annotation in (Request, "Request"):
            return parameter.name
    free = [each for each in parameters if each.name not in names]
    for parameter in free:
        if parameter.name in _REQUEST_NAMES:
            return parameter.name
    if free and free[0] is parameters[0] and _takes_request(free[0]):
        return free[0].name
    return None


def _takes_request(first: Parameter) -> bool:
    """Tell whether the first parameter of a handler, of any name, takes the request."""
    if first.kind is Parameter.VAR_POSITIONAL:
        return True
    return first.kind not in _VARIADIC and first.default is Parameter.empty


def _position(parameters: list[Parameter], request_name: str | None) -> str | None:
    """Return how to pass the request: ``""`` first, by keyword, ``None`` not at all."""
    if request_name is None:
        return None
    first = parameters[0]
    if first.name == request_name and first.kind is not Parameter.KEYWORD_ONLY:
        return ""
    return request_name


def _with_request(handler: Handler, position: str | None) -> BoundHandler:
    if position:
        keyword = position
        return lambda request: handler(**{keyword: request})
    return handler


def _injecting(
    handler: Handler,
    position: str | None,
    injected: list[tuple[str, Callable[[str], object]]],
) -> BoundHandler:
    def call(request: Request) -> object:
        params = request.path_params
        arguments = {name: convert(params[name]) for name, convert in injected}
        if position is None:
            return handler(**arguments)
        if position:
            arguments[position] = request
            return handler(**arguments)
        return handler(request, **arguments)

    return call


def _converter(parameter: Parameter) -> Callable[[str], object]:
    annotation = parameter.annotation
    if annotation in (str, "str", Parameter.empty, Any, object):
        return str
    if annotation in (int, "int"):
        return _integer
    msg = f"path parameter {parameter.name!r} can be str or int, not {annotation!r}"
    raise ConfigError(msg)


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise HttpError(400, "invalid path parameter")
    return int(text)


def _name(handler: Handler) -> str:
    return getattr(handler, "__qualname__", type(handler).__qualname__)
