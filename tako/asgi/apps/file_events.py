"""The events of a response that name a file instead of having its content.

``http.response.pathsend`` names one by its path: the server opens and closes it.
``http.response.zerocopysend`` gives a descriptor, which stays the app's.
"""

from typing import Any

from tako.asgi.protocol import Event, EventError
from tako.server.file_body import FileBody


PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"


def is_file(event: Event) -> bool:
    """Tell whether ``event`` is a part of a body that is in a file."""
    kind: str = event["type"]
    return kind in (PATHSEND, ZEROCOPYSEND)


def file_of(event: Event) -> FileBody:
    """Return the stretch of a file that ``event`` names; who takes it closes it.

    A path may be relative to the process's directory: ASGI says that it is absolute,
    but frameworks pass on what their users wrote.

    Raises:
        EventError: there is no such file or stretch, or it is no regular file. Not an
            ``OSError``: to an app that says that its client is gone.
    """
    try:
        if event["type"] == PATHSEND:
            return FileBody.open(_checked("path", event["path"], str))
        file = event["file"]
        fd = file.fileno() if hasattr(file, "fileno") else file
        offset, count = event.get("offset"), event.get("count")
        return FileBody(
            _checked("file", fd, int),
            None if offset is None else _checked("offset", offset, int),
            None if count is None else _checked("count", count, int),
        )
    except (OSError, ValueError, OverflowError) as error:
        what = event["path"] if event["type"] == PATHSEND else event["file"]
        msg = f"cannot send {what!r}: {error}"
        raise EventError(msg) from error


def _checked(key: str, value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        msg = f"{key!r} of an event is {kind.__name__}, not {type(value).__name__}"
        raise EventError(msg)
    return value
