"""The express lane is worth its speed only if nothing else depends on it.

Whatever a peer sends, in whatever pieces, the engine says and delivers the same with
the lane and without; and it never raises.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings as profile, strategies as st

from tako.config import ServerConfig
from tako.core.seams import Sink
from tako.h2 import H2Engine
from tako.h2.exchange import H2Exchange
from tako.h2.frames import DATA, END_STREAM, PADDED, PING, PREFACE, frame
from tako.server.engines import ENGINES
from tako.testing.peer.websocket import encode_frame
from tako.ws.conversation import Conversation
from tako.ws.options import WsOptions
from tests.support import lane
from tests.support.h2wire import (
    CONNECT,
    POST,
    SETTINGS_ACK,
    Peer,
    RecordingSink,
    data,
    rst,
    settings,
    window_update,
)
from tests.support.wire import FakeConnection, conn_info


AnySink = TypeVar("AnySink", bound=Sink)

_STREAM = st.sampled_from([1, 1, 1, 3, 5, 7, 2, 0])
_PIECE = st.binary(max_size=300)


def _padded(stream_id: int, payload: bytes, size: int, flags: int) -> bytes:
    content = bytes([size]) + payload + bytes(size)
    return frame(DATA, PADDED | flags, stream_id, content)


_FRAME = st.one_of(
    st.builds(data, _STREAM, _PIECE),
    st.builds(data, _STREAM, _PIECE),
    st.builds(lambda i, p: data(i, p, end=True), _STREAM, _PIECE),
    st.builds(
        _padded, _STREAM, _PIECE, st.integers(0, 255), st.sampled_from([0, END_STREAM])
    ),
    st.builds(rst, _STREAM),
    st.builds(window_update, _STREAM, st.integers(0, 2**31 - 1)),
    st.builds(lambda value: settings((4, value)), st.integers(0, 70_000)),
    st.just(frame(PING, 0, 0, bytes(8))),
    st.builds(
        frame, st.integers(0, 16), st.integers(0, 255), _STREAM, st.binary(max_size=40)
    ),
)


class Talkative(RecordingSink):
    """Answers everything, so that output depends on input."""

    def deliver(self, data: bytes) -> None:
        super().deliver(data)
        self.exchange.send_data(data.upper())


@pytest.mark.parametrize(("value", "express"), [("0", False), ("1", True)])
def test_a_run_of_the_suite_chooses_the_lane(
    monkeypatch: pytest.MonkeyPatch, value: str, *, express: bool
) -> None:
    monkeypatch.setitem(ENGINES, "h2", H2Engine)
    monkeypatch.setenv("TAKO_LANE", value)
    lane.obey()
    fake = FakeConnection(None, conn_info(http2=True))
    engine = cast("H2Engine", ENGINES["h2"](cast("Any", fake)))
    assert engine._reader._express is express
    monkeypatch.setenv("TAKO_LANE", "slow")
    with pytest.raises(ValueError, match="0 or 1, not 'slow'"):
        lane.obey()


def _tunnels(
    lane: bool, make_sink: Callable[[H2Exchange], AnySink]
) -> tuple[Peer, list[AnySink]]:
    """Return a connection with tunnels on streams 1 and 3, and their sinks."""
    config = ServerConfig(h2_initial_window_size=1000)
    peer = Peer(lane=lane, config=config, greet=False)
    peer.send(PREFACE + settings() + SETTINGS_ACK)
    sinks = []
    for stream_id in (1, 3):
        exchange = peer.request(stream_id, CONNECT, end=False)
        sinks.append(make_sink(exchange))
        tunnel = exchange.open_tunnel(200, [(b"date", b"x")])
        tunnel.receive_into(sinks[-1], getattr(sinks[-1], "inbox", None))
    return peer, sinks


def _states(peer: Peer) -> list[tuple[object, ...]]:
    return [(e.over, e.closed, e.peer_ended, e.window) for e in peer.exchanges]


def _outcome(lane: bool, stream: bytes, size: int) -> tuple[object, ...]:
    peer, sinks = _tunnels(lane, Talkative)
    peer.request(5, POST, end=False)
    for start in range(0, len(stream), size):
        peer.send(stream[start : start + size])
    sent = peer.connection.take()
    delivered = [(bytes(s.data), [repr(e) for e in s.ends]) for s in sinks]
    return sent, delivered, _states(peer), peer.engine.closing


@profile(max_examples=300, deadline=None)
@given(st.lists(_FRAME, max_size=30), st.integers(1, 400))
def test_the_lane_changes_nothing(frames: list[bytes], size: int) -> None:
    stream = b"".join(frames)
    with_lane = _outcome(True, stream, size)
    assert with_lane == _outcome(False, stream, size)
    assert with_lane == _outcome(True, stream, 1 << 20)


_WS_FRAME = st.builds(
    encode_frame,
    st.sampled_from([1, 2, 2, 1, 0, 8, 9]),
    st.one_of(st.binary(max_size=300), st.text(max_size=50).map(str.encode)),
    fin=st.sampled_from([True, True, False]),
) | st.binary(max_size=20)
_TUNNEL_FRAME = st.one_of(
    st.builds(data, st.sampled_from([1, 1, 3]), _WS_FRAME),
    st.builds(data, st.sampled_from([1, 1, 3]), _WS_FRAME),
    _FRAME,
)


def _conversations(
    lane: bool, stream: bytes, sizes: list[int], *, read: bool
) -> tuple[object, ...]:
    """Echo on two WebSockets, each time that something came, if they ``read`` it."""
    peer, sockets = _tunnels(lane, lambda it: Conversation(it, WsOptions()))
    messages: list[object] = []
    for size in sizes:
        peer.send(stream[:size])
        stream = stream[size:]
        for socket in sockets:
            while read and (socket.inbox.messages or socket.resume()):
                if socket.inbox.messages:
                    messages.append(socket.take())
                    if socket.direct:
                        socket.send_message(0x81, repr(messages[-1]))
    sent = peer.connection.take()
    held = [(list(s.inbox.messages), s.inbox.held, s.close_code) for s in sockets]
    return sent, messages, held, _states(peer), peer.engine.closing


@profile(max_examples=300, deadline=None)
@given(
    frames=st.lists(_TUNNEL_FRAME, max_size=30),
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=9),
    read=st.booleans(),
)
def test_the_lane_changes_nothing_for_websockets(
    frames: list[bytes], sizes: list[int], *, read: bool
) -> None:
    stream = b"".join(frames)
    with_lane = _conversations(True, stream, sizes, read=read)
    assert with_lane == _conversations(False, stream, sizes, read=read)


def test_messages_behind_another_frame_go_straight_to_the_inbox() -> None:
    class Watched:
        """A conversation, which compiled has no subclass."""

        def __init__(self, conversation: Conversation) -> None:
            self.conversation = conversation

        def deliver(self, data: bytes) -> None:
            delivered.append(data)
            self.conversation.deliver(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.conversation, name)

    peer = Peer()
    delivered: list[bytes] = []
    exchange = peer.request(1, CONNECT, end=False)
    socket = Conversation(exchange, WsOptions())
    watched: Any = Watched(socket)
    exchange.open_tunnel(200, []).receive_into(watched, socket.inbox)
    sent = data(1, encode_frame(2, bytes(100)))
    ping = frame(PING, 0, 0, bytes(8))
    peer.send(sent, window_update(1, 1), sent * 3, ping, window_update(0, 1), sent)
    assert list(socket.inbox.messages) == [bytes(100)] * 5
    assert not delivered


@profile(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_nothing_raises(noise: bytes) -> None:
    peer = Peer()
    peer.send(noise)
    peer.advance(100)
    peer.frames()
