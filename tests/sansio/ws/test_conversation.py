"""``Conversation``: closing, credit, control frames and keep-alive, byte by byte.

RFC 6455 §5.5, §7; RFC 8441 §5; spec sections 3.7 to 3.11.
"""

import itertools
import logging
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.role import Role
from tako.errors import (
    ConnectionClosed,
    Disconnected,
    FrameTooBig,
    InvalidUtf8,
    MessageTooBig,
    ProtocolViolation,
    WsError,
)
from tako.ws.conversation import (
    _NEXT_INBOUND,
    _NEXT_OUTBOUND,
    Conversation,
    Inbound,
    Outbound,
)
from tako.ws.message import AnyMessage, Message
from tako.ws.options import DeflateParams, WsKeepAlive, WsOptions
from tests.support.codec import held as held_by
from tests.support.fake_exchange import FakeExchange


TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
MASK = b"\x01\x02\x03\x04"
CLOSE_TIMEOUT = 7.0
LINGER = 1.0


def masked(first: int, payload: bytes = b"") -> bytes:
    """Return a client's frame."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 1 << 16:
        head = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, size)
    body = bytes(byte ^ MASK[i & 3] for i, byte in enumerate(payload))
    return head + MASK + body


def plain(first: int, payload: bytes = b"") -> bytes:
    """Return a server's frame of less than 126 bytes."""
    return bytes([first, len(payload)]) + payload


def close(code: int | None, reason: bytes = b"") -> bytes:
    return b"" if code is None else code.to_bytes(2, "big") + reason


class Talk:
    """A conversation on a fake exchange, and its clock."""

    def __init__(
        self, window: int = 1 << 18, role: Role = Role.SERVER, **options: object
    ) -> None:
        config = ServerConfig(
            ws_close_timeout=CLOSE_TIMEOUT, h2_initial_window_size=window
        )
        self.exchange = FakeExchange(config, role=role)
        self.connection = self.exchange.connection
        self.delivered = 0
        settings = WsOptions(**options)  # type: ignore[arg-type]
        self.ws = Conversation(self.exchange, settings, role)

    def deliver(self, *frames: bytes) -> None:
        data = b"".join(frames)
        self.delivered += len(data)
        self.ws.deliver(data)

    def sent(self) -> bytes:
        return self.exchange.take()

    def messages(self) -> list[AnyMessage]:
        """Read what is there as a session would."""
        found: list[AnyMessage] = []
        while self.ws.inbox.messages or self.ws.resume():
            if self.ws.inbox.messages:
                found.append(self.ws.take())
        return found

    def at_deadline(self, seconds: float) -> None:
        """Check that nothing happens before ``seconds`` and go there."""
        before = (bytes(self.exchange.out), self.exchange.over, self.exchange.gone)
        self.connection.runtime.advance(seconds - 0.001)
        now = (bytes(self.exchange.out), self.exchange.over, self.exchange.gone)
        assert now == before, "something happened early"
        self.connection.runtime.advance(0.002)

    def check_credit(self) -> None:
        """Check the invariant: what was delivered is consumed or held."""
        inbox, uncredited = self.ws.inbox, self.ws._uncredited
        assert inbox.messages or inbox.held <= inbox.least
        assert self.exchange.credit + uncredited + inbox.held == self.delivered

    def idle(self) -> None:
        """Check that no deadline is left."""
        before = bytes(self.exchange.out)
        resets = list(self.exchange.resets)
        self.connection.runtime.advance(10_000)
        assert bytes(self.exchange.out) == before
        assert self.exchange.resets == resets


@pytest.fixture
def talk() -> Talk:
    return Talk()


def end_code(talk: Talk) -> int:
    assert talk.ws.end is not None
    return talk.ws.end.close_code


class TestPeerClosesFirst:
    @pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
    def test_the_code_is_echoed_then_the_stream_ends(
        self, talk: Talk, code: int
    ) -> None:
        talk.deliver(masked(CLOSE, close(code, b"bye")))
        assert talk.sent() == plain(CLOSE, close(code))
        assert talk.exchange.output_ended
        assert talk.messages() == [Message.Close(code, "bye")]
        assert (talk.ws.close_code, talk.ws.close_reason) == (code, "bye")
        assert end_code(talk) == code
        assert talk.ws.error is None

    def test_an_empty_close_is_answered_empty_and_reported_as_1005(
        self, talk: Talk
    ) -> None:
        talk.deliver(masked(CLOSE))
        assert talk.sent() == plain(CLOSE)
        assert (talk.ws.close_code, talk.ws.close_reason) == (1005, "")
        assert talk.messages() == [Message.Close()]

    def test_the_close_frame_and_the_end_are_separate_pieces(self, talk: Talk) -> None:
        talk.deliver(masked(CLOSE, close(1000)))
        assert talk.exchange.pieces == [plain(CLOSE, close(1000)), b""]

    def test_the_peers_end_finishes_it(self, talk: Talk) -> None:
        talk.deliver(masked(CLOSE, close(1000)))
        talk.ws.deliver_eof()
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]
        assert talk.ws.close_code == 1000
        talk.idle()

    def test_a_peer_that_does_not_end_is_let_go_after_a_second(
        self, talk: Talk
    ) -> None:
        talk.deliver(masked(CLOSE, close(1000)))
        talk.sent()
        talk.at_deadline(LINGER)
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]
        talk.idle()

    def test_what_follows_the_close_is_credited_and_dropped(self, talk: Talk) -> None:
        talk.deliver(masked(CLOSE, close(1000)) + masked(TEXT, b"late"))
        talk.deliver(masked(PING, b"later"))
        assert talk.messages() == [Message.Close(1000)]
        assert talk.sent() == plain(CLOSE, close(1000))
        talk.check_credit()

    def test_messages_before_the_close_are_read_first(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"a"), masked(TEXT, b"b"), masked(CLOSE))
        assert talk.messages() == ["a", "b", Message.Close()]

    def test_a_reset_instead_of_the_end_changes_nothing(self, talk: Talk) -> None:
        talk.deliver(masked(CLOSE, close(1000)))
        talk.exchange.gone = True
        talk.ws.deliver_eof(Disconnected())
        assert talk.ws.close_code == 1000
        assert talk.ws.error is None
        talk.idle()

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
    def test_a_forbidden_code_is_a_violation(self, talk: Talk, code: int) -> None:
        talk.deliver(masked(CLOSE, close(code)))
        assert talk.sent() == plain(CLOSE, close(1002))
        assert isinstance(talk.ws.error, ProtocolViolation)
        assert talk.ws.close_code == 1002


class TestWeCloseFirst:
    def test_the_close_is_sent_without_the_end(self, talk: Talk) -> None:
        talk.ws.send_close(1000, "done")
        assert talk.sent() == plain(CLOSE, close(1000, b"done"))
        assert not talk.exchange.output_ended
        assert talk.ws.end is None

    def test_the_answer_ends_the_stream(self, talk: Talk) -> None:
        talk.ws.send_close(1000)
        talk.sent()
        talk.deliver(masked(CLOSE, close(1000)))
        assert talk.sent() == b""
        assert talk.exchange.output_ended
        assert talk.ws.close_code == 1000
        talk.at_deadline(LINGER)
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]

    def test_the_peers_code_counts(self, talk: Talk) -> None:
        talk.ws.send_close(4000)
        talk.deliver(masked(CLOSE, close(4001, b"mine")))
        assert (talk.ws.close_code, talk.ws.close_reason) == (4001, "mine")

    def test_messages_still_arrive_until_the_answer(self, talk: Talk) -> None:
        talk.ws.send_close(1000)
        talk.deliver(masked(TEXT, b"on its way"), masked(CLOSE, close(1000)))
        assert talk.messages() == ["on its way", Message.Close(1000)]

    def test_pings_after_our_close_are_not_answered(self, talk: Talk) -> None:
        talk.ws.send_close(1000)
        talk.sent()
        talk.deliver(masked(PING, b"?"))
        assert talk.sent() == b""

    def test_without_an_answer_the_stream_ends_and_then_is_reset(
        self, talk: Talk
    ) -> None:
        talk.ws.send_close(1000)
        talk.sent()
        talk.at_deadline(CLOSE_TIMEOUT)
        assert talk.exchange.output_ended
        assert not talk.exchange.resets
        assert talk.ws.close_code == 1006
        talk.at_deadline(LINGER - 0.001)
        assert talk.exchange.resets == [ErrorCode.CANCEL]
        talk.idle()

    def test_the_end_instead_of_an_answer_is_1006(self, talk: Talk) -> None:
        talk.ws.send_close(1000)
        talk.ws.deliver_eof()
        assert talk.ws.close_code == 1006
        assert talk.exchange.output_ended
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]
        talk.idle()

    def test_closing_again_is_a_no_op(self, talk: Talk) -> None:
        talk.ws.send_close(1000)
        talk.sent()
        talk.ws.send_close(1001, "again")
        assert talk.sent() == b""

    @pytest.mark.parametrize("what", ["message", "ping", "pong"])
    def test_sending_afterwards_raises_with_our_code(
        self, talk: Talk, what: str
    ) -> None:
        talk.ws.send_close(4002)
        talk.sent()
        sends: dict[str, Callable[[], object]] = {
            "message": lambda: talk.ws.send_message(TEXT, b"x"),
            "ping": lambda: talk.ws.send_ping(b""),
            "pong": lambda: talk.ws.send_pong(b""),
        }
        send = sends[what]
        with pytest.raises(ConnectionClosed) as caught:
            send()
        assert caught.value.code == 4002
        assert talk.sent() == b""

    def test_both_at_once_send_one_close_each(self, talk: Talk) -> None:
        talk.ws.send_close(1000)
        talk.deliver(masked(CLOSE, close(1001)))
        assert talk.sent() == plain(CLOSE, close(1000))
        assert talk.exchange.output_ended
        assert talk.ws.close_code == 1001


class TestNoClose:
    def test_the_end_of_the_stream_is_1006(self, talk: Talk) -> None:
        talk.ws.deliver_eof()
        assert talk.sent() == b""
        assert talk.exchange.output_ended
        assert end_code(talk) == talk.ws.close_code == 1006
        assert isinstance(talk.ws.error, ConnectionClosed)
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]

    def test_a_lost_connection_is_1006_and_touches_nothing(self, talk: Talk) -> None:
        talk.exchange.gone = True
        talk.ws.deliver_eof(Disconnected())
        assert talk.ws.close_code == 1006
        assert talk.exchange.pieces == []
        assert talk.exchange.resets == []
        with pytest.raises(ConnectionClosed):
            talk.ws.send_message(TEXT, b"x")
        talk.idle()

    def test_repeats_are_no_ops(self, talk: Talk) -> None:
        talk.ws.deliver_eof()
        talk.ws.deliver_eof()
        talk.ws.deliver_eof(Disconnected())
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]
        assert talk.exchange.pieces == [b""]

    def test_what_arrived_can_still_be_read(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"last words"))
        talk.ws.deliver_eof()
        assert talk.messages() == ["last words"]

    def test_so_can_what_was_not_decoded_yet_and_a_close_behind_it(
        self, talk: Talk
    ) -> None:
        talk.deliver(masked(TEXT, b"x") * 3000, masked(CLOSE, close(1000, b"end")))
        talk.ws.deliver_eof()
        assert talk.messages() == ["x"] * 3000 + [Message.Close(1000, "end")]
        assert talk.ws.close_code == 1000
        assert talk.ws.error is None
        assert end_code(talk) == 1000
        assert talk.exchange.credit == talk.delivered

    def test_a_violation_that_was_not_decoded_yet_is_told_too(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"x") * 3000, masked(0x83))
        talk.ws.deliver_eof()
        assert talk.ws.close_code == 1006
        assert talk.messages() == ["x"] * 3000
        assert talk.ws.close_code == 1002
        assert type(talk.ws.error) is type(talk.ws.end) is ProtocolViolation
        assert talk.sent() == b""
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]
        assert talk.exchange.credit == talk.delivered
        talk.idle()


class TestFailures:
    @pytest.mark.parametrize(
        ("frame", "error", "code"),
        [
            (b"\x81\x00", ProtocolViolation, 1002),  # not masked
            (masked(0xC1), ProtocolViolation, 1002),  # RSV1 without an extension
            (masked(0x83), ProtocolViolation, 1002),  # reserved opcode
            (masked(0x09), ProtocolViolation, 1002),  # fragmented control frame
            (masked(0x80), ProtocolViolation, 1002),  # continues nothing
            (masked(CLOSE, b"\x03"), ProtocolViolation, 1002),
            (masked(TEXT, b"\xff"), InvalidUtf8, 1007),
            (masked(CLOSE, close(1000, b"\xff")), InvalidUtf8, 1007),
            (masked(BINARY, b"x" * 101), FrameTooBig, 1009),
            (masked(0x02, b"x" * 80) + masked(0x80, b"x" * 80), MessageTooBig, 1009),
        ],
    )
    def test_each_has_its_code(
        self, frame: bytes, error: type[WsError], code: int
    ) -> None:
        talk = Talk(max_frame_size=100, max_message_size=150)
        talk.deliver(frame)
        assert talk.sent() == plain(CLOSE, close(code))
        assert talk.exchange.output_ended
        assert type(talk.ws.error) is error
        assert talk.ws.close_code == code
        talk.deliver(masked(TEXT, b"ignored"))
        assert talk.messages() == []
        assert talk.exchange.credit == talk.delivered

    def test_the_transport_is_cut_after_the_close_timeout(self, talk: Talk) -> None:
        talk.deliver(masked(0x83))
        talk.sent()
        talk.at_deadline(CLOSE_TIMEOUT)
        assert talk.exchange.resets == [ErrorCode.CANCEL]
        talk.idle()

    def test_the_peers_end_finishes_it(self, talk: Talk) -> None:
        talk.deliver(masked(0x83))
        talk.ws.deliver_eof()
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]
        assert talk.ws.close_code == 1002
        talk.idle()

    def test_messages_before_it_can_be_answered_first(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"a") + masked(0x83))
        assert talk.sent() == b""
        assert talk.messages() == ["a"]
        talk_answered = plain(CLOSE, close(1002))
        assert talk.sent() == talk_answered
        assert talk.exchange.output_ended

    def test_a_session_that_does_not_read_them_has_a_second(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"a") + masked(0x83))
        talk.at_deadline(LINGER)
        assert talk.sent() == plain(CLOSE, close(1002))
        assert talk.exchange.output_ended

    def test_the_end_of_the_stream_does_not_wait_for_them(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"a") + masked(0x83))
        talk.ws.deliver_eof()
        assert talk.sent() == plain(CLOSE, close(1002))
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]

    def test_after_our_close_there_is_no_second_one(self, talk: Talk) -> None:
        talk.ws.send_close(1000)
        talk.sent()
        talk.deliver(masked(0x83))
        assert talk.sent() == b""
        assert talk.exchange.output_ended
        assert talk.ws.close_code == 1002


class TestShutDown:
    def test_it_says_1001_and_waits_for_the_answer(self, talk: Talk) -> None:
        talk.ws.shut_down()
        assert talk.sent() == plain(CLOSE, close(1001, b"server shutting down"))
        assert not talk.exchange.output_ended
        talk.deliver(masked(CLOSE, close(1001)))
        assert talk.exchange.output_ended
        assert talk.ws.close_code == 1001

    def test_the_session_has_the_time_of_the_closing_and_is_then_cancelled(
        self, talk: Talk
    ) -> None:
        connection = talk.exchange.connection
        for _ in range(2):
            talk.ws.shut_down()
        late = connection.time() + connection.config.ws_close_timeout + 1
        assert connection.to_cancel == [(late, talk.exchange)]

    def test_a_session_that_leaves_by_an_exception_is_not(self, talk: Talk) -> None:
        talk.ws.go_away()
        assert talk.sent() == plain(CLOSE, close(1001, b"server shutting down"))
        assert talk.exchange.connection.to_cancel == []

    def test_it_says_nothing_once_closing_has_begun(self, talk: Talk) -> None:
        talk.deliver(masked(CLOSE, close(1000)))
        talk.sent()
        talk.ws.shut_down()
        assert talk.sent() == b""


class TestControlFrames:
    def test_a_ping_is_answered_before_it_is_read(self, talk: Talk) -> None:
        talk.deliver(masked(PING, b"hello"))
        assert talk.sent() == plain(PONG, b"hello")
        assert talk.messages() == [Message.Ping(b"hello")]

    def test_a_session_that_never_reads_answers_ping_and_close(
        self, talk: Talk
    ) -> None:
        talk.deliver(masked(TEXT, b"unread") * 900, masked(PING, b"p"))
        talk.deliver(masked(CLOSE, close(1000)))
        assert talk.sent() == plain(PONG, b"p") + plain(CLOSE, close(1000))

    def test_a_ping_between_fragments_is_answered_at_once(self, talk: Talk) -> None:
        talk.deliver(masked(0x01, b"a"), masked(PING, b"p"))
        assert talk.sent() == plain(PONG, b"p")
        talk.deliver(masked(0x80, b"b"))
        assert talk.messages() == [Message.Ping(b"p"), "ab"]

    def test_sixteen_pings_of_one_read_are_all_answered(self, talk: Talk) -> None:
        pings = [b"%d" % i for i in range(16)]
        talk.deliver(*(masked(PING, data) for data in pings))
        assert talk.sent() == b"".join(plain(PONG, data) for data in pings)

    def test_of_more_only_the_latest_is(self, talk: Talk) -> None:
        pings = [b"%d" % i for i in range(40)]
        talk.deliver(*(masked(PING, data) for data in pings))
        answered = [*pings[:15], pings[-1]]
        assert talk.sent() == b"".join(plain(PONG, data) for data in answered)

    def test_a_read_that_takes_many_turns_is_one_read(self, talk: Talk) -> None:
        talk.connection.turn._length = -1.0
        pings = [b"%d" % i for i in range(500)]
        talk.deliver(*(masked(PING, data) for data in pings))
        assert talk.sent() == b""
        talk.connection.runtime.run_ready()
        sent = talk.sent()
        assert sent.endswith(plain(PONG, pings[-1]))
        assert len(sent) < 40 * len(plain(PONG, pings[-1]))

    def test_a_peer_that_does_not_read_gets_the_latest_pong_when_it_does(
        self, talk: Talk
    ) -> None:
        talk.exchange.writable = False
        for i in range(1000):
            talk.deliver(masked(PING, b"%d" % i))
        assert talk.sent() == b""
        talk.exchange.writable = True
        talk.ws.wake_writer()
        talk.connection.runtime.run_ready()
        assert talk.sent() == plain(PONG, b"999")

    def test_a_late_pong_is_not_sent_behind_a_close(self, talk: Talk) -> None:
        talk.exchange.writable = False
        talk.deliver(masked(PING, b"p"))
        talk.ws.send_close(1000)
        talk.exchange.writable = True
        talk.ws.wake_writer()
        talk.connection.runtime.run_ready()
        assert talk.sent() == plain(CLOSE, close(1000))

    def test_unread_control_frames_are_kept_up_to_64(self, talk: Talk) -> None:
        for _ in range(500):
            talk.deliver(masked(PONG, b"x"))
        assert len(talk.ws.inbox.messages) == 64
        talk.messages()
        talk.deliver(masked(PONG, b"y"))
        assert talk.messages() == [Message.Pong(b"y")]

    def test_data_is_kept_when_control_frames_are_not(self, talk: Talk) -> None:
        talk.deliver(*[masked(PING)] * 100, masked(TEXT, b"data"))
        assert talk.messages()[-1] == "data"

    def test_a_pong_for_an_answered_ping_is_swallowed_once(self, talk: Talk) -> None:
        talk.deliver(masked(PING, b"p"))
        talk.sent()
        talk.messages()
        talk.ws.send_pong(b"p")
        assert talk.sent() == b""
        talk.ws.send_pong(b"p")
        assert talk.sent() == plain(PONG, b"p")

    def test_a_pong_with_another_payload_goes_out(self, talk: Talk) -> None:
        talk.deliver(masked(PING, b"p"))
        talk.sent()
        talk.messages()
        talk.ws.send_pong(b"q")
        assert talk.sent() == plain(PONG, b"q")

    def test_a_ping_that_was_not_read_swallows_nothing(self, talk: Talk) -> None:
        talk.deliver(masked(PING, b"p"))
        talk.sent()
        talk.ws.send_pong(b"p")
        assert talk.sent() == plain(PONG, b"p")

    def test_only_the_latest_64_answered_pings_are_remembered(self, talk: Talk) -> None:
        for i in range(100):
            talk.deliver(masked(PING, b"%d" % i))
            talk.messages()
        assert len(talk.ws.answered) == 64
        talk.sent()
        talk.ws.send_pong(b"0")
        assert talk.sent() == plain(PONG, b"0")

    def test_latency_is_the_time_to_the_pong(self, talk: Talk) -> None:
        talk.ws.send_ping(b"1")
        talk.connection.runtime.advance(0.25)
        talk.deliver(masked(PONG, b"other"))
        assert talk.ws.latency is None
        talk.deliver(masked(PONG, b"1"))
        assert talk.ws.latency == pytest.approx(0.25)

    def test_pings_without_an_answer_do_not_pile_up(self, talk: Talk) -> None:
        for i in range(200):
            talk.ws.send_ping(b"%d" % i)
        talk.connection.runtime.advance(0.5)
        talk.deliver(masked(PONG, b"0"))
        assert talk.ws.latency is None, "the first Ping was forgotten"
        talk.deliver(masked(PONG, b"199"))
        assert talk.ws.latency == pytest.approx(0.5)


class TestCredit:
    def test_it_is_given_when_the_messages_were_read(self, talk: Talk) -> None:
        for _ in range(4):
            talk.deliver(masked(TEXT, b"a" * 5000))
        assert talk.exchange.credit == 0
        talk.ws.take()
        assert talk.exchange.credit == 5008
        talk.ws.take()
        talk.ws.take()
        assert talk.exchange.credit == 5008  # little is held: the last returns it all
        talk.ws.take()
        assert talk.exchange.credit == talk.delivered

    @pytest.mark.parametrize("window", [64 * 1024, 1024, 1])
    def test_a_debt_is_no_more_than_an_eighth_of_the_window(self, window: int) -> None:
        talk = Talk(window)
        for _ in range(1000):
            talk.deliver(masked(TEXT, b"x"))
            talk.messages()
            assert 0 <= talk.delivered - talk.exchange.credit <= window // 8

    def test_bytes_of_an_incomplete_message_are_given_at_once(self, talk: Talk) -> None:
        data = masked(BINARY, bytes(100_000))
        talk.deliver(data[:60_000])
        assert talk.exchange.credit == 60_000
        talk.deliver(data[60_000:])
        assert talk.exchange.credit == 60_000
        assert talk.messages() == [bytes(100_000)]
        assert talk.exchange.credit == talk.delivered

    @pytest.mark.parametrize("unread", [False, True])
    def test_each_piece_of_a_large_frame_is_given_back_or_held_and_may_fail(
        self, talk: Talk, unread: bool
    ) -> None:
        if unread:
            talk.deliver(masked(TEXT, b"unread"))
        data = masked(TEXT, b"a" * 40_000 + b"\xff" + b"a" * 20_000)
        for start in range(0, 40_000, 8_000):
            talk.deliver(data[start : start + 8_000])
            talk.check_credit()
            assert (talk.exchange.credit == 0) is unread
        assert talk.ws.error is None
        talk.deliver(data[40_000:48_000])
        talk.check_credit()
        assert isinstance(talk.ws.error, InvalidUtf8)
        assert end_code(talk) == 1007
        assert talk.messages() == (["unread"] if unread else [])
        assert talk.exchange.credit == talk.delivered

    def test_control_frames_cost_no_credit_while_nothing_waits(
        self, talk: Talk
    ) -> None:
        talk.ws.discard()
        talk.deliver(masked(PING, b"x"))
        assert talk.exchange.credit == talk.delivered

    def test_a_discarding_session_gives_everything_back(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"a") * 3000)
        talk.ws.discard()
        assert not talk.ws.inbox.messages
        assert talk.exchange.credit == talk.delivered
        talk.deliver(masked(TEXT, b"b") * 3000)
        assert talk.exchange.credit == talk.delivered

    def test_the_inbox_holds_1024_messages_however_small(self, talk: Talk) -> None:
        for _ in range(20):
            talk.deliver(masked(TEXT) * 500)
        assert len(talk.ws.inbox.messages) == 1024
        assert len(talk.messages()) == 10_000
        assert talk.exchange.credit == talk.delivered

    def test_single_bytes_behind_an_unread_message_cost_no_memory(
        self, talk: Talk
    ) -> None:
        talk.deliver(masked(TEXT, b"unread"))
        for byte in masked(BINARY, bytes(60_000))[:-1]:
            talk.deliver(bytes([byte]))
        talk.messages()
        assert talk.exchange.credit == talk.delivered

    @given(
        st.lists(
            st.one_of(
                st.tuples(
                    st.sampled_from([TEXT, BINARY, PING, PONG]),
                    st.integers(0, 100) | st.integers(5000, 6000),
                ),
                st.sampled_from(["read", "read all", "split"]),
            ),
            max_size=60,
        ),
        st.sampled_from(["nothing", "close", "violation", "eof", "discard"]),
    )
    def test_bytes_delivered_are_consumed_or_held(
        self, steps: list[tuple[int, int] | str], end: str
    ) -> None:
        talk = Talk()
        split = 0
        check = talk.check_credit

        for step in steps:
            if isinstance(step, tuple):
                first, size = step
                frame = masked(first, b"x" * (size if first < CLOSE else size % 126))
                talk.deliver(frame[:split])
                check()
                talk.deliver(frame[split:])
                split = 0
            elif step == "split":
                split = 3
            elif step == "read":
                if talk.ws.inbox.messages:
                    talk.ws.take()
            else:
                talk.messages()
            check()
        {
            "nothing": lambda: None,
            "close": lambda: talk.deliver(masked(CLOSE)),
            "violation": lambda: talk.deliver(b"\xff\xff"),
            "eof": talk.ws.deliver_eof,
            "discard": talk.ws.discard,
        }[end]()
        check()
        talk.messages()
        check()
        talk.ws.discard()
        assert talk.exchange.credit == talk.delivered


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed.removesuffix(b"\x00\x00\xff\xff")


WINDOW = 1 << 18
WIDE = "\N{SNOWFLAKE}\N{MUSHROOM}"  # makes a ``str`` of four bytes a character


_PAYLOADS = {
    "zeros": (0xC2, deflated(bytes(100_000))),
    "text": (0xC1, deflated(b"a" * 100_000)),
    "wide text": (0xC1, deflated(b"a" * 100_000 + WIDE.encode())),
    "plain wide text": (TEXT, b"a" * 3000 + WIDE.encode()),
    "tiny": (TEXT, b"a"),
}


def held(talk: Talk) -> int:
    """Return the bytes of memory that a conversation holds of its peer's."""
    inbox = sum(map(sys.getsizeof, talk.ws.inbox.messages))
    return inbox + held_by(talk.ws._codec)


class TestMemory:
    """What waits unread is bounded by the wire's credit, decoded as it is."""

    @pytest.fixture(params=_PAYLOADS)
    def frame(self, request: pytest.FixtureRequest) -> bytes:
        first, payload = _PAYLOADS[request.param]
        return masked(first, payload)

    @pytest.mark.parametrize("watched", [False, True])
    @pytest.mark.parametrize("together", [1, 40])
    def test_messages_that_are_not_read_are_not_decoded(
        self, frame: bytes, together: int, watched: bool
    ) -> None:
        keep_alive = WsKeepAlive(ping_interval=20, auto=watched)
        talk = Talk(WINDOW, deflate=DeflateParams(), keep_alive=keep_alive)
        largest = 4 * 100_100
        sent = 0
        while talk.delivered - talk.exchange.credit + together * len(frame) <= WINDOW:
            data = frame * together
            if not talk.ws.inbox.take(data):
                talk.ws.deliver(data)
            talk.delivered += len(data)
            sent += together
            if sent < 400 or not sent % 200:
                assert held(talk) <= 2 * WINDOW + largest
        assert held(talk) <= 2 * WINDOW + largest
        assert sent >= 40
        count = 0
        while talk.ws.inbox.messages or talk.ws.resume():
            assert held(talk) <= 2 * WINDOW + largest
            while talk.ws.inbox.messages:
                talk.ws.take()
                count += 1
        assert count == sent
        assert talk.ws.inbox.weight == 0
        talk.check_credit()

    def test_a_message_that_is_larger_than_the_bound_arrives(self) -> None:
        talk = Talk(WINDOW, deflate=DeflateParams())
        frame = masked(0xC1, deflated((WIDE * (1 << 19)).encode()))
        for start in range(0, 3 * len(frame), 1000):
            talk.deliver((frame * 3)[start : start + 1000])
        for _ in range(3):
            assert len(talk.ws.inbox.messages) <= 1
            assert talk.ws.inbox.messages or talk.ws.resume()
            assert talk.ws.take() == WIDE * (1 << 19)
        assert talk.exchange.credit == talk.delivered

    def test_fragments_behind_a_heavy_message_are_not_inflated(self) -> None:
        talk = Talk(WINDOW, deflate=DeflateParams())
        talk.deliver(masked(0xC2, deflated(bytes(1 << 20))))
        begun = deflated(bytes(1 << 20)) + b"\x00\x00\xff\xff"
        talk.deliver(masked(0x42, begun))
        for _ in range(9):
            talk.deliver(masked(0x00, begun))
        assert held(talk) < (1 << 20) + 100_000
        assert talk.messages() == [bytes(1 << 20)]
        talk.deliver(masked(0x80, deflated(b"end")))
        assert talk.messages() == [bytes(10 << 20) + b"end"]
        talk.check_credit()

    def test_what_is_behind_a_heavy_message_is_answered_when_it_is_reached(
        self,
    ) -> None:
        talk = Talk(WINDOW, deflate=DeflateParams())
        heavy = masked(0xC2, deflated(bytes(1 << 20)))
        talk.deliver(heavy)
        talk.deliver(heavy, masked(PING, b"p"), masked(CLOSE, close(1000)))
        assert talk.sent() == b""
        assert talk.messages()[:2] == [bytes(1 << 20)] * 2
        assert talk.sent() == plain(PONG, b"p") + plain(CLOSE, close(1000))
        assert end_code(talk) == 1000

    def test_a_session_that_ends_drops_all_of_it(self) -> None:
        talk = Talk(WINDOW, deflate=DeflateParams())
        for _ in range(5):
            talk.deliver(masked(0xC2, deflated(bytes(1 << 20))))
        talk.ws.session_ended(1000)
        assert held(talk) == 0
        assert talk.ws.inbox.weight == 0
        assert talk.exchange.credit == talk.delivered


class TestSessionEnded:
    def test_the_code_is_sent_and_the_answer_awaited(self, talk: Talk) -> None:
        talk.ws.session_ended(1000)
        assert talk.sent() == plain(CLOSE, close(1000))
        assert not talk.exchange.output_ended
        talk.deliver(masked(TEXT, b"ignored"), masked(CLOSE, close(1000)))
        assert talk.exchange.output_ended
        assert talk.exchange.credit == talk.delivered

    def test_after_a_close_handshake_nothing_is_sent(self, talk: Talk) -> None:
        talk.deliver(masked(CLOSE, close(1000)))
        talk.sent()
        talk.ws.session_ended(1000)
        assert talk.sent() == b""

    def test_a_violation_behind_unread_messages_is_answered(self, talk: Talk) -> None:
        talk.deliver(masked(TEXT, b"unread") + masked(0x83))
        talk.ws.session_ended(1000)
        assert talk.sent() == plain(CLOSE, close(1002))


def keeping(**settings: float) -> Talk:
    return Talk(keep_alive=WsKeepAlive(auto=True, **settings))


class TestKeepAlive:
    def test_a_hint_sends_nothing(self) -> None:
        talk = Talk(keep_alive=WsKeepAlive(ping_interval=5, pong_timeout=5))
        talk.idle()
        assert talk.sent() == b""

    def test_silence_is_pinged(self) -> None:
        talk = keeping(ping_interval=20, pong_timeout=10)
        talk.at_deadline(20)
        assert talk.sent() == plain(PING, b"tako 1")

    def test_data_puts_the_ping_off_by_exactly_the_interval(self) -> None:
        talk = keeping(ping_interval=20, pong_timeout=10)
        talk.connection.runtime.advance(19)
        talk.deliver(masked(TEXT, b"alive"))
        talk.at_deadline(20)
        assert talk.sent() == plain(PING, b"tako 1")

    @pytest.mark.parametrize("sign", [masked(PONG, b"tako 1"), masked(TEXT, b"x")])
    def test_any_sign_of_life_is_an_answer(self, sign: bytes) -> None:
        talk = keeping(ping_interval=20, pong_timeout=10)
        talk.connection.runtime.advance(20)
        talk.sent()
        talk.connection.runtime.advance(4)
        talk.deliver(sign)
        talk.at_deadline(20)
        assert talk.sent() == plain(PING, b"tako 2")
        assert talk.ws.end is None

    def test_the_round_trip_is_measured(self) -> None:
        talk = keeping(ping_interval=20, pong_timeout=10)
        talk.connection.runtime.advance(20)
        talk.connection.runtime.advance(0.5)
        talk.deliver(masked(PONG, b"tako 1"))
        assert talk.ws.latency == pytest.approx(0.5)

    def test_no_answer_is_1011_on_the_wire_and_1006_inside(self) -> None:
        talk = keeping(ping_interval=20, pong_timeout=10)
        talk.connection.runtime.advance(20)
        talk.sent()
        talk.at_deadline(10)
        assert talk.sent() == plain(CLOSE, close(1011, b"keepalive timeout"))
        assert talk.exchange.output_ended
        assert talk.ws.close_code == 1006
        assert isinstance(talk.ws.end, ConnectionClosed)
        talk.at_deadline(LINGER - 0.001)
        assert talk.exchange.resets == [ErrorCode.CANCEL]
        talk.idle()

    def test_a_peer_that_cannot_send_is_not_judged(self) -> None:
        talk = keeping(ping_interval=20, pong_timeout=10)
        talk.at_deadline(20)
        assert talk.sent() == plain(PING, b"tako 1")
        talk.exchange.listening = False  # its Pong is behind what is not read
        talk.connection.runtime.advance(10_000)
        assert talk.sent() == b""
        talk.exchange.listening = True
        talk.connection.runtime.advance(15)
        assert talk.sent() == plain(PING, b"tako 2")
        talk.connection.runtime.advance(10)
        assert talk.ws.close_code == 1006

    def test_a_timeout_longer_than_the_interval_is_waited_for(self) -> None:
        talk = keeping(ping_interval=5, pong_timeout=60)
        talk.connection.runtime.advance(5)
        assert talk.sent() == plain(PING, b"tako 1")
        talk.at_deadline(60)
        assert talk.ws.close_code == 1006

    def test_a_timeout_longer_than_the_interval_does_not_delay_pings(self) -> None:
        talk = keeping(ping_interval=5, pong_timeout=60)
        talk.connection.runtime.advance(5)
        talk.deliver(masked(PONG, b"tako 1"))
        talk.sent()
        talk.at_deadline(5)
        assert talk.sent() == plain(PING, b"tako 2")

    def test_without_a_timeout_the_peer_is_pinged_and_never_given_up(self) -> None:
        talk = keeping(ping_interval=5)
        for count in range(1, 20):
            talk.at_deadline(5 if count == 1 else 5 - 0.001)
            assert talk.sent() == plain(PING, b"tako %d" % count)
        assert talk.ws.end is None

    @pytest.mark.parametrize("how", ["ours", "theirs", "eof"])
    def test_closing_ends_it(self, how: str) -> None:
        talk = keeping(ping_interval=2, pong_timeout=1)
        if how == "ours":
            talk.ws.send_close(1000)
        elif how == "theirs":
            talk.deliver(masked(CLOSE))
        else:
            talk.ws.deliver_eof()
        talk.sent()
        talk.connection.runtime.advance(CLOSE_TIMEOUT - 1)
        assert talk.sent() == b""
        assert talk.ws.close_code == {"ours": None, "theirs": 1005, "eof": 1006}[how]


# States ------------------------------------------------------------------------------

PENDING = masked(TEXT, b"m") * 1100 + masked(CLOSE, close(4000))  # more than wait


def _peer_closes(talk: Talk) -> None:
    talk.deliver(masked(CLOSE, close(1000)))
    talk.ws.deliver_eof()


def _we_close(talk: Talk) -> None:
    talk.ws.send_close(1000)
    _peer_closes(talk)


def _violation(talk: Talk) -> None:
    talk.deliver(b"\xff\xff")
    talk.ws.deliver_eof()


def _no_answer(talk: Talk) -> None:
    talk.ws.send_close(1000)
    talk.connection.runtime.advance(CLOSE_TIMEOUT + LINGER)


def _late_close(talk: Talk) -> None:
    talk.deliver(PENDING)
    talk.ws.send_close(1000)
    talk.connection.runtime.advance(CLOSE_TIMEOUT)
    talk.messages()


def _eof_first(talk: Talk) -> None:
    talk.deliver(PENDING)
    talk.ws.deliver_eof()
    talk.messages()


def _violation_behind_the_end(talk: Talk) -> None:
    talk.deliver(PENDING[: 1100 * 7], b"\xff\xff")
    talk.ws.deliver_eof()
    talk.messages()


def _lost(talk: Talk) -> None:
    talk.exchange.gone = True
    talk.ws.deliver_eof(Disconnected())


def _lost_while_closing(talk: Talk) -> None:
    talk.ws.send_close(1000)
    _lost(talk)


CLOSED = ["CLOSE_SENT", "ENDED", "OVER"]
STORIES: list[tuple[Callable[[Talk], None], list[str], list[str]]] = [
    (_peer_closes, ["CLOSE_SEEN"], CLOSED),
    (_we_close, ["CLOSE_SEEN"], CLOSED),
    (_violation, ["FAILED"], CLOSED),
    (_no_answer, ["FAILED"], CLOSED),
    (_late_close, ["FAILED", "CLOSE_SEEN"], ["CLOSE_SENT", "ENDED"]),
    (_eof_first, ["ENDED", "CLOSE_SEEN"], ["ENDED", "OVER"]),
    (_violation_behind_the_end, ["ENDED", "FAILED"], ["ENDED", "OVER"]),
    (_lost, ["ENDED"], ["OVER"]),
    (_lost_while_closing, ["ENDED"], ["CLOSE_SENT", "OVER"]),
]


class TestStates:
    @pytest.mark.parametrize(
        ("story", "inbound", "outbound"), STORIES, ids=lambda it: str(it)[:12]
    )
    def test_each_direction_goes_its_way_and_says_so(
        self,
        talk: Talk,
        caplog: pytest.LogCaptureFixture,
        story: Callable[[Talk], None],
        inbound: list[str],
        outbound: list[str],
    ) -> None:
        with caplog.at_level(logging.DEBUG, logger="tako.ws"):
            story(talk)
        told = [message.partition(": ")[2] for message in caplog.messages]
        assert [t[11:] for t in told if t.startswith("inbound is ")] == inbound
        assert [t[12:] for t in told if t.startswith("outbound is ")] == outbound
        assert talk.ws.inbound.name == inbound[-1]
        assert talk.ws.outbound.name == outbound[-1]
        if talk.ws.outbound is Outbound.OVER:
            talk.idle()

    def test_every_transition_of_the_tables_happens(self) -> None:
        seen = {
            (table, *pair)
            for _, inbound, outbound in STORIES
            for table, names in ((Inbound, inbound), (Outbound, outbound))
            for pair in itertools.pairwise(["OPEN", *names])
        }
        tables: tuple[Mapping[Any, frozenset[Any]], ...]
        tables = (_NEXT_INBOUND, _NEXT_OUTBOUND)
        assert seen == {
            (type(old), old.name, new.name)
            for table in tables
            for old, following in table.items()
            for new in following
        }

    def test_any_other_transition_is_an_error_that_says_from_and_to(
        self, talk: Talk
    ) -> None:
        with pytest.raises(AssertionError, match=r"Inbound.OPEN must not follow"):
            talk.ws._enter_inbound(Inbound.OPEN)
        _lost(talk)
        with pytest.raises(AssertionError, match=r"follow Outbound.OVER$"):
            talk.ws._enter_outbound(Outbound.ENDED)

    def test_after_the_end_nothing_goes_past_the_codec(self, talk: Talk) -> None:
        # one message too many is left to decode when the Close is not answered in time
        talk.deliver(masked(TEXT, b"m") * 1100)
        talk.ws.send_close(1000)
        talk.connection.runtime.advance(CLOSE_TIMEOUT)
        assert len(talk.messages()) == 1100
        assert not talk.ws.inbox.take(masked(TEXT, b"late"))


# The other role ----------------------------------------------------------------------


def unmasked(frame: bytes) -> bytes:
    """Return a client's frame of less than 126 bytes as a server would send it."""
    size = frame[1] & 0x7F
    assert frame[1] & 0x80, "a client masks"
    assert len(frame) == 6 + size
    key, payload = frame[2:6], frame[6:]
    return plain(frame[0], bytes(b ^ key[i & 3] for i, b in enumerate(payload)))


@pytest.fixture
def client() -> Talk:
    return Talk(role=Role.CLIENT)


class TestClient:
    """RFC 6455 §5.1 and §7.1.1: it masks, and waits for the server's end."""

    def test_it_reads_unmasked_frames_and_sends_masked_ones(self, client: Talk) -> None:
        client.deliver(plain(TEXT, b"a"), plain(BINARY, b"b"), plain(PING, b"c"))
        assert client.messages() == ["a", b"b", Message.Ping(b"c")]
        assert unmasked(client.sent()) == plain(PONG, b"c")
        assert client.ws.send_message(TEXT, "d", soon=True)
        assert unmasked(client.sent()) == plain(TEXT, b"d")
        assert client.exchange.flushes[-1] is True
        client.ws.send_ping(b"e")
        assert unmasked(client.sent()) == plain(PING, b"e")
        client.ws.send_pong(b"f")
        assert unmasked(client.sent()) == plain(PONG, b"f")
        client.check_credit()

    def test_whole_messages_are_taken_past_the_codec(self, client: Talk) -> None:
        assert client.ws.direct
        assert not client.ws.inbox.take(masked(TEXT, b"a"))
        assert client.ws.inbox.take(plain(TEXT, b"a"))
        assert client.messages() == ["a"]

    def test_a_masked_frame_is_a_violation(self, client: Talk) -> None:
        client.deliver(masked(TEXT, b"a"))
        assert unmasked(client.sent()) == plain(CLOSE, close(1002))
        assert not client.exchange.output_ended
        assert end_code(client) == 1002
        client.at_deadline(CLOSE_TIMEOUT)
        assert client.exchange.resets == [ErrorCode.CANCEL]
        client.idle()

    def test_the_servers_close_is_answered_and_its_end_waited_for(
        self, client: Talk
    ) -> None:
        client.deliver(plain(CLOSE, close(1000, b"bye")))
        assert unmasked(client.sent()) == plain(CLOSE, close(1000))
        assert not client.exchange.output_ended
        client.ws.deliver_eof()
        assert client.exchange.output_ended
        assert client.exchange.resets == [ErrorCode.NO_ERROR]
        assert (client.ws.close_code, client.ws.close_reason) == (1000, "bye")
        client.idle()

    def test_a_server_that_does_not_end_is_reset_and_gets_nothing_more(
        self, client: Talk
    ) -> None:
        client.ws.send_close(1000)
        client.deliver(plain(CLOSE, close(1000)))
        client.sent()
        client.at_deadline(LINGER)
        assert client.sent() == b""
        assert not client.exchange.output_ended
        assert client.exchange.resets == [ErrorCode.CANCEL]
        assert client.ws.close_code == 1000
        client.idle()

    def test_a_server_that_does_not_answer_is_reset(self, client: Talk) -> None:
        client.ws.send_close(1000)
        client.at_deadline(CLOSE_TIMEOUT)
        assert not client.exchange.output_ended
        assert client.exchange.resets == [ErrorCode.CANCEL]
        assert client.ws.close_code == 1006
        client.idle()

    def test_the_end_without_a_close_is_answered_with_the_end(
        self, client: Talk
    ) -> None:
        client.ws.deliver_eof()
        assert client.sent() == b""
        assert client.exchange.output_ended
        assert client.ws.close_code == 1006
        client.idle()

    def test_a_dead_server_is_reset(self) -> None:
        client = Talk(role=Role.CLIENT, keep_alive=WsKeepAlive(2, 3, auto=True))
        client.connection.runtime.advance(2)
        assert unmasked(client.sent()) == plain(PING, b"tako 1")
        client.connection.runtime.advance(3)
        assert unmasked(client.sent())[:1] == bytes([CLOSE])
        client.at_deadline(LINGER)
        assert not client.exchange.output_ended
        assert client.exchange.resets == [ErrorCode.CANCEL]
        assert client.ws.close_code == 1006

    def test_it_says_that_the_client_goes_away(self, client: Talk) -> None:
        client.ws.go_away()
        reason = b"client shutting down"
        assert unmasked(client.sent()) == plain(CLOSE, close(1001, reason))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(Role),
        st.one_of(
            st.text(max_size=200),
            st.binary(max_size=70_000),
            st.builds(Message.Ping, st.binary(max_size=20)),
            st.none(),  # let the other side have what was sent
        ),
    ),
    max_size=12,
)
PARAMS = DeflateParams(12, 10, our_no_context_takeover=True, threshold=10)
SWAPPED = DeflateParams(10, 12, their_no_context_takeover=True, threshold=10)


class Pair:
    """A server and a client that have nothing but each other."""

    def __init__(self, *, deflate: bool) -> None:
        self.talks = {
            Role.SERVER: Talk(1 << 20, deflate=PARAMS if deflate else None),
            Role.CLIENT: Talk(
                1 << 20, Role.CLIENT, deflate=SWAPPED if deflate else None
            ),
        }
        self.read: dict[Role, list[AnyMessage]] = {role: [] for role in Role}
        self.eof: set[Role] = set()

    def carry(self, sender: Role) -> None:
        """Deliver what ``sender`` has sent, in pieces of uneven sizes."""
        receiver = next(role for role in Role if role is not sender)
        here, there = self.talks[sender], self.talks[receiver]
        data = here.sent()
        for at in range(0, len(data), 9_973):
            there.deliver(data[at : at + 9_973])
        if here.exchange.output_ended and sender not in self.eof:
            self.eof.add(sender)
            there.ws.deliver_eof()
        self.read[receiver] += there.messages()

    def close(self, first: Role) -> None:
        self.talks[first].ws.send_close(1000, "done")
        for _ in range(3):
            self.carry(first)
            self.carry(next(role for role in Role if role is not first))


@given(STEPS, st.sampled_from(Role), st.booleans())
def test_a_server_and_a_client_understand_each_other(
    steps: list[tuple[Role, AnyMessage | None]], first: Role, deflate: bool
) -> None:
    pair = Pair(deflate=deflate)
    sent: dict[Role, list[str | bytes]] = {role: [] for role in Role}
    for role, message in steps:
        ws = pair.talks[role].ws
        if message is None:
            pair.carry(role)
        elif isinstance(message, Message.Ping):
            ws.send_ping(message.data)
        elif isinstance(message, (str, bytes)):
            sent[role].append(message)
            ws.send_message(TEXT if isinstance(message, str) else BINARY, message)
    for role in Role:
        pair.carry(role)
    pair.close(first)
    for role, talk in pair.talks.items():
        data = [m for m in pair.read[role] if isinstance(m, (str, bytes))]
        assert data == next(sent[other] for other in Role if other is not role)
        assert talk.ws.close_code == 1000
        assert talk.ws.outbound is Outbound.OVER
        assert talk.exchange.output_ended
        assert talk.exchange.resets == [ErrorCode.NO_ERROR]
        talk.idle()
