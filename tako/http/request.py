"""``Request``: what a handler is called with (RFC 9110 §6), the same on both wires."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NoReturn, Protocol, TypeVar
from urllib.parse import parse_qs, unquote_to_bytes

from tako.errors import HttpError
from tako.http import grammar
from tako.http.conn_info import ConnInfo
from tako.http.headers import Headers, HeadersLike
from tako.http.media_type import decode_text, essence, parse_fields
from tako.http.multipart import Multipart, open_multipart
from tako.http.pieces import Piece, keep
from tako.http.request_facts import BodyReader, Client, EndCallback, RequestFacts
from tako.http.request_head import HttpVersion
from tako.http.state import MissingState, TypeMap, find_state


T = TypeVar("T")
D = TypeVar("D")

_UNSET: Any = object()


class Body(BodyReader, Client, Protocol):
    """A body that comes over a connection, with the client that sends it."""


class Extensions(TypeMap):
    """Facts attached to a request, one for each type: ``extensions[ConnInfo]``."""

    __slots__ = ()


class _BytesReader:
    """A body that is complete from the start."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def next_chunk(self) -> bytes:
        data, self._data = self._data, b""
        return data


class Request(RequestFacts):
    """One HTTP request.

    Engines construct it; tests use ``Request.build``.

    Attributes:
        method: the request method; ``"GET"`` for a WebSocket on both wires.
        target: the path and query as received (RFC 9112 §3.2).
        path: the path as received, without the query; not decoded.
        query: the query as received, ``""`` if there is none.
        headers: the request's fields.
        http_version: ``"1.0"``, ``"1.1"`` or ``"2"``.
        scheme: ``"http"`` or ``"https"``.
        authority: host and port from the request target or ``:authority``.
        protocol: ``"websocket"`` for its handshake on either wire (RFC 8441 §4).
        is_websocket: whether ``protocol`` is ``"websocket"``.
        body_reader: where the body comes from; ``stream`` and ``body`` read it.
        conn_info: the peer and the wire, ``None`` without a connection.
        max_body_size: the limit of ``body``, ``text``, ``json`` and forms by default,
            in bytes; ``None``: no limit. From ``ServerConfig.max_body_size``.
        matched_path: the path that the route was registered with; ``None`` without one.
        raw_path_params: the path parameters as received, not decoded.
        states: where ``state`` looks, in this order; set by a router.
        exchange: for tako itself: ``core.exchange_of`` says what it is.

    Example::

        async def greet(request: Request) -> Response:
            data = await request.json()
            return Response.json({"hello": data["name"]})
    """

    __slots__ = ()

    @classmethod
    def build(
        cls,
        method: str = "GET",
        path: str = "/",
        headers: HeadersLike = (),
        body: bytes | str = b"",
        extensions: Iterable[object] = (),
        *,
        http_version: HttpVersion = "1.1",
    ) -> "Request":
        """Return a request without a connection, for tests of handlers and routers.

        Args:
            method: the request method.
            path: the path, with the query if any.
            headers: the request's fields.
            body: the body; no field is derived from it.
            extensions: values for ``Request.extensions``.
            http_version: ``request.http_version``.
        """
        data = body.encode() if isinstance(body, str) else body
        request = cls(
            str(method),
            path,
            Headers(headers),
            http_version=http_version,
            body_reader=_BytesReader(data),
        )
        for value in extensions:
            request.extensions.insert(value)
            if isinstance(value, ConnInfo):
                request.conn_info = value
        return request

    @property
    def host(self) -> str | None:
        """Host and port that the client asked for: the authority, else ``Host``."""
        if self.authority is not None:  # RFC 9112 §3.2.2: it overrides Host
            return self.authority
        return self.headers.get("host")

    @property
    def query_multi(self) -> dict[str, list[str]]:
        """All values of each query parameter, decoded."""
        if self._query_multi is None:
            self._query_multi = parse_qs(self.query, keep_blank_values=True)
        return self._query_multi

    @property
    def query_params(self) -> Mapping[str, str]:
        """The first value of each query parameter, decoded."""
        return {name: values[0] for name, values in self.query_multi.items()}

    @property
    def cookies(self) -> dict[str, str]:
        """The request's cookies; of equal names the first, which is the most specific.

        RFC 6265 §5.4 has clients send cookies of longer paths first.
        """
        cookies: dict[str, str] = {}
        for line in self.headers.get_all("cookie"):
            for pair in line.split(";"):
                name, equals, value = pair.partition("=")
                if equals:
                    cookies.setdefault(name.strip(" \t"), _unquoted(value.strip(" \t")))
        return cookies

    @property
    def last_event_id(self) -> str | None:
        """The ``Last-Event-ID`` of a client that resumes an event stream.

        HTML standard §9.2; ``None`` if there is none, or if it is not UTF-8.
        """
        value = (self.headers.get_raw(b"last-event-id") or b"").strip()
        try:
            return value.decode() or None
        except UnicodeDecodeError:
            return None

    @property
    def path_params(self) -> Mapping[str, str]:
        """The path parameters, percent-decoded.

        Raises:
            HttpError: 400, a value is not UTF-8 once decoded.
        """
        if self._path_params is None:
            self._path_params = {
                name: _decoded(value) for name, value in self.raw_path_params.items()
            }
        return self._path_params

    @property
    def extensions(self) -> Extensions:
        """Facts attached by the connection, by middleware, or by a test."""
        found: Extensions | None = self._extensions
        if found is None:
            found = self._extensions = Extensions()
            if self.conn_info is not None:
                found.insert(self.conn_info)
                found.insert(self.conn_info.peer)
        return found

    @property
    def disconnected(self) -> bool:
        """The client has left; false for a request without a connection.

        That is: it has reset the request, the connection was lost, or the client has
        ended its direction of it (FIN, or TLS's close_notify). In the last case it may
        still read: it gets the answer, as long as that does not stand still for
        ``ServerConfig.half_closed_timeout``.

        In a router on another ASGI server the first use starts the watch, so that only
        a later one can be true.
        """
        return self._client is not None and self._client.left

    async def wait_disconnected(self) -> None:
        """Wait until the client has left; see ``disconnected``.

        Raises:
            RuntimeError: the request has no connection, so that this would never end.

        Cancel safety: safe.
        """
        if self._client is None:
            msg = "the request has no connection: there is no client that could leave"
            raise RuntimeError(msg)
        await self._client.until_left()

    def state(self, key: type[T], default: D = _UNSET) -> T | D:
        """Return the value that ``Router.with_state`` stored.

        Args:
            key: the type of the value, or the ``key`` that it was stored under.
            default: returned where there is none.

        Raises:
            MissingState: there is none, and no ``default`` is given.
        """
        try:
            return find_state(self.states, key)
        except MissingState:
            if default is _UNSET:
                raise
            return default

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, once; of any size.

        Raises:
            RuntimeError: the body was taken before.
            Disconnected: the peer is gone.
            RemoteProtocolError: the body breaks its framing.

        Cancel safety: safe; a cancelled iteration loses nothing, but cannot be resumed.
        """
        if self._body is not None:
            if self._body:
                yield self._body
            return
        self._take_body()
        reader = self.body_reader
        while reader is not None and (chunk := await reader.next_chunk()):
            yield chunk

    async def body(self, limit: int | None = _UNSET) -> bytes:
        """Return the whole body; it is kept for further calls.

        Args:
            limit: the largest body, in bytes, that is accepted; ``None``: any; by
                default ``max_body_size``.

        Raises:
            HttpError: 413, the body is larger than ``limit``.
            RuntimeError: the body was taken by ``stream`` before.
            Disconnected: the peer is gone.
            RemoteProtocolError: the body breaks its framing.

        Cancel safety: not safe; what was read is lost, and so is the body.
        """
        if limit is _UNSET:
            limit = self.max_body_size
        if self._body is None:
            length = self.headers.get_raw(b"content-length") or b""
            if limit is not None and (grammar.content_length(length) or 0) > limit:
                raise HttpError(413)  # RFC 9110 §15.5.14: no need to read any of it
            self._take_body()
            self._body = await _read_all(self.body_reader, limit)
        if limit is not None and len(self._body) > limit:
            raise HttpError(413)
        return self._body

    async def text(self, limit: int | None = _UNSET) -> str:
        """Return the body as text, in the charset it declares, else UTF-8.

        Args:
            limit: as in ``body``.

        Raises:
            HttpError: 400, the body is not in that charset; 413 and others as in
                ``body``.

        Cancel safety: not safe, as ``body``.
        """
        content_type = self.headers.get("content-type") or ""
        return decode_text(await self.body(limit), content_type)

    async def json(self, limit: int | None = _UNSET) -> Any:
        """Return the value that the body spells in JSON (RFC 8259).

        Args:
            limit: as in ``body``.

        Raises:
            HttpError: 400, the content type is not JSON's or the body is not JSON; 413
                and others as in ``body``.

        Cancel safety: not safe, as ``body``.
        """
        kind = essence(self.headers)
        if kind != "application/json" and not kind.endswith("+json"):  # RFC 6839 §3.1
            raise HttpError(400, "Invalid content type; expected application/json")
        data = await self.body(limit)
        try:
            return json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            detail = f"Failed to deserialize JSON: {error}"
            raise HttpError(400, detail) from error

    async def form_multi(self, limit: int | None = _UNSET) -> dict[str, list[str]]:
        """Return all values of each field of a URL-encoded form.

        Args:
            limit: as in ``body``.

        Raises:
            HttpError: 400, the content type is another one or the body is not a form;
                413 and others as in ``body``.

        Cancel safety: not safe, as ``body``.
        """
        if essence(self.headers) != "application/x-www-form-urlencoded":
            detail = "Invalid content type; expected application/x-www-form-urlencoded"
            raise HttpError(400, detail)
        return parse_fields(await self.body(limit))

    async def form(self, limit: int | None = _UNSET) -> dict[str, str]:
        """Return the first value of each field of a URL-encoded form.

        Args:
            limit: as in ``body``.

        Raises:
            HttpError: as in ``form_multi``.

        Cancel safety: not safe, as ``body``.
        """
        fields = await self.form_multi(limit)
        return {name: values[0] for name, values in fields.items()}

    async def multipart(
        self,
        *,
        limit: int | None = None,
        part_limit: int | None = None,
        max_parts: int = 1000,
    ) -> Multipart:
        """Return a multipart form, whose parts are read as they arrive.

        Iterating over a part takes any size; ``Part.read`` has a limit of its own.

        Args:
            limit: the largest body, in bytes, that is accepted; ``None``: any.
            part_limit: the largest part, in bytes; ``None``: any.
            max_parts: the most parts.

        Raises:
            HttpError: 415, the content type is another one; 400, it names no boundary;
                413, the body is larger than ``limit``.
            ConfigError: the package for it is missing: ``tako-server[multipart]``.
            RuntimeError: the body was taken by ``stream`` before.

        Cancel safety: safe.
        """
        reader = self.body_reader if self._body is None else _BytesReader(self._body)
        form = open_multipart(
            self.headers,
            (reader or _BytesReader(b"")).next_chunk,
            limit=limit,
            part_limit=part_limit,
            max_parts=max_parts,
            read_limit=self.max_body_size,
        )
        if self._body is None:
            self._take_body()
        return form

    def on_end(self, callback: EndCallback) -> None:
        """Call ``callback(status, complete)`` when the answer has ended.

        ``status`` is what was answered, 499 where the client left before; ``complete``
        is false where the answer was cut short. A WebSocket ends with its session.
        For a request without a connection ``callback`` is never called.
        """
        if self.exchange is not None:
            self.exchange.end_callbacks += (callback,)

    def _take_body(self) -> None:
        if self._body_taken:
            msg = "the request body was read before; call body() first to keep it"
            raise RuntimeError(msg)
        self._body_taken = True

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} HTTP/{self.http_version}>"


async def _read_all(reader: BodyReader | None, limit: int | None) -> bytes:
    chunks: list[Piece] = []
    size = 0
    while reader is not None and (chunk := await reader.next_chunk()):
        keep(chunks, chunk)
        size += len(chunk)
        if limit is not None and size > limit:
            raise HttpError(413)
    return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)


def _decoded(value: str) -> str:
    if "%" not in value and value.isascii():
        return value
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeError as error:
        raise HttpError(400, "invalid path parameter encoding") from error


def _unquoted(value: str) -> str:
    """Remove the quotes that RFC 6265 §4.1.1 allows around a cookie's value."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"  # RFC 8259 §6
    raise ValueError(msg)
