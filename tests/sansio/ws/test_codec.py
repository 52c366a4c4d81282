"""``tako.ws.codec`` and ``tako.ws.message``, in the order of RFC 6455."""

import time
import tracemalloc
import zlib

import pytest

from tako.core.role import Role
from tako.errors import (
    FrameTooBig,
    InvalidUtf8,
    MessageTooBig,
    ProtocolViolation,
    WsError,
)
from tako.ws.codec import (
    Codec,
    Encode,
    encode_close,
    encode_frame,
    encode_masked_frame,
    encode_ping,
    encode_pong,
)
from tako.ws.deflate import Inflater
from tako.ws.message import AnyMessage, Message
from tests.support.codec import held


MASK = b"\x11\x22\x33\x44"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def masked(data: bytes, mask: bytes = MASK) -> bytes:
    return bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))


def head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, 0x80 | size)) + MASK
    if size < 1 << 16:
        return bytes((first, 0xFE)) + size.to_bytes(2, "big") + MASK
    return bytes((first, 0xFF)) + size.to_bytes(8, "big") + MASK


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    return head(fin << 7 | rsv << 4 | opcode, len(data)) + masked(data)


def codec(size: int = 1 << 20, *, frames: int = 1 << 20, pmd: bool = False) -> Codec:
    return Codec(
        max_frame_size=frames,
        max_message_size=size,
        inflater=ZlibInflater() if pmd else None,
    )


class ZlibInflater(Inflater):
    """A bounded inflater without context takeover."""

    def __init__(self) -> None:
        self.parts: list[tuple[bytes, bool]] = []
        self._stream = zlib.decompressobj(-15)

    def inflate(self, data: bytes, *, final_fragment: bool, budget: int) -> bytes:
        self.parts.append((data, final_fragment))
        if final_fragment:
            data += b"\x00\x00\xff\xff"
        try:
            result = self._stream.decompress(data, budget + 1)
        except zlib.error as error:
            raise InvalidUtf8(str(error)) from None
        if len(result) > budget or self._stream.unconsumed_tail:
            msg = "inflates to too much"
            raise MessageTooBig(msg)
        if final_fragment:
            self._stream = zlib.decompressobj(-15)
        return result


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    packed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
    return packed.removesuffix(b"\x00\x00\xff\xff")


Failure = tuple[type[WsError], int, list[AnyMessage]]


def failure(*parts: bytes, on: Codec | None = None) -> Failure:
    """Feed ``parts``; the last one must fail, and not the ones before."""
    subject = on or codec()
    messages: list[AnyMessage] = []
    for part in parts:
        assert subject.error is None
        messages += subject.receive(part)
    assert subject.error is not None
    assert subject.finished
    assert not subject.pending
    assert held(subject) == 0
    assert subject.receive(frame(TEXT, b"late")) == []
    return type(subject.error), subject.error.close_code, messages


PROTOCOL: Failure = (ProtocolViolation, 1002, [])
BAD_UTF8: Failure = (InvalidUtf8, 1007, [])


class TestMessage:
    def test_text_and_binary_are_str_and_bytes(self) -> None:
        assert Message.Text is str
        assert Message.Binary is bytes

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ("hi", "text hi"),
            (b"\1", "binary 1"),
            (Message.Ping(b"abc"), "ping 3"),
            (Message.Pong(b"ab"), "pong 2"),
            (Message.Close(), "close None"),
            (Message.Close(1000, "bye"), "close 1000 bye"),
        ],
    )
    def test_every_kind_is_a_pattern(self, message: AnyMessage, expected: str) -> None:
        def describe(message: AnyMessage) -> str:
            match message:
                case Message.Text(text):
                    return "text " + text
                case Message.Binary(data):
                    return f"binary {len(data)}"
                case Message.Ping(data):
                    return f"ping {len(data)}"
                case Message.Pong(data):
                    return f"pong {len(data)}"
                case Message.Close(code, reason):
                    return f"close {code} {reason}".rstrip()

        assert describe(message) == expected

    def test_close_matches_without_its_fields(self) -> None:
        match Message.Close(1001):
            case Message.Close():
                matched = True
        assert matched

    def test_types_report_the_public_module(self) -> None:
        for kind in (Message, Message.Ping, Message.Pong, Message.Close):
            assert kind.__module__ == "tako"
        assert Message.Ping.__qualname__ == "Message.Ping"
        assert repr(Message.Close(1000, "x")) == (
            "Message.Close(code=1000, reason='x')"
        )

    def test_control_messages_are_frozen_and_slotted(self) -> None:
        ping = Message.Ping(b"x")
        with pytest.raises(AttributeError):
            ping.data = b"y"  # type: ignore[misc]
        assert not hasattr(ping, "__dict__")
        assert {Message.Ping(b"x"), ping} == {ping}

    @pytest.mark.parametrize("kind", [Message.Ping, Message.Pong])
    def test_control_payloads_are_bytes_up_to_125(
        self, kind: type[Message.Ping] | type[Message.Pong]
    ) -> None:
        assert kind().data == b""
        assert kind(b"x" * 125).data == b"x" * 125
        with pytest.raises(ValueError, match="125 bytes, not 126"):
            kind(b"x" * 126)
        with pytest.raises(TypeError, match="not str"):
            kind("x")  # type: ignore[arg-type]

    def test_close_codes_that_may_be_sent(self) -> None:
        def allowed(code: int) -> bool:
            try:
                Message.Close(code)
            except ValueError:
                return False
            return True

        expected = {*range(1000, 1004), *range(1007, 1014), *range(3000, 5000)}
        assert {code for code in range(-1, 6000) if allowed(code)} == expected

    def test_close_reason_needs_a_code_and_has_a_limit_in_bytes(self) -> None:
        with pytest.raises(ValueError, match="needs a close code"):
            Message.Close(reason="x")
        assert Message.Close(1000, "é" * 61 + "x").reason == "é" * 61 + "x"
        with pytest.raises(ValueError, match="123 UTF-8 bytes, not 124"):
            Message.Close(1000, "é" * 62)
        with pytest.raises(UnicodeEncodeError):
            Message.Close(1000, "\ud800")


class TestFraming:
    """RFC 6455 §5.2."""

    def test_the_masked_hello_of_section_5_7(self) -> None:
        data = bytes.fromhex("818537fa213d7f9f4d5158")
        assert codec().receive(data) == ["Hello"]

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
    def test_every_length_form_is_understood(self, size: int) -> None:
        data = bytes(range(256)) * (size // 256 + 1)
        text = "é" * (size // 2) + "x" * (size % 2)
        wire = frame(BINARY, data[:size]) + frame(TEXT, text.encode())
        assert codec().receive(wire) == [data[:size], text]

    def test_messages_are_plain_str_and_bytes(self) -> None:
        subject = codec()
        (text, data) = subject.receive(frame(TEXT, b"a") + frame(BINARY, b"a"))
        assert (type(text), type(data)) == (str, bytes)
        wire = frame(TEXT, b"a" * 200) + frame(BINARY, b"a" * 200)
        types = [type(m) for byte in wire for m in subject.receive(bytes([byte]))]
        assert types == [str, bytes]

    @pytest.mark.parametrize("rsv", [1, 2, 3, 4, 5, 6, 7])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
    def test_reserved_bits_fail_without_an_extension(
        self, rsv: int, opcode: int
    ) -> None:
        assert failure(frame(opcode, b"", rsv=rsv)) == PROTOCOL

    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
    def test_reserved_opcodes_fail(self, opcode: int) -> None:
        assert failure(frame(opcode, b"x")) == PROTOCOL

    @pytest.mark.parametrize(
        "wire", [b"\x81\xfe\x00\x7d", b"\x82\xff" + (65535).to_bytes(8, "big")]
    )
    def test_lengths_in_more_bytes_than_needed_fail(self, wire: bytes) -> None:
        assert failure(wire) == PROTOCOL

    def test_a_length_with_its_top_bit_set_fails(self) -> None:
        assert failure(b"\x82\xff\x80" + bytes(7)) == PROTOCOL

    def test_heads_may_arrive_byte_by_byte(self) -> None:
        subject = codec()
        wire = frame(BINARY, b"x" * 65536)
        for byte in wire[:13]:
            assert subject.receive(bytes([byte])) == []
        assert held(subject) == 13
        assert subject.receive(wire[13:]) == [b"x" * 65536]
        assert held(subject) == 0


class TestMasking:
    """RFC 6455 §5.1 and §5.3."""

    @pytest.mark.parametrize("wire", [b"\x81\x05Hello", b"\x89\x00", b"\x88\x00"])
    def test_unmasked_frames_fail(self, wire: bytes) -> None:
        assert failure(wire) == PROTOCOL

    def test_a_client_takes_unmasked_frames_only(self) -> None:
        subject = Codec(max_frame_size=9, max_message_size=9, role=Role.CLIENT)
        assert subject.receive(encode_frame(0x81, "hi") * 2) == ["hi", "hi"]
        assert subject.receive(frame(TEXT, b"hi")) == []
        assert str(subject.error) == "a frame of the server is masked"
        subject = Codec(max_frame_size=9, max_message_size=9)
        assert subject.receive(encode_frame(0x81, "hi")) == []
        assert str(subject.error) == "a frame of the client is not masked"

    def test_an_unmasked_frame_fails_before_its_length_is_complete(self) -> None:
        assert failure(b"\x82\x7f") == PROTOCOL

    @pytest.mark.parametrize("split", range(1, 9))
    def test_the_mask_goes_on_across_reads(self, split: int) -> None:
        subject = codec()
        wire = head(0x82, 9) + masked(b"ninebytes")
        assert subject.receive(wire[: 6 + split]) == []
        assert subject.receive(wire[6 + split :]) == [b"ninebytes"]


class TestFragmentation:
    """RFC 6455 §5.4."""

    def test_fragments_make_one_message(self) -> None:
        wire = frame(TEXT, b"Hel", fin=False) + frame(CONTINUATION, b"lo")
        assert codec().receive(wire) == ["Hello"]

    def test_a_character_may_be_split_between_fragments(self) -> None:
        data = "κόσμε 😀".encode()
        wire = b"".join(
            frame(CONTINUATION if i else TEXT, data[i : i + 1], fin=False)
            for i in range(len(data))
        )
        assert codec().receive(wire + frame(CONTINUATION)) == ["κόσμε 😀"]

    def test_empty_fragments_are_part_of_a_message(self) -> None:
        wire = frame(BINARY, fin=False) + frame(CONTINUATION, fin=False)
        assert codec().receive(wire + frame(CONTINUATION)) == [b""]

    def test_control_frames_come_out_between_fragments(self) -> None:
        wire = (
            frame(TEXT, b"a", fin=False)
            + frame(PING, b"p")
            + frame(CONTINUATION, b"b", fin=False)
            + frame(PONG)
            + frame(CONTINUATION, b"c")
        )
        assert codec().receive(wire) == [Message.Ping(b"p"), Message.Pong(), "abc"]

    def test_a_continuation_of_nothing_fails(self) -> None:
        assert failure(frame(CONTINUATION, b"x")) == PROTOCOL
        wire = frame(TEXT, b"x")
        assert failure(wire + frame(CONTINUATION, b"x")) == (*PROTOCOL[:2], ["x"])

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_message_inside_a_message_fails(self, opcode: int) -> None:
        wire = frame(TEXT, b"a", fin=False) + frame(opcode, b"b")
        assert failure(wire) == PROTOCOL

    def test_the_number_of_fragments_is_limited(self) -> None:
        first = frame(BINARY, b"x", fin=False)
        more = frame(CONTINUATION, b"x", fin=False)
        subject = codec()
        assert subject.receive(first + more * 16_382 + frame(CONTINUATION, b"x")) == [
            b"x" * 16_384
        ]
        assert failure(first + more * 16_383, more, on=subject) == (WsError, 1008, [])

    def test_the_number_of_empty_continuations_is_limited(self) -> None:
        first = frame(TEXT, fin=False)
        more = frame(CONTINUATION, fin=False)
        subject = codec()
        assert subject.receive(first + more * 1023 + frame(CONTINUATION)) == [""]
        assert failure(first + more * 1024, more, on=subject) == (WsError, 1008, [])


class TestControlFrames:
    """RFC 6455 §5.5."""

    @pytest.mark.parametrize("size", [0, 1, 125])
    def test_pings_and_pongs_carry_up_to_125_bytes(self, size: int) -> None:
        data = bytes(range(size))
        wire = frame(PING, data) + frame(PONG, data)
        expected = [Message.Ping(data), Message.Pong(data)]
        assert codec().receive(wire) == expected

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_longer_control_frames_fail_from_their_head(self, opcode: int) -> None:
        assert failure(bytes((0x80 | opcode, 0xFE))) == PROTOCOL

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_fragmented_control_frames_fail(self, opcode: int) -> None:
        assert failure(frame(opcode, fin=False)) == PROTOCOL

    def test_a_control_frame_is_given_out_when_it_is_complete(self) -> None:
        subject = codec()
        wire = frame(PING, b"12345")
        assert subject.receive(wire[:-1]) == []
        assert held(subject) == 10
        assert subject.receive(wire[-1:]) == [Message.Ping(b"12345")]


class TestClose:
    """RFC 6455 §5.5.1, §7.1 and §7.4."""

    def test_an_empty_close_has_no_code(self) -> None:
        subject = codec()
        assert subject.receive(frame(CLOSE)) == [Message.Close()]
        assert subject.finished
        assert subject.error is None

    def test_a_close_has_a_code_and_a_reason(self) -> None:
        wire = frame(CLOSE, b"\x03\xe8" + "tschüß".encode())
        assert codec().receive(wire) == [Message.Close(1000, "tschüß")]

    def test_which_codes_are_accepted(self) -> None:
        def accepted(code: int) -> bool:
            subject = codec()
            messages = subject.receive(frame(CLOSE, code.to_bytes(2, "big")))
            if messages:
                (close,) = messages
                assert isinstance(close, Message.Close)
                assert close.code == code
                return True
            assert subject.error is not None
            assert subject.error.close_code == 1002
            return False

        expected = {*range(1000, 1004), *range(1007, 1014), *range(3000, 5000)}
        assert {code for code in range(65536) if accepted(code)} == expected

    def test_a_payload_of_one_byte_fails(self) -> None:
        assert failure(frame(CLOSE, b"\x03")) == PROTOCOL

    def test_a_reason_that_is_not_utf8_fails_with_1007(self) -> None:
        assert failure(frame(CLOSE, b"\x03\xe8\xff")) == BAD_UTF8

    def test_what_follows_a_close_is_ignored(self) -> None:
        subject = codec()
        wire = frame(TEXT, b"a") + frame(CLOSE) + b"\xff" * 50
        assert subject.receive(wire) == ["a", Message.Close()]
        assert subject.receive(frame(TEXT, b"b")) == []
        assert held(subject) == 0
        assert not subject.pending
        assert subject.error is None

    def test_a_close_inside_a_message_drops_the_message(self) -> None:
        subject = codec()
        wire = frame(TEXT, b"abc", fin=False) + frame(CLOSE, b"\x03\xe9")
        assert subject.receive(wire) == [Message.Close(1001)]
        assert held(subject) == 0


class TestUtf8:
    """RFC 6455 §8.1."""

    @pytest.mark.parametrize(
        "data",
        [b"\xff", b"\xc3(", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3"],
    )
    def test_text_that_is_not_utf8_fails_with_1007(self, data: bytes) -> None:
        wire = frame(TEXT, b"fine") + frame(TEXT, b"a" + data)
        assert failure(wire) == (InvalidUtf8, 1007, ["fine"])

    def test_a_text_that_ends_inside_a_character_fails(self) -> None:
        first = frame(TEXT, b"\xe2\x82", fin=False)
        assert failure(first, frame(CONTINUATION)) == BAD_UTF8

    def test_binary_is_not_checked(self) -> None:
        assert codec().receive(frame(BINARY, b"\xff\xfe")) == [b"\xff\xfe"]

    def test_it_fails_at_the_first_hopeless_byte(self) -> None:
        """Every prefix of up to three bytes that could matter, byte by byte."""
        edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
        tails = [bytes([last] * n) for last in edges[2:8] for n in range(4)]

        def hopeful(prefix: bytes) -> bool:
            for tail in tails:
                try:
                    (prefix + tail).decode()
                except UnicodeDecodeError:
                    continue
                return True
            return False

        prefixes = [bytes([a]) for a in range(256)]
        for prefix in prefixes:
            subject = codec()
            subject.receive(head(0x81, 1000))  # the rest of the frame never comes
            for i, byte in enumerate(prefix):
                subject.receive(bytes([byte ^ MASK[i & 3]]))
            assert (subject.error is None) == hopeful(prefix), prefix
            if len(prefix) < 3 and subject.error is None:
                prefixes += [prefix + bytes([b]) for b in edges]
        assert b"\xed\xa0" in prefixes
        assert b"\xf4\x90" in prefixes

    def test_fail_fast_works_across_fragments(self) -> None:
        first = frame(TEXT, b"\xed", fin=False)
        assert failure(first, frame(CONTINUATION, b"\xa0", fin=False)) == BAD_UTF8


class TestLimits:
    """RFC 6455 §10.4."""

    def test_a_frame_of_exactly_the_limit_passes(self) -> None:
        subject = codec(frames=1000)
        assert subject.receive(frame(BINARY, b"x" * 1000)) == [b"x" * 1000]

    def test_a_longer_frame_fails_from_its_head(self) -> None:
        subject = codec(frames=1000)
        assert failure(head(0x82, 1001)[:4], on=subject) == (FrameTooBig, 1009, [])

    def test_a_frame_that_is_longer_than_memory_fails_from_its_head(self) -> None:
        wire = b"\x82\xff" + (2**62).to_bytes(8, "big")
        assert failure(wire) == (FrameTooBig, 1009, [])

    def test_limits_may_be_larger_than_an_address(self) -> None:
        subject = codec(2**80, frames=2**80)
        wire = b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + MASK + b"x"
        assert subject.receive(wire) == []
        assert subject.error is None
        assert held(subject) == 1

    def test_a_message_of_exactly_the_limit_passes(self) -> None:
        subject = codec(1000)
        whole = frame(BINARY, b"x" * 1000)
        parts = frame(TEXT, b"x" * 500, fin=False) + frame(CONTINUATION, b"x" * 500)
        assert subject.receive(whole + parts) == [b"x" * 1000, "x" * 1000]

    def test_a_longer_message_fails_from_the_head_that_makes_it_longer(self) -> None:
        first = frame(TEXT, b"x" * 500, fin=False)
        more = head(0x00, 501)
        assert failure(first, more[:8], on=codec(1000)) == (MessageTooBig, 1009, [])
        assert failure(head(0x81, 1001), on=codec(1000)) == (MessageTooBig, 1009, [])

    def test_control_frames_do_not_count(self) -> None:
        wire = frame(TEXT, b"x" * 10, fin=False) + frame(PING, b"x" * 100)
        assert codec(10).receive(wire + frame(CONTINUATION)) == [
            Message.Ping(b"x" * 100),
            "x" * 10,
        ]

    def test_the_size_of_a_text_is_that_of_its_utf8_form(self) -> None:
        assert codec(4).receive(frame(TEXT, "éé".encode())) == ["éé"]
        wire = frame(TEXT, "éé".encode())
        assert failure(wire, on=codec(3)) == (MessageTooBig, 1009, [])

    def test_partial_bytes_are_those_that_arrived(self) -> None:
        subject = codec()
        subject.receive(head(0x81, 1000) + masked(b"x" * 10))
        assert held(subject) == 10
        subject.receive(b"")
        assert held(subject) == 10

    def test_a_large_message_in_small_reads_is_held_once(self) -> None:
        size = 1 << 18
        wire = frame(BINARY, b"x" * size)
        subject = codec()
        tracemalloc.start()
        try:
            for i in range(0, len(wire) - 2, 2):
                assert subject.receive(wire[i : i + 2]) == []
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2.5 * size  # growing copies it now and then
        assert subject.receive(wire[-2:]) == [b"x" * size]

    def test_cost_per_byte_does_not_grow_with_the_message(self) -> None:
        def cost(size: int) -> float:
            subject = codec(1 << 24, frames=1 << 24)
            subject.receive(head(0x81, 1 << 24))
            subject.receive(b"x" * size)
            begin = time.thread_time()
            for _ in range(2000):
                subject.receive(b"\x11")
            return time.thread_time() - begin

        small = min(cost(1 << 10) for _ in range(5))
        large = min(cost(1 << 23) for _ in range(5))
        assert large < 20 * small  # quadratic buffering would be 1000 times as much


class TestLimitedReceive:
    def test_a_limit_ends_the_call_and_the_next_goes_on(self) -> None:
        subject = codec()
        wire = b"".join(frame(TEXT, b"%d" % i) for i in range(10))
        assert subject.receive(wire, 4) == ["0", "1", "2", "3"]
        assert subject.pending
        assert subject.receive(b"", 4) == ["4", "5", "6", "7"]
        assert subject.pending
        assert subject.receive(frame(TEXT, b"10"), 4) == ["8", "9", "10"]
        assert not subject.pending
        assert held(subject) == 0

    def test_a_limit_that_is_just_met_leaves_nothing_pending(self) -> None:
        subject = codec()
        assert subject.receive(frame(TEXT, b"a") * 2, 2) == ["a", "a"]
        assert not subject.pending

    def test_control_frames_count(self) -> None:
        subject = codec()
        wire = (frame(PING) + frame(TEXT, b"a")) * 3
        assert subject.receive(wire, 3) == [Message.Ping(), "a", Message.Ping()]
        assert subject.pending
        assert subject.receive(b"", 9) == ["a", Message.Ping(), "a"]

    def test_a_violation_behind_the_limit_waits_its_turn(self) -> None:
        subject = codec()
        assert subject.receive(frame(TEXT, b"a") * 2 + b"\xff\xff", 1) == ["a"]
        assert subject.error is None
        assert failure(b"", on=subject) == (ProtocolViolation, 1002, ["a"])

    def test_a_backlog_is_worked_off_in_linear_time(self) -> None:
        def cost(count: int) -> float:
            subject = codec()
            wire = frame(TEXT, b"a") * count
            begin = time.thread_time()
            total = len(subject.receive(wire, 50))
            while subject.pending:
                total += len(subject.receive(b"", 50))
            assert total == count
            return time.thread_time() - begin

        small = min(cost(20_000) for _ in range(3))
        assert cost(200_000) < 50 * small  # copying it each time: 100 times as much

    def test_an_error_keeps_no_traceback(self) -> None:
        subject = codec()
        subject.receive(b"\xff\xff")
        assert subject.error is not None
        assert subject.error.__traceback__ is None


class TestCompression:
    """RFC 7692 §6."""

    def test_a_compressed_message_is_inflated(self) -> None:
        wire = frame(TEXT, deflated("grüße".encode()), rsv=4)
        subject = codec(pmd=True)
        assert subject.receive(wire * 2) == ["grüße", "grüße"]

    def test_uncompressed_messages_may_be_mixed_in(self) -> None:
        wire = frame(BINARY, deflated(b"abc"), rsv=4) + frame(BINARY, b"abc")
        assert codec(pmd=True).receive(wire * 2) == [b"abc"] * 4

    def test_fragments_and_parts_go_to_one_stream(self) -> None:
        packed = deflated("wörter ".encode() * 100)
        wire = (
            frame(TEXT, packed[:5], fin=False, rsv=4)
            + frame(PING, b"between")
            + frame(CONTINUATION, packed[5:10], fin=False)
            + frame(CONTINUATION, packed[10:], fin=False)
            + frame(CONTINUATION)
        )
        expected = [Message.Ping(b"between"), "wörter " * 100]
        assert codec(pmd=True).receive(wire) == expected
        subject = codec(pmd=True)
        found = [m for byte in wire for m in subject.receive(bytes([byte]))]
        assert found == expected

    def test_only_the_last_part_is_final(self) -> None:
        inflater = ZlibInflater()
        subject = Codec(max_frame_size=99, max_message_size=99, inflater=inflater)
        packed = deflated(b"abc")
        wire = frame(TEXT, packed, rsv=4)
        subject.receive(wire[:8])
        subject.receive(b"")
        assert subject.receive(wire[8:]) == ["abc"]
        assert inflater.parts == [(packed[:2], False), (packed[2:], True)]

    @pytest.mark.parametrize(
        "wire",
        [
            frame(PING, rsv=4),
            frame(CLOSE, rsv=4),
            frame(TEXT, b"", rsv=2),
            frame(TEXT, b"", rsv=5),
            frame(TEXT, deflated(b"a"), fin=False, rsv=4) + frame(0, rsv=4),
        ],
    )
    def test_reserved_bits_in_other_places_fail(self, wire: bytes) -> None:
        assert failure(wire, on=codec(pmd=True)) == PROTOCOL

    def test_inflated_text_is_checked_as_it_comes(self) -> None:
        packed = deflated(b"\xed\xa0" + bytes(1000))
        subject = codec(pmd=True)
        wire = frame(TEXT, packed, fin=False, rsv=4)
        assert failure(wire, on=subject) == BAD_UTF8

    def test_what_is_not_compressed_data_fails_with_1007(self) -> None:
        wire = frame(TEXT, b"\xff\xff\xff", rsv=4)
        assert failure(wire, on=codec(pmd=True)) == BAD_UTF8

    def test_the_inflated_size_is_limited(self) -> None:
        fits = frame(BINARY, deflated(bytes(1000)), rsv=4)
        assert codec(1000, pmd=True).receive(fits) == [bytes(1000)]
        bomb = frame(BINARY, deflated(bytes(1001)), rsv=4)
        expected: Failure = (MessageTooBig, 1009, [])
        assert failure(bomb, on=codec(1000, pmd=True)) == expected
        first = deflated(bytes(600)) + b"\x00\x00\xff\xff"
        halves = frame(BINARY, first, fin=False, rsv=4)
        halves += frame(CONTINUATION, deflated(bytes(600)))
        assert failure(halves, on=codec(1000, pmd=True)) == expected

    def test_a_message_that_does_not_compress_may_be_of_exactly_the_limit(self) -> None:
        stored = zlib.compressobj(0, wbits=-15)
        noise = bytes(range(250)) * 4
        packed = stored.compress(noise) + stored.flush(zlib.Z_SYNC_FLUSH)
        packed = packed.removesuffix(b"\x00\x00\xff\xff")
        assert len(packed) > 1000
        wire = frame(BINARY, packed[:900], fin=False, rsv=4)
        wire += frame(CONTINUATION, packed[900:])
        assert codec(1000, pmd=True).receive(wire) == [noise]
        whole = frame(BINARY, packed, rsv=4)
        assert codec(1000, pmd=True).receive(whole) == [noise]

    def test_the_compressed_size_is_limited_too(self) -> None:
        nothing = b"\x00\x00\x00\xff\xff" * 100  # empty stored blocks
        subject = codec(1000, pmd=True)
        wire = frame(BINARY, nothing, fin=False, rsv=4)
        wire += frame(CONTINUATION, nothing, fin=False)
        more = head(0x00, 500)
        assert failure(wire, more, on=subject) == (MessageTooBig, 1009, [])

    def test_one_call_inflates_a_bounded_number_of_bytes(self) -> None:
        subject = codec(1000, pmd=True)
        wire = frame(BINARY, deflated(bytes(900)), rsv=4)
        assert len(subject.receive(wire * 100)) == 2
        assert subject.pending
        assert len(subject.receive(b"")) == 2


class TestEncode:
    """RFC 6455 §5.7 and §5.5.1."""

    def test_text(self) -> None:
        assert encode_frame(0x81, "Hello") == bytes.fromhex("810548656c6c6f")
        assert encode_frame(0x81, "é") == b"\x81\x02\xc3\xa9"
        assert encode_frame(0x81, "é".encode()) == b"\x81\x02\xc3\xa9"
        assert encode_frame(0xC1, b"\xcaH\x00") == b"\xc1\x03\xcaH\x00"

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            (0, "8200"),
            (125, "827d"),
            (126, "827e007e"),
            (65535, "827effff"),
            (65536, "827f0000000000010000"),
        ],
    )
    def test_lengths_are_minimal(self, size: int, expected: str) -> None:
        head = bytes.fromhex(expected)
        assert encode_frame(0x82, bytes(size)) == head + bytes(size)
        sent = encode_masked_frame(0x82, bytes(size))
        at = len(head)
        # RFC 6455 §5.2: the same length, the mask bit, then the key
        assert sent[:at] == bytes((head[0], head[1] | 0x80)) + head[2:]
        assert sent[at + 4 :] == masked(bytes(size), sent[at : at + 4])

    def test_binary_takes_any_bytes(self) -> None:
        assert encode_frame(0x82, bytearray(b"ab")) == b"\x82\x02ab"
        assert encode_frame(0xC2, b"x") == b"\xc2\x01x"

    def test_a_client_masks_with_a_fresh_key(self) -> None:
        sent = {encode_masked_frame(0x81, "hello") for _ in range(20)}
        assert len({frame[2:6] for frame in sent}) == 20  # RFC 6455 §5.3
        for frame in sent:
            assert masked(frame[6:], frame[2:6]) == b"hello"

    @pytest.mark.parametrize("encode", [encode_frame, encode_masked_frame])
    def test_surrogates_cannot_be_sent(self, encode: Encode) -> None:
        with pytest.raises(UnicodeEncodeError):
            encode(0x81, "\ud800")

    def test_control_frames(self) -> None:
        assert encode_ping() == b"\x89\x00"
        assert encode_ping(b"Hello") == bytes.fromhex("890548656c6c6f")
        assert encode_pong(b"Hello") == bytes.fromhex("8a0548656c6c6f")
        for encode in (encode_ping, encode_pong):
            with pytest.raises(ValueError, match="125 bytes, not 126"):
                encode(bytes(126))

    def test_close(self) -> None:
        assert encode_close() == b"\x88\x00"
        assert encode_close(1000) == b"\x88\x02\x03\xe8"
        assert encode_close(3000, "é") == b"\x88\x04\x0b\xb8\xc3\xa9"

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1014, 1015, 2999, 5000])
    def test_close_codes_that_must_not_be_on_the_wire(self, code: int) -> None:
        with pytest.raises(ValueError, match="not a close code"):
            encode_close(code)

    def test_close_reasons_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="needs a close code"):
            encode_close(None, "x")
        with pytest.raises(ValueError, match="125 bytes, not 126"):
            encode_close(1000, "x" * 124)
