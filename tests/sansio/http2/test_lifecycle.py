"""How an HTTP/2 connection ends: drain, GOAWAY, idleness, silence, loss."""

from typing import Any

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.errors import Disconnected
from tako.h2 import H2Engine
from tako.h2.frames import ACK, DATA, GOAWAY, HEADERS, PING, PREFACE, frame
from tako.h2.lifecycle import H2Phase
from tests.support.h2wire import (
    CONNECT,
    POST,
    SETTINGS_ACK,
    Frame,
    Make,
    Peer,
    RecordingSink,
    answer,
    data,
    settings,
)
from tests.support.interpreted import interpreted


FIRST = Frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))


def last(stream_id: int) -> Frame:
    return Frame(GOAWAY, 0, 0, stream_id.to_bytes(4) + bytes(4))


class TestDrain:  # RFC 9113 §6.8
    def test_two_goaways_around_a_round_trip(self, peer: Peer) -> None:
        exchange = peer.request(1)
        peer.engine.shut_down()
        first, ping = peer.frames()
        assert first == FIRST
        assert ping.kind == PING
        late = peer.request(3)  # sent before the peer has read the GOAWAY: served
        peer.send(frame(PING, ACK, 0, ping.payload))
        assert peer.frames() == [last(3)]
        peer.send(peer.headers(5))
        assert peer.rst_codes() == [(5, ErrorCode.REFUSED_STREAM)]
        answer(exchange)
        assert not peer.engine.closing
        answer(late)
        assert [f.stream_id for f in peer.frames() if f.kind == DATA] == [1, 3]
        assert peer.engine.closing

    def test_a_peer_that_does_not_answer_the_ping(self, peer: Peer) -> None:
        peer.engine.shut_down()
        peer.frames()
        assert not peer.engine.closing
        peer.advance(1)
        assert peer.frames() == [last(0)]
        assert peer.engine.closing

    def test_another_ping_is_no_answer(self, peer: Peer) -> None:
        peer.engine.shut_down()
        peer.frames()
        peer.send(frame(PING, ACK, 0, b"whatever"))
        assert peer.frames() == []

    def test_twice_is_once(self, peer: Peer) -> None:
        peer.engine.shut_down()
        peer.frames()
        peer.engine.shut_down()
        assert peer.frames() == []

    def test_websockets_say_goodbye_first(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        order: list[str] = []

        class Polite(RecordingSink):
            def shut_down(self) -> None:
                order.append("sink")
                exchange.send_data(b"1001")

        exchange.sink = Polite(exchange)
        peer.engine.shut_down()
        assert order == ["sink"]
        assert [f.kind for f in peer.frames()] == [DATA, GOAWAY, PING]
        assert sink.shut_downs == 0
        peer.advance(1)
        peer.frames()
        exchange.send_data(b"", end=True)
        assert not peer.engine.closing
        peer.send(data(1, b"", end=True))
        assert peer.engine.closing

    def test_websockets_may_run_on_until_they_are_told(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        opening = peer.request(3, CONNECT, end=False)
        for _ in range(2):
            peer.engine.shut_down(tunnels=False)
        assert [f.kind for f in peer.frames()] == [GOAWAY, PING]
        peer.advance(1)
        assert peer.frames() == [last(3)]
        peer.send(peer.headers(5))
        assert peer.rst_codes() == [(5, ErrorCode.REFUSED_STREAM)]
        late = RecordingSink(opening)
        opening.open_tunnel(200, []).receive_into(late)
        peer.send(data(1, b"goes on"))
        assert sink.data == b"goes on"
        exchange.send_data(b"so does this")
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]
        assert sink.shut_downs == late.shut_downs == 0
        peer.advance(10_000)
        for _ in range(2):
            peer.engine.shut_down()
        assert sink.shut_downs == late.shut_downs == 1
        assert not peer.frames()
        for stream in (exchange, opening):
            stream.send_data(b"", end=True)
            assert not peer.engine.closing
            peer.send(data(stream.stream_id, b"", end=True))
        assert peer.engine.closing

    def test_the_last_one_that_ends_by_itself_ends_the_drain(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        peer.engine.shut_down(tunnels=False)
        peer.advance(1)
        exchange.send_data(b"", end=True)
        peer.send(data(1, b"", end=True))
        assert peer.engine.closing
        assert sink.shut_downs == 0

    def test_a_websocket_that_was_being_opened(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        peer.engine.shut_down()
        sink = RecordingSink(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        assert sink.shut_downs == 1

    def test_a_goaway_never_names_a_later_stream_than_one_before(
        self, peer: Peer
    ) -> None:
        peer.tunnel(1)
        peer.engine.shut_down()
        peer.advance(1)
        assert peer.frames()[-1] == last(1)
        peer.send(peer.headers(3))  # refused: it is for another connection
        assert peer.rst_codes() == [(3, ErrorCode.REFUSED_STREAM)]
        peer.send(frame(PING, 0, 0, b"short"))
        assert [f.payload for f in peer.frames()] == [b"\0\0\0\1\0\0\0\6"]
        assert peer.engine.closing

    def test_an_error_at_its_end_is_said_before_the_connection_closes(
        self, peer: Peer
    ) -> None:
        peer.tunnel(1)
        peer.engine.shut_down()
        peer.advance(1)
        peer.frames()
        peer.send(peer.headers(3)[:12])  # never completed
        seen: list[tuple[bool, bytes]] = []
        flush = peer.connection.flush

        def note(*, soon: bool = False) -> None:
            flush(soon=soon)
            seen.append((peer.engine.closing, bytes(peer.connection.sent)))

        peer.connection.flush = note  # type: ignore[method-assign]
        peer.advance(10)
        assert peer.engine.closing
        goaway = frame(GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\x0b")
        assert {sent for closing, sent in seen if closing} == {goaway}

    def test_after_enough_requests(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_requests=3))
        _, sink = peer.tunnel(1)
        answer(peer.request(3))
        assert GOAWAY not in [f.kind for f in peer.frames()]
        answer(peer.request(5))
        assert FIRST in peer.frames()
        assert sink.shut_downs == 0
        peer.advance(1)
        assert peer.frames() == [last(5)]
        assert not peer.engine.closing
        peer.send(data(1, b"lives on"))
        assert sink.data == b"lives on"


class TestIdle:
    @pytest.mark.parametrize(
        ("config", "timeout"),
        [
            (ServerConfig(), 30),
            (ServerConfig(keep_alive_timeout=7), 7),
            (ServerConfig(header_read_timeout=None), 75),
        ],
    )
    def test_no_request_at_all(
        self, make: Make, config: ServerConfig, timeout: float
    ) -> None:
        peer = make(config=config)
        peer.advance(timeout - 0.1)
        assert peer.frames() == []
        peer.advance(0.1)
        assert FIRST in peer.frames()
        peer.advance(1)
        assert peer.frames() == [last(0)]
        assert peer.engine.closing

    def test_it_counts_from_the_last_stream(self, peer: Peer) -> None:
        exchange = peer.request(1)
        peer.advance(100)
        answer(exchange)
        assert GOAWAY not in [f.kind for f in peer.frames()]
        peer.advance(29)
        assert peer.frames() == []
        peer.advance(1)
        assert FIRST in peer.frames()

    def test_a_tunnel_keeps_the_connection_busy(self, peer: Peer) -> None:
        peer.tunnel()
        peer.advance(3600)
        assert peer.frames() == []

    def test_nothing_comes_at_all(self, make: Make) -> None:
        peer = make(greet=False)
        peer.advance(10)
        assert peer.goaway_codes() == [ErrorCode.SETTINGS_TIMEOUT]
        assert peer.engine.closing

    def test_without_a_settings_timeout(self, make: Make) -> None:
        peer = make(greet=False, config=ServerConfig(settings_timeout=None))
        peer.send(PREFACE + settings())
        peer.frames()
        peer.advance(29)
        assert peer.frames() == []
        peer.send(SETTINGS_ACK)


class TestKeepAlive:
    CONFIG = ServerConfig(h2_keep_alive_interval=15)

    def test_a_ping_after_silence(self, make: Make) -> None:
        peer = make(config=self.CONFIG)
        peer.tunnel()
        peer.advance(14)
        assert peer.frames() == []
        peer.advance(1)
        (ping,) = peer.frames()
        assert (ping.kind, ping.flags) == (PING, 0)
        peer.send(frame(PING, ACK, 0, ping.payload))
        peer.advance(14)
        assert peer.frames() == []
        peer.advance(1)
        assert [f.kind for f in peer.frames()] == [PING]

    def test_not_while_something_comes(self, make: Make) -> None:
        peer = make(config=self.CONFIG)
        peer.tunnel()
        for _ in range(5):
            peer.advance(10)
            peer.send(data(1, b"x"))
        assert peer.frames() == []

    def test_no_answer(self, make: Make) -> None:
        peer = make(config=self.CONFIG)
        _, sink = peer.tunnel()
        peer.advance(15)
        peer.frames()
        peer.advance(19)
        assert not peer.engine.closing
        peer.advance(1)
        assert peer.engine.closing
        assert [type(e) for e in sink.ends] == [Disconnected]

    @pytest.mark.parametrize("end", ["lost", "broken", "over"])
    def test_none_once_the_connection_is_over(self, make: Make, end: str) -> None:
        peer = make(config=self.CONFIG)
        if end == "broken":
            peer.request(1)
        peer.advance(15)
        peer.frames()
        if end == "lost":
            peer.engine.connection_lost()
        else:
            kind = PING if end == "broken" else GOAWAY
            peer.send(frame(kind, 0, 0, bytes(7 if end == "broken" else 8)))
        peer.frames()
        peer.send(data(1, b"x"))  # what was under way
        peer.advance(100)
        assert peer.frames() == []

    def test_data_is_an_answer(self, make: Make) -> None:
        peer = make(config=self.CONFIG)
        peer.tunnel()
        peer.advance(15)
        peer.frames()
        peer.send(data(1, b"x"))
        peer.advance(20)
        assert not peer.engine.closing


class TestLoss:
    def test_everybody_is_told(self, peer: Peer) -> None:
        plain = peer.request(1, POST, end=False)
        tunnel, sink = peer.tunnel(3)
        peer.engine.connection_lost()
        for exchange in (plain, tunnel):
            assert exchange.over
            exchange.send_data(b"x")
            exchange.ended()
        assert plain.task.cancels == 1  # type: ignore[union-attr]
        assert tunnel.task.cancels == 0  # type: ignore[union-attr]
        assert [type(e) for e in sink.ends] == [Disconnected]
        assert peer.engine.data_to_send() == b""
        assert peer.send(peer.headers(5)) == []
        peer.advance(3600)
        assert peer.frames() == []

    def test_end_of_input_lets_complete_requests_be_answered(self, peer: Peer) -> None:
        complete = peer.request(1)
        incomplete = peer.request(3, POST, end=False)
        _, sink = peer.tunnel(5)
        peer.engine.receive_eof()
        assert incomplete.over
        assert [type(e) for e in sink.ends] == [Disconnected]
        assert not peer.engine.closing
        answer(complete)
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]
        assert peer.engine.closing

    def test_end_of_input_on_an_idle_connection(self, peer: Peer) -> None:
        peer.engine.receive_eof()
        assert peer.engine.closing


class TestPhases:
    def test_those_of_an_orderly_end(self, peer: Peer) -> None:
        lifecycle = peer.engine._lifecycle
        exchange = peer.request(1)
        assert lifecycle.phase is H2Phase.SERVING
        peer.engine.shut_down()
        assert (lifecycle.phase, lifecycle.refusing) == (H2Phase.DRAINING, False)
        peer.advance(1)
        assert (lifecycle.phase, lifecycle.refusing) == (H2Phase.REFUSING, True)
        answer(exchange)
        assert peer.engine.closing

    def test_a_peer_that_leaves_is_told_at_once_which_stream_is_the_last(
        self, peer: Peer
    ) -> None:
        exchange = peer.request(1)
        peer.send(frame(GOAWAY, 0, 0, bytes(8)))
        assert peer.engine._lifecycle.phase is H2Phase.PEER_LEAVES
        peer.frames()
        peer.engine.shut_down()
        assert peer.frames() == [last(1)]
        answer(exchange)
        assert peer.engine.closing

    @interpreted
    def test_the_content_of_a_goaway_is_passed_on(
        self, peer: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[int, int, bytes]] = []

        def note(_: H2Engine, *content: Any) -> None:
            seen.append(content)

        monkeypatch.setattr(H2Engine, "receive_goaway", note)
        payload = b"\x80\0\0\5" + b"\0\0\0\x0b" + b"too many"
        peer.send(frame(GOAWAY, 0, 0, payload), frame(GOAWAY, 0, 0, bytes(8)))
        assert seen == [(5, 11, b"too many"), (0, 0, b"")]

    def test_the_peers_goaway_ends_the_wait_of_a_drain(self, peer: Peer) -> None:
        exchange = peer.request(1)
        peer.engine.shut_down()
        assert FIRST in peer.frames()
        peer.send(frame(GOAWAY, 0, 0, bytes(8)))
        assert peer.frames() == [last(1)]
        assert not peer.engine.closing
        answer(exchange)
        assert peer.engine.closing

    def test_one_that_must_not_follow_is_an_error_of_ours(self, peer: Peer) -> None:
        lifecycle = peer.engine._lifecycle
        lifecycle.calm_down()
        with pytest.raises(AssertionError, match=r"SERVING must not follow .*CALMING"):
            lifecycle._enter(H2Phase.SERVING)
