"""``Problem``: error documents, ``application/problem+json`` (RFC 9457)."""

from http import HTTPStatus
from typing import Any, Final

from tako.http.response import Response, reason_phrase


PROBLEM_JSON: Final = "application/problem+json"

_MEMBERS = frozenset({"type", "title", "status", "detail", "instance"})
_PASSED = frozenset({"application/json", PROBLEM_JSON})
_REPLACED = ("content-type", "content-length", "content-encoding", "transfer-encoding")


class Problem:
    """A problem document (RFC 9457 §3); a handler may return it.

    The ``with_*`` methods change it and return it.
    """

    __slots__ = ("detail", "extensions", "instance", "status", "title", "type")

    def __init__(self, status: int | HTTPStatus, title: str | None = None) -> None:
        self.status: int = int(status)
        self.title = title
        self.type: str | None = None
        self.detail: str | None = None
        self.instance: str | None = None
        self.extensions: dict[str, Any] = {}

    @classmethod
    def from_status(cls, status: int | HTTPStatus) -> "Problem":
        """Return a problem of that status, titled with its reason phrase."""
        return cls(status, reason_phrase(status) or None)

    def with_type(self, uri: str) -> "Problem":
        """Set the URI that identifies the kind of problem (RFC 9457 §3.1.1)."""
        self.type = uri
        return self

    def with_title(self, title: str) -> "Problem":
        """Set the summary of the kind of problem (RFC 9457 §3.1.3)."""
        self.title = title
        return self

    def with_detail(self, detail: str) -> "Problem":
        """Set the explanation of this occurrence (RFC 9457 §3.1.4)."""
        self.detail = detail
        return self

    def with_instance(self, uri: str) -> "Problem":
        """Set the URI of this occurrence (RFC 9457 §3.1.5)."""
        self.instance = uri
        return self

    def with_extension(self, name: str, value: object) -> "Problem":
        """Add a member of your own (RFC 9457 §3.2).

        Raises:
            ValueError: ``name`` is one of the members that the RFC defines.
        """
        if name in _MEMBERS:
            msg = f"{name!r} is a member of every problem; see Problem.with_{name}"
            raise ValueError(msg)
        self.extensions[name] = value
        return self

    def into_response(self) -> Response:
        """Return the response; members that are not set are left out."""
        members = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": self.instance,
        }
        document = {name: value for name, value in members.items() if value is not None}
        return Response.json(
            document | self.extensions, self.status, {"content-type": PROBLEM_JSON}
        )


def default_problem_responder(response: Response) -> Response:
    """Put a problem document in place of an error's body, unless that is JSON already.

    Only 4xx and 5xx are changed. Headers that do not describe the body are kept.
    """
    if not 400 <= response.status <= 599:
        return response
    content_type = response.headers.get("content-type") or ""
    if content_type.partition(";")[0].strip().lower() in _PASSED:
        return response
    problem = Problem.from_status(response.status).into_response()
    for name, value in response.headers.raw:
        if name.decode("latin-1") not in _REPLACED:
            problem.headers.add(name, value)
    return problem
