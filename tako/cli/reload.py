"""``--reload``: calls a function when a Python file has changed."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tako.cli.console import CliError


Watch: TypeAlias = Callable[[Callable[[str], None], threading.Event], None]
"""Calls its first argument with what has changed, until the event is set."""


def watched(folders: tuple[Path, ...]) -> Watch | None:
    """Return a function that watches ``folders``; ``None`` without any.

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

    def watch(changed: Callable[[str], None], stop: threading.Event) -> None:
        python = watchfiles.PythonFilter()
        for changes in watchfiles.watch(
            *folders, watch_filter=python, stop_event=stop, raise_interrupt=False
        ):
            changed(", ".join(sorted(Path(path).name for _, path in changes)))

    return watch
