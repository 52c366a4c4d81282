"""``module:attr``: find what is to be served, and see what it is."""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tako.asgi import AsgiApp
from tako.cli.saying import CliError, one_line
from tako.router import Router
from tako.service import Dispatcher


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
        else:
            msg = f"{name!r} imports {missing!r}, which is not installed"
        raise CliError(msg) from error
    except Exception as error:
        kind = type(error).__name__
        msg = f"importing {name!r} failed: {kind}: {one_line(str(error))}"
        raise CliError(msg) from error


def _no_attribute(module_name: str, attribute: str, module: ModuleType) -> str:
    names = vars(module)
    servable = [
        name
        for name, value in names.items()
        if not name.startswith("_")
        and not inspect.isclass(value)
        and (type(value) is Router or _required(value) in {0, 3})
        and getattr(value, "__module__", module_name) != "typing"
    ]
    hint = f"; perhaps {', '.join(servable[:5])}" if servable else ""
    return f"module {module_name!r} has no attribute {attribute!r}{hint}"


def _recognised(name: str, found: Any, wrap: Callable[[Any], AsgiApp]) -> Target:
    """Say what ``found`` is; a factory is called, once."""
    target = _servable(name, found, wrap)
    if target is not None:
        return target
    if _required(found) == 0:
        try:
            made = found()
        except Exception as error:
            kind = type(error).__name__
            msg = f"calling {name!r} failed: {kind}: {one_line(str(error))}"
            raise CliError(msg) from error
        target = _servable(name, made, wrap)
        if target is not None:
            return Target(name, f"{target.kind} from a factory", target.router)
        found = made
    msg = (
        f"{name!r} is no Router, no ASGI 3 app and no function that returns one, "
        f"but {type(found).__name__}"
    )
    raise CliError(msg)


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
    return _required(found) == 3 and not inspect.isclass(found)


def _required(found: Any) -> int | None:
    """Return how many arguments a call needs; ``None`` if it is not known."""
    if not callable(found):
        return None
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return sum(p.default is p.empty and p.kind not in kinds for p in parameters)
