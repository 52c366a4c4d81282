"""``module:attr``: find what is to be served, and see what it is."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tako.asgi import AsgiApp
from tako.cli.console import CliError, one_line
from tako.routing.router import Router
from tako.server.service import Dispatcher


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be served.

    Attributes:
        name: as it was asked for.
        kind: what it is, in a word or two.
        router: what answers requests.
    """

    name: str
    kind: str
    router: Dispatcher


def load(name: str, folder: Path, wrap: Callable[[Any], AsgiApp]) -> Target:
    """Import what ``name`` stands for.

    Args:
        name: ``module:attribute``; dots in the attribute go deeper.
        folder: where modules are looked for first.
        wrap: makes a handler of an ASGI app.

    Raises:
        CliError: there is no such module or attribute, or it cannot be served.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        msg = f"{name!r} names nothing to serve: write module:attribute, as in main:app"
        raise CliError(msg)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module = _import(module_name, folder)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CliError(_no_attribute(module_name, attribute, module))
        found = getattr(found, part)
    return _recognised(name, found, wrap)


def _import(name: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(missing + "."):
            msg = (
                f"there is no module {missing!r} in {folder} or among what is installed"
            )
            raise CliError(msg) from error
        msg = f"{name!r} imports {missing!r}, which is not installed"
        raise _blamed(msg, error) from error
    except (Exception, SystemExit) as error:
        msg = f"importing {name!r} failed: {_text(error)}"
        raise _blamed(msg, error) from error


def _text(error: BaseException) -> str:
    """Return what an exception is and says, on one line."""
    return one_line("".join(traceback.format_exception_only(error)[-1:]))


def _blamed(text: str, error: BaseException) -> CliError:
    """Return the error that says ``text``, and where, behind the app's traceback."""
    own = error.__traceback__
    while own is not None and _is_ours(own.tb_frame.f_code.co_filename):
        own = own.tb_next
    error.__traceback__ = own
    where = traceback.extract_tb(own)[-1:]
    if isinstance(error, SyntaxError) and error.filename is not None:
        text = f"{text.partition(' (')[0]} ({error.filename}, line {error.lineno})"
    elif where:
        text = f"{text} ({where[0].filename}, line {where[0].lineno})"
    return CliError(text, "".join(traceback.format_exception(error)))


def _is_ours(file: str) -> bool:
    return file in {__file__, importlib.__file__} or file.startswith("<frozen ")


def _no_attribute(module_name: str, attribute: str, module: ModuleType) -> str:
    names = vars(module)
    servable = [
        name
        for name, value in names.items()
        if not name.startswith("_")
        and not inspect.isclass(value)
        and (type(value) is Router or _required(value) == 0 or _is_asgi(value))
        and getattr(value, "__module__", module_name) != "typing"
    ]
    hint = f"; perhaps {', '.join(servable[:5])}" if servable else ""
    return f"module {module_name!r} has no attribute {attribute!r}{hint}"


def _recognised(name: str, found: Any, wrap: Callable[[Any], AsgiApp]) -> Target:
    """Return what ``found`` is; a factory is called, once."""
    target = _servable(name, found, wrap)
    if target is not None:
        return target
    if _required(found) == 0:
        try:
            made = found()
        except (Exception, SystemExit) as error:
            msg = f"calling {name!r} failed: {_text(error)}"
            raise _blamed(msg, error) from error
        target = _servable(name, made, wrap)
        if target is not None:
            return Target(name, f"{target.kind} from a factory", target.router)
        found = made
    if reason := _foreign(found):
        msg = f"{name!r} is {reason}"
        raise CliError(msg)
    msg = (
        f"{name!r} is no Router, no ASGI 3 app and no function that returns one, "
        f"but {type(found).__name__}"
    )
    raise CliError(msg)


def _foreign(found: Any) -> str | None:
    """Describe ``found`` if it is an app of another interface."""
    if inspect.iscoroutine(found):
        found.close()
        return "an async function that is to return an app: make it a plain function"
    required = _required(found) if _takes(found, _required(found) or 0) else None
    if required == 1:  # scope, and then receive and send
        return (
            "an ASGI 2 app, which is called twice: serve "
            "asgiref.compatibility.guarantee_single_callable(app)"
        )
    if required == 2 and not inspect.isclass(found):  # environ, start_response
        return "a WSGI app: serve a2wsgi.WSGIMiddleware(app)"
    return None


def _servable(name: str, found: Any, wrap: Callable[[Any], AsgiApp]) -> Target | None:
    if isinstance(found, Router):
        return Target(name, "tako router", found)
    if inspect.isclass(found):
        return None
    if callable(getattr(found, "dispatch", None)) and not _is_asgi(found):
        return Target(name, type(found).__name__, cast("Dispatcher", found))
    if _is_asgi(found):
        return Target(name, "ASGI app", wrap(found))
    return None


def _is_asgi(found: Any) -> bool:
    """Tell whether a call is meant to have scope, receive and send."""
    if not callable(found) or inspect.isclass(found):
        return False
    parameters = _parameters(found)
    if parameters is None:  # compiled code has none to look at
        return True
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return _takes(found, 3)  # around an app, say; a factory takes nothing
    return _required(found) == 3


def _takes(found: Any, count: int) -> bool:
    """Tell whether it can be called with ``count`` arguments without names."""
    try:
        inspect.signature(found).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


def _required(found: Any) -> int | None:
    """Return how many arguments a call needs; ``None`` if it is not known."""
    parameters = _parameters(found) if callable(found) else None
    return None if parameters is None else sum(map(_is_required, parameters))


def _parameters(found: Any) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):
        return None


def _is_required(parameter: inspect.Parameter) -> bool:
    kinds = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return parameter.default is parameter.empty and parameter.kind not in kinds
