"""Files with keys, and the folders for them: nobody else can read them at any time."""

import os
import sys
from pathlib import Path


def user_folder() -> Path:
    """Return where tako keeps what it makes for this user, by the platform's ways."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "tako"


def make_private_folder(folder: Path) -> None:
    """Make a folder that is for its owner alone, where there is none.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def replace(path: Path, data: bytes, *, private: bool) -> None:
    """Write ``data`` beside ``path`` and move it there: readers see old or new.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    # the mode is given at creation: at no time can other users open a key
    mode = 0o600 if private else 0o644
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)  # a crash leaves old or new, too, and never an empty file
    fresh.replace(path)
