"""``RequestFacts``: what a ``Request`` holds; each engine makes one for each request.

Compiled where ``TAKO_COMPILE`` says so: a request is made, and asked what it holds, in
half the time. What it does, and its documentation, is in ``Request``.
"""

# pyright: reportPrivateUsage=false

from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from tako.config import DEFAULT_MAX_BODY
from tako.http.compiling import mypyc_attr
from tako.http.conn_info import ConnInfo
from tako.http.headers import Headers, RawHeader
from tako.http.request_head import HttpVersion
from tako.http.state import TypeMap


EndCallback: TypeAlias = Callable[[int, bool], None]

_NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})


class BodyReader(Protocol):
    """Where a request's body comes from; ``BodySink`` on a connection."""

    def next_chunk(self) -> Coroutine[Any, Any, bytes]:
        """Return the next chunk, ``b""`` at the end."""
        ...


class Client(Protocol):
    """Whether the client has left; ``BodySink`` on a connection."""

    @property
    def left(self) -> bool:
        """The client will send nothing more; see ``Request.disconnected``."""
        ...

    def until_left(self) -> Coroutine[Any, Any, None]:
        """Wait until ``left``."""
        ...


class Exchange(Protocol):
    """What a request needs of the exchange that carries it; see ``core.seams``."""

    end_callbacks: tuple[EndCallback, ...]


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestFacts:
    """The base of ``Request``, whose attributes are described there."""

    __slots__ = (
        "_body",
        "_body_taken",
        "_client",
        "_extensions",
        "_fields",
        "_headers",
        "_path_params",
        "_query_multi",
        "authority",
        "body_reader",
        "conn_info",
        "exchange",
        "http_version",
        "is_websocket",
        "matched_path",
        "max_body_size",
        "method",
        "path",
        "protocol",
        "query",
        "raw_path_params",
        "scheme",
        "states",
        "target",
    )

    def __init__(  # noqa: PLR0917 - by name it takes twice as long
        self,
        method: str,
        target: str,
        headers: Headers | list[RawHeader],
        http_version: HttpVersion = "1.1",
        scheme: str = "http",
        authority: str | None = None,
        protocol: str | None = None,
        body_reader: BodyReader | None = None,
        conn_info: ConnInfo | None = None,
        client: Client | None = None,
        exchange: Exchange | None = None,
        max_body_size: int | None = DEFAULT_MAX_BODY,
    ) -> None:
        """Make a request; a list of fields is copied once ``headers`` is needed."""
        self.method: str = method
        self.target: str = target
        mark = target.find("?")
        if mark < 0:
            self.path: str = target
            self.query: str = ""
        else:
            self.path = target[:mark]
            self.query = target[mark + 1 :]
        self._fields: list[RawHeader] | None = None
        self._headers: Headers | None = None
        if isinstance(headers, list):  # perhaps shared with other requests
            self._fields = headers
        else:
            self._headers = headers
        self.http_version: HttpVersion = http_version
        self.scheme: str = scheme
        self.authority: str | None = authority
        self.protocol: str | None = protocol
        self.is_websocket: bool = protocol == "websocket"
        self.body_reader: BodyReader | None = body_reader
        self.conn_info: ConnInfo | None = conn_info
        self.max_body_size: int | None = max_body_size
        self.matched_path: str | None = None
        self.raw_path_params: Mapping[str, str] = _NO_PARAMS
        self.states: tuple[TypeMap, ...] = ()
        self._path_params: Mapping[str, str] | None = None
        self._query_multi: dict[str, list[str]] | None = None
        self._extensions: Any = None  # ``Extensions``, made when first needed
        self._body: bytes | None = None
        self._body_taken: bool = False
        self._client: Client | None = client
        self.exchange: Exchange | None = exchange

    @property
    def headers(self) -> Headers:
        """The request's fields."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers.from_raw(field_list(self))
        return headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self._headers = headers


# Functions, not methods: a call of a method would look for one of a subclass


def field_list(request: RequestFacts) -> list[RawHeader]:
    """Return a new list of what ``headers`` of a request holds."""
    headers, fields = request._headers, request._fields
    if headers is not None:
        return headers.raw.copy()
    return [] if fields is None else fields.copy()


def matched(
    request: RequestFacts,
    path: str,
    params: Mapping[str, str],
    states: tuple[TypeMap, ...],
) -> None:
    """Set what depends on the route that was found; for routers."""
    request.matched_path = path
    request.raw_path_params = params
    request._path_params = None
    request.states = states


def connect(  # noqa: PLR0917 - by name it takes twice as long
    request: RequestFacts,
    scheme: str,
    authority: str | None,
    protocol: str | None,
    body_reader: BodyReader,
    conn_info: ConnInfo,
    client: Client,
    exchange: Exchange,
    max_body_size: int | None,
) -> None:
    """Set what a request has of its connection: attributes of ``Request``."""
    request.scheme = scheme
    request.authority = authority
    request.protocol = protocol
    request.is_websocket = protocol == "websocket"
    request.body_reader = body_reader
    request.conn_info = conn_info
    request._client = client
    request.exchange = exchange
    request.max_body_size = max_body_size
