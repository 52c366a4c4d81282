"""``--reload``: calls a function when a file has changed."""

import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

from tako.cli.console import CliError


Watch: TypeAlias = Callable[[Callable[[str], None], threading.Event], None]
"""Calls its first argument with what has changed, until the event is set."""

_SHOWN = 3  # files that a line names
_PYTHON = ("*.py", "*.pyx")


def watched(
    folders: tuple[Path, ...], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Watch | None:
    """Return a function that watches ``folders``; ``None`` without any.

    Args:
        folders: with what is below them; not ``.git``, ``.venv``, caches and the like.
        include: patterns of files that count beside Python's.
        exclude: patterns of files that do not count.

    A pattern is that of a shell: for a name, or with a slash for a path below a folder.

    Raises:
        CliError: watchfiles is missing, or a folder is.
    """
    if not folders:
        return None
    try:
        import watchfiles
    except ModuleNotFoundError as error:
        msg = "--reload needs watchfiles: pip install 'tako-server[cli]'"
        raise CliError(msg) from error
    for folder in folders:
        if not folder.is_dir():
            msg = f"--reload-dir {folder}: there is no such folder"
            raise CliError(msg)
    roots = [each.resolve() for each in folders]
    usual = watchfiles.DefaultFilter()  # leaves .git, __pycache__, editors' files out

    def counts(change: watchfiles.Change, path: str) -> bool:
        return usual(change, path) and is_meant(Path(path), roots, include, exclude)

    def watch(changed: Callable[[str], None], stop: threading.Event) -> None:
        for changes in watchfiles.watch(
            *folders, watch_filter=counts, stop_event=stop, raise_interrupt=False
        ):
            changed(shown([path for _, path in changes]))

    return watch


def is_meant(
    path: Path, roots: Sequence[Path], include: Sequence[str], exclude: Sequence[str]
) -> bool:
    """Tell whether the patterns mean ``path``, below one of ``roots``.

    Args:
        path: without links, as the roots.
        roots: the folders that are watched.
        include: see ``watched``.
        exclude: see ``watched``; it goes before.
    """
    names = [path.name]
    names += [str(path.relative_to(it)) for it in roots if path.is_relative_to(it)]
    return _match(names, (*_PYTHON, *include)) and not _match(names, exclude)


def _match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, each) for name in names for each in patterns)


def shown(paths: list[str]) -> str:
    """Return the names of files in a line, and how many there are beside the first."""
    here = Path.cwd()
    names = sorted(
        str(each.relative_to(here)) if each.is_relative_to(here) else str(each)
        for each in {Path(path).resolve() for path in paths}
    )
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
