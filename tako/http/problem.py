"""``Problem``: error documents, ``application/problem+json`` (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from tako.http.media_type import essence
from tako.http.response import Response, reason_phrase


PROBLEM_JSON: Final = "application/problem+json"

_NO_EXTENSIONS: Mapping[str, Any] = MappingProxyType({})
_MEMBERS = frozenset({"type", "title", "status", "detail", "instance"})
_PASSED = frozenset({"application/json", PROBLEM_JSON})
_REPLACED = ("content-type", "content-length", "content-encoding", "transfer-encoding")


class Problem:
    """A problem document (RFC 9457 §3); a handler may return it.

    Args:
        status: the status of the response (§3.1.2).
        title: a summary of the kind of problem (§3.1.3).
        type: a URI that identifies the kind of problem (§3.1.1).
        detail: an explanation of this occurrence (§3.1.4).
        instance: a URI of this occurrence (§3.1.5).
        extensions: members of your own (§3.2).

    Raises:
        ValueError: an extension has the name of a member that the RFC defines.
    """

    __slots__ = ("detail", "extensions", "instance", "status", "title", "type")

    def __init__(
        self,
        status: int | HTTPStatus,
        title: str | None = None,
        *,
        type: str | None = None,  # noqa: A002 - the name of the member
        detail: str | None = None,
        instance: str | None = None,
        extensions: Mapping[str, Any] = _NO_EXTENSIONS,
    ) -> None:
        self.status: int = int(status)
        self.title: str | None = title
        self.type: str | None = type
        self.detail: str | None = detail
        self.instance: str | None = instance
        self.extensions: dict[str, Any] = dict(extensions)
        for name in self.extensions:
            if name in _MEMBERS:
                msg = f"{name!r} is not an extension: it is a keyword of Problem"
                raise ValueError(msg)

    @classmethod
    def from_status(
        cls,
        status: int | HTTPStatus,
        *,
        detail: str | None = None,
        instance: str | None = None,
        extensions: Mapping[str, Any] = _NO_EXTENSIONS,
    ) -> "Problem":
        """Return a problem without a type, titled with the status's reason phrase.

        RFC 9457 §4.2.1: a problem without a type should have that title. The arguments
        are those of ``Problem``.

        Raises:
            ValueError: an extension has the name of a member that the RFC defines.
        """
        return cls(
            status,
            reason_phrase(int(status)) or None,
            detail=detail,
            instance=instance,
            extensions=extensions,
        )

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
    ``Router.use_problem_json`` makes it the handler of all errors.
    """
    if not 400 <= response.status <= 599:
        return response
    if essence(response.headers) in _PASSED:
        return response
    problem = Problem.from_status(response.status).into_response()
    for name, value in response.headers.raw:
        if name.decode("latin-1") not in _REPLACED:
            problem.headers.add(name, value)
    return problem
