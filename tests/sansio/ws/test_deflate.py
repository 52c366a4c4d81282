"""permessage-deflate: negotiation and messages (RFC 7692 §7)."""

import contextlib
import random
import time
import tracemalloc
import zlib
from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given, settings, strategies as st
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol, Opcode, RsvBits

from tako.core.role import Role
from tako.errors import MessageTooBig, ProtocolViolation, WsError
from tako.ws.codec import Encode, encode_frame, encode_masked_frame
from tako.ws.deflate import (
    Deflater,
    Inflater,
    InvalidDeflate,
    accept_answer,
    negotiate,
    offer,
)
from tako.ws.handshake import parse_extensions
from tako.ws.options import Deflate, DeflateParams


MIB = 1 << 20
HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692 §7.2.3.1


ALL_OFFERED = (
    "permessage-deflate; client_max_window_bits; server_no_context_takeover; "
    "server_max_window_bits = 11; client_no_context_takeover"
)
ALL_ANSWERED = (
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
    "server_max_window_bits=11; client_max_window_bits=12"
)


def agree(
    offer: str, config: Deflate | None = None
) -> tuple[str, DeflateParams] | None:
    return negotiate(parse_extensions([offer.encode()]), config or Deflate())


def answer(offer: str, config: Deflate | None = None) -> str | None:
    agreed = agree(offer, config)
    return None if agreed is None else agreed[0]


def inflater(
    *, their_window_bits: int = 15, their_no_context_takeover: bool = False
) -> Inflater:
    return Inflater(
        DeflateParams(
            their_window_bits=their_window_bits,
            their_no_context_takeover=their_no_context_takeover,
        )
    )


def whole(decoder: Inflater, data: bytes, budget: int = MIB) -> bytes:
    return decoder.inflate(data, final_fragment=True, budget=budget)


def raw_deflate(
    data: bytes, *, bits: int = 15, flush: int = zlib.Z_SYNC_FLUSH
) -> bytes:
    encoder = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return encoder.compress(data) + encoder.flush(flush)


def message(data: bytes) -> bytes:
    return raw_deflate(data)[:-4]


class TestNegotiation:
    """RFC 7692 §7.1."""

    @pytest.mark.parametrize(
        ("offer", "expected"),
        [
            ("permessage-deflate", "permessage-deflate"),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; client_max_window_bits=12",
            ),
            (
                "permessage-deflate; client_max_window_bits=15",
                "permessage-deflate; client_max_window_bits=12",
            ),
            (
                "permessage-deflate; client_max_window_bits=9",
                "permessage-deflate; client_max_window_bits=9",
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                "permessage-deflate; server_max_window_bits=12",
            ),
            (
                "permessage-deflate; server_max_window_bits=10",
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                'permessage-deflate; server_max_window_bits="10"',
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                'permessage-deflate; server_max_window_bits="1\\0"',
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                "permessage-deflate;server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
            (
                "permessage-deflate ; client_no_context_takeover",
                "permessage-deflate; client_no_context_takeover",
            ),
            (ALL_OFFERED, ALL_ANSWERED),
        ],
    )
    def test_an_acceptable_offer_is_answered_with_what_it_offers(
        self, offer: str, expected: str
    ) -> None:
        assert answer(offer) == expected

    @pytest.mark.parametrize(
        "params",
        [
            "foo",
            "foo=1",
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=16",
            "server_max_window_bits=7",
            "server_max_window_bits=010",
            "server_max_window_bits=1_0",
            "server_max_window_bits=+10",
            "server_max_window_bits=abc",
            'server_max_window_bits=""',
            'server_max_window_bits=" 10"',
            'server_max_window_bits="\xb2"',
            "server_max_window_bits=",
            "client_max_window_bits=8",
            "client_max_window_bits=16",
            "client_max_window_bits=",
            'client_max_window_bits=""',
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            'client_no_context_takeover=""',
            "server_no_context_takeover; server_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
            "Server_No_Context_Takeover",
            "server_no_context_takeover x",
            "a=b c",
            "=1",
            "",
            "; client_max_window_bits",
            'foo="x',
        ],
    )
    def test_an_offer_that_cannot_be_kept_to_the_letter_is_declined(
        self, params: str
    ) -> None:
        assert answer(f"permessage-deflate; {params}") is None

    @pytest.mark.parametrize(
        "offer",
        ["", ",", " , ,", "x-webkit-deflate-frame", "permessage-bzip2", '"', "@"],
    )
    def test_other_extensions_are_not_answered(self, offer: str) -> None:
        assert answer(offer) is None

    @pytest.mark.parametrize("name", ["Permessage-Deflate", "PERMESSAGE-DEFLATE"])
    def test_a_name_in_another_case_is_another_extension(self, name: str) -> None:
        assert answer(name) is None  # RFC 6455 §9.1
        assert answer(f"{name}, permessage-deflate") == "permessage-deflate"

    def test_the_first_acceptable_offer_wins_and_later_ones_leave_no_trace(
        self,
    ) -> None:
        agreed = agree(
            "permessage-deflate; client_max_window_bits=9, permessage-deflate"
        )
        assert agreed is not None
        assert agreed[0] == "permessage-deflate; client_max_window_bits=9"
        assert agreed[1].their_window_bits == 9

    def test_a_declined_offer_leaves_no_trace_in_the_next(self) -> None:
        agreed = agree(
            "permessage-deflate; client_max_window_bits=9; x, permessage-deflate"
        )
        assert agreed is not None
        assert agreed[0] == "permessage-deflate"
        assert agreed[1] == DeflateParams(12, 15, False, False, 5, 64)

    def test_a_comma_or_semicolon_in_quotes_separates_nothing(self) -> None:
        assert answer('foo; a="x, y; z", permessage-deflate') == "permessage-deflate"
        assert answer('foo; a="\\", permessage-deflate"') is None
        assert answer('foo; a="x, permessage-deflate') is None

    def test_offers_may_come_in_several_fields(self) -> None:
        lines = [b'foo; a="', b"permessage-deflate"]
        assert negotiate(parse_extensions(lines), Deflate()) is not None

    def test_a_client_that_cannot_be_told_keeps_its_full_window(self) -> None:
        agreed = agree("permessage-deflate")
        assert agreed is not None
        assert agreed[1].their_window_bits == 15

    def test_the_route_may_forbid_context_takeover_both_ways(self) -> None:
        config = Deflate(no_context_takeover=True, threshold=9, mem_level=1)
        words = (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        )
        agreed = DeflateParams(12, 15, True, True, 1, 9)
        assert agree("permessage-deflate", config) == (words, agreed)

    def test_hostile_fields_cost_linear_time(self) -> None:
        for part in (b'"', b"a;", b'a="', b'a="\\', b",", b"; ", b"a=b;", b'"a"'):
            assert negotiate(parse_extensions([part * 20_000]), Deflate()) is None

    @settings(deadline=None)
    @given(st.binary(max_size=80))
    def test_no_field_value_raises(self, line: bytes) -> None:
        negotiate(parse_extensions([b"permessage-deflate;" + line, line]), Deflate())


class TestInflater:
    """RFC 7692 §7.2.2, and the limits on what it makes of a peer's bytes."""

    def test_the_examples_of_the_rfc_decompress(self) -> None:
        decoder = inflater()
        assert whole(decoder, HELLO) == b"Hello"  # §7.2.3.1
        assert whole(decoder, bytes.fromhex("f200110000")) == b"Hello"  # §7.2.3.2
        stored = bytes.fromhex("000500faff48656c6c6f00")  # §7.2.3.3
        assert whole(decoder, stored) == b"Hello"
        assert whole(decoder, bytes.fromhex("f348cdc9c9070000")) == b"Hello"  # §7.2.3.4
        two_blocks = bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", ""))
        assert whole(decoder, two_blocks) == b"Hello"  # §7.2.3.5
        assert whole(decoder, b"\x00") == b""  # §7.2.3.6

    def test_a_message_may_be_split_anywhere(self) -> None:
        text = b"to be or not to be, that is the question " * 20
        data = message(text)
        decoder = inflater()
        for cut in range(len(data) + 1):
            head = decoder.inflate(data[:cut], final_fragment=False, budget=MIB)
            tail = whole(decoder, data[cut:], MIB - len(head))
            assert head + tail == text
            data = _again(decoder, text)

    def test_an_empty_final_fragment_ends_the_message(self) -> None:
        decoder = inflater()
        head = decoder.inflate(HELLO, final_fragment=False, budget=9)
        assert head + whole(decoder, b"") == b"Hello"
        assert whole(decoder, HELLO) == b"Hello"

    def test_without_context_takeover_a_message_cannot_look_back(self) -> None:
        decoder = inflater(their_no_context_takeover=True)
        assert whole(decoder, HELLO) == b"Hello"
        assert whole(decoder, HELLO) == b"Hello"
        with pytest.raises(InvalidDeflate):
            whole(decoder, bytes.fromhex("f200110000"))

    def test_a_window_beyond_the_agreed_one_is_refused(self) -> None:
        noise = random.Random(7692).randbytes(1500)
        encoder = Deflater(DeflateParams(our_window_bits=11))
        first, second = encoder.deflate(noise), encoder.deflate(noise)
        decoder = inflater(their_window_bits=11)
        assert [whole(decoder, first), whole(decoder, second)] == [noise, noise]
        decoder = inflater(their_window_bits=9)
        assert whole(decoder, first) == noise
        with pytest.raises(InvalidDeflate):
            whole(decoder, second)

    def test_a_message_of_exactly_the_limit_passes(self) -> None:
        data = message(b"a" * MIB)
        assert len(whole(inflater(), data, MIB)) == MIB

    @pytest.mark.parametrize("excess", [1, 2, 3, 258, 1 << 15])
    def test_a_message_beyond_the_limit_is_too_big(self, excess: int) -> None:
        with pytest.raises(MessageTooBig) as caught:
            whole(inflater(), message(b"a" * (MIB + excess)), MIB)
        assert caught.value.close_code == 1009

    def test_the_limit_holds_across_fragments(self) -> None:
        data = message(b"abc" * 1000)
        decoder = inflater()
        first = decoder.inflate(data[:8], final_fragment=False, budget=3000)
        rest = 3000 - len(first)
        assert (
            len(decoder.inflate(data[8:-1], final_fragment=False, budget=rest)) <= rest
        )
        decoder = inflater()
        decoder.inflate(data[:8], final_fragment=False, budget=2999)
        with pytest.raises(MessageTooBig):
            whole(decoder, data[8:], 2999 - len(first))

    def test_a_spent_budget_lets_empty_blocks_pass_and_nothing_else(self) -> None:
        assert whole(inflater(), b"\x00", 0) == b""
        with pytest.raises(MessageTooBig):
            whole(inflater(), message(b"a"), 0)
        with pytest.raises(MessageTooBig):
            whole(inflater(), message(b"a"), -1)

    def test_a_bomb_costs_no_more_than_the_largest_message(self) -> None:
        bomb = message(bytes(64 * MIB))
        assert len(bomb) < 70_000
        tracemalloc.start()
        try:
            with pytest.raises(MessageTooBig):
                whole(inflater(), bomb, MIB)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4 * MIB
        spent = min(_cpu_time(bomb) for _ in range(5))
        assert spent < min(_cpu_time(bomb, 64 * MIB) for _ in range(3)) / 4

    def test_a_final_block_ends_a_message_not_the_session(self) -> None:
        # RFC 7692 §7.2.3.4, first without and then with the empty block's first byte
        decoder = inflater()
        assert whole(decoder, bytes.fromhex("4bcbcc4bcc0100")) == b"final"
        assert whole(decoder, bytes.fromhex("2a4e4dcecf4b0100")) == b"second"
        assert (
            whole(decoder, raw_deflate(b"third", flush=zlib.Z_FINISH) + b"\0")
            == b"third"
        )
        assert whole(decoder, HELLO) == b"Hello"

    @pytest.mark.parametrize("cut", range(9))
    def test_a_final_block_may_end_in_any_fragment(self, cut: int) -> None:
        data = bytes.fromhex("f348cdc9c9070000")
        decoder = inflater()
        head = decoder.inflate(data[:cut], final_fragment=False, budget=9)
        assert head + whole(decoder, data[cut:]) == b"Hello"
        assert whole(decoder, HELLO) == b"Hello"

    @pytest.mark.parametrize("rest", [b"\x01", b"\x00\x00", b"hidden", HELLO])
    @pytest.mark.parametrize("cut", [3, 7, 8])
    def test_bytes_after_a_final_block_are_refused(self, rest: bytes, cut: int) -> None:
        data = bytes.fromhex("f348cdc9c90700") + rest
        with pytest.raises(InvalidDeflate):
            whole(inflater(), data)
        with pytest.raises(InvalidDeflate):
            _in_two(data, cut)

    def test_the_padding_after_a_final_block_is_one_byte_in_all_fragments(self) -> None:
        decoder = inflater()
        decoder.inflate(
            bytes.fromhex("f348cdc9c9070000"), final_fragment=False, budget=9
        )
        assert decoder.inflate(b"", final_fragment=False, budget=9) == b""
        with pytest.raises(InvalidDeflate):
            decoder.inflate(b"\x00", final_fragment=False, budget=9)

    def test_nothing_is_hoarded_after_a_final_block(self) -> None:
        decoder = inflater()
        data = bytes.fromhex("f348cdc9c90700")
        decoder.inflate(data, final_fragment=False, budget=9)
        with pytest.raises(InvalidDeflate):
            decoder.inflate(bytes(1 << 20), final_fragment=False, budget=9)

    @pytest.mark.parametrize(
        "data", [b"\xff\xff\xff", b"\x07", b"\x04\xff", bytes.fromhex("f200110000")]
    )
    @pytest.mark.parametrize("fresh", [False, True])
    def test_garbage_is_refused_with_1007(self, data: bytes, fresh: bool) -> None:
        with pytest.raises(ProtocolViolation) as caught:
            whole(inflater(their_no_context_takeover=fresh), data)
        assert isinstance(caught.value, InvalidDeflate)
        assert caught.value.close_code == 1007

    @pytest.mark.parametrize("fresh", [False, True])
    @pytest.mark.parametrize("encoded", [HELLO, message(b"ab" * 99), message(bytes(9))])
    def test_a_message_cut_short_is_refused(self, encoded: bytes, fresh: bool) -> None:
        for cut in range(len(encoded) - 1):
            with pytest.raises(InvalidDeflate):
                whole(inflater(their_no_context_takeover=fresh), encoded[:cut])

    def test_a_final_block_cut_short_is_refused(self) -> None:
        encoded = raw_deflate(b"Hello, World", flush=zlib.Z_FINISH)
        for cut in range(len(encoded)):
            with pytest.raises(InvalidDeflate):
                whole(inflater(), encoded[:cut])

    def test_a_final_block_completed_by_the_omitted_bytes_is_refused(self) -> None:
        # A stored block of one byte, which would be the first of the omitted ones
        with pytest.raises(InvalidDeflate, match="inside a block"):
            whole(inflater(), bytes.fromhex("010100feff"))

    def test_no_zlib_object_before_the_first_compressed_message(self) -> None:
        tracemalloc.start()
        try:
            idle = [(inflater(), Deflater(DeflateParams())) for _ in range(100)]
            used = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert len(idle) == 100
        assert used < 100 * 600

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=4), st.integers(0, 200))
    def test_any_bytes_either_decompress_within_budget_or_fail_as_a_websocket_does(
        self, parts: Sequence[bytes], budget: int
    ) -> None:
        decoder = inflater()
        made = 0
        failures = []
        try:
            for part in parts:
                made += len(
                    decoder.inflate(part, final_fragment=False, budget=budget - made)
                )
            made += len(whole(decoder, b"", budget - made))
        except WsError as error:
            failures.append(error.close_code)
        assert made <= budget
        assert failures in ([], [1007], [1009])


class TestDeflater:
    """RFC 7692 §7.2.1."""

    def test_the_example_of_the_rfc_compresses(self) -> None:
        encoder = Deflater(DeflateParams())
        assert encoder.deflate(b"Hello") == HELLO  # §7.2.3.1
        assert encoder.deflate(b"Hello") == bytes.fromhex("f200110000")  # §7.2.3.2

    def test_without_context_takeover_every_message_stands_alone(self) -> None:
        encoder = Deflater(DeflateParams(our_no_context_takeover=True))
        assert [encoder.deflate(b"Hello") for _ in range(2)] == [HELLO, HELLO]

    def test_empty_messages_are_one_byte_wherever_they_come(self) -> None:
        encoder, decoder = Deflater(DeflateParams()), inflater()
        for payload in (b"", b"a" * 50, b"", b"", b"a" * 50):
            data = encoder.deflate(payload)
            assert payload or data == b"\x00"
            assert whole(decoder, data) == payload

    def test_no_reference_leaves_the_agreed_window(self) -> None:
        noise = random.Random(7692).randbytes(3000)
        for bits in range(9, 16):
            encoder = Deflater(DeflateParams(our_window_bits=bits, mem_level=1))
            decoder = inflater(their_window_bits=bits)
            for payload in (noise, noise[::-1], noise):
                assert whole(decoder, encoder.deflate(payload)) == payload


ANSWERS = [
    ("", DeflateParams(15, 15, False, False, 5, 64)),
    ("; server_no_context_takeover", DeflateParams(15, 15, False, True, 5, 64)),
    ("; client_no_context_takeover", DeflateParams(15, 15, True, False, 5, 64)),
    ("; client_max_window_bits=10", DeflateParams(10, 15, False, False, 5, 64)),
    ("; server_max_window_bits=8", DeflateParams(15, 9, False, False, 5, 64)),
]


class TestClient:
    """RFC 7692 §7.1: a client offers, and holds the server to its answer."""

    OPEN = Deflate(15, 15)

    def accept(self, answer: str, config: Deflate = OPEN) -> DeflateParams:
        ((name, params),) = parse_extensions([b"permessage-deflate" + answer.encode()])
        assert name == "permessage-deflate"
        return accept_answer(params, config)

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (OPEN, "permessage-deflate; client_max_window_bits"),
            (
                Deflate(12, 15, no_context_takeover=True),
                (
                    "permessage-deflate; server_no_context_takeover; "
                    "client_no_context_takeover; server_max_window_bits=12; "
                    "client_max_window_bits"
                ),
            ),
        ],
    )
    def test_offers(self, config: Deflate, expected: str) -> None:
        assert offer(config) == expected

    @pytest.mark.parametrize(("answer", "expected"), ANSWERS)
    def test_answers(self, answer: str, expected: DeflateParams) -> None:
        assert self.accept(answer) == expected

    @pytest.mark.parametrize(
        "answer",
        [
            "; client_max_window_bits",
            "; server_max_window_bits",
            "; client_max_window_bits=8",
            "; client_max_window_bits=16",
            "; client_max_window_bits=09",
            "; server_max_window_bits=7",
            "; server_no_context_takeover=1",
            "; server_max_window_bits=9; server_max_window_bits=9",
            "; something",
        ],
    )
    def test_answers_that_nobody_may_give(self, answer: str) -> None:
        with pytest.raises(ValueError, match="permessage-deflate"):
            self.accept(answer)

    def test_what_was_asked_of_the_server_is_in_its_answer(self) -> None:
        with pytest.raises(ValueError, match="lacks server_no_context_takeover"):
            self.accept("", Deflate(15, 15, no_context_takeover=True))
        for answer in ("", "; server_max_window_bits=13"):
            with pytest.raises(ValueError, match="window of"):
                self.accept(answer, Deflate(12, 15))
        assert self.accept("; server_max_window_bits=11", Deflate(12)) == DeflateParams(
            12, 11, False, False, 5, 64
        )

    @given(st.builds(Deflate, st.integers(9, 15), st.integers(9, 15)))
    def test_a_server_of_ours_answers_what_a_client_of_ours_takes(
        self, config: Deflate
    ) -> None:
        answer = negotiate(parse_extensions([offer(config).encode()]), Deflate(11, 12))
        assert answer is not None
        words, theirs = answer
        ours = self.accept(words.removeprefix("permessage-deflate"), config)
        assert ours.our_window_bits <= theirs.their_window_bits
        assert ours.their_window_bits >= theirs.our_window_bits


PARAMS = st.builds(
    DeflateParams,
    st.integers(9, 15),
    st.integers(9, 15),
    st.booleans(),
    st.booleans(),
    st.integers(1, 9),
)


@settings(deadline=None)
@given(st.sampled_from(Role), PARAMS, st.lists(st.binary(max_size=3000), max_size=5))
def test_wsproto_reads_what_we_compress(
    role: Role, params: DeflateParams, payloads: Sequence[bytes]
) -> None:
    oracle = _wsproto(role, params)
    encoder = Deflater(params)
    for payload in payloads:
        frame = _encode(role)(0xC2, encoder.deflate(payload))  # RFC 7692 §6.1: RSV1
        decoder = FrameProtocol(client=role is Role.SERVER, extensions=[oracle])
        decoder.receive_bytes(frame)
        received = b"".join(
            cast("bytes", frame.payload) for frame in decoder.received_frames()
        )
        assert received == payload


@settings(deadline=None)
@given(
    st.sampled_from(Role),
    PARAMS,
    st.lists(st.binary(min_size=1, max_size=3000), max_size=5),
)
def test_we_read_what_wsproto_compresses(
    role: Role, params: DeflateParams, payloads: Sequence[bytes]
) -> None:
    oracle = _wsproto(role, params)
    decoder = Inflater(params)
    for payload in payloads:
        _, data = oracle.frame_outbound(
            FrameProtocol(client=role is Role.SERVER, extensions=[]),
            Opcode.BINARY,
            RsvBits(False, False, False),
            payload,
            fin=True,
        )
        assert whole(decoder, data) == payload


@settings(deadline=None)
@given(PARAMS, st.lists(st.binary(max_size=3000), max_size=5))
def test_the_other_side_has_ours_and_theirs_the_other_way_round(
    ours: DeflateParams, payloads: Sequence[bytes]
) -> None:
    theirs = DeflateParams(
        ours.their_window_bits,
        ours.our_window_bits,
        ours.their_no_context_takeover,
        ours.our_no_context_takeover,
    )
    for here, there in ((ours, theirs), (theirs, ours)):
        encoder, decoder = Deflater(here), Inflater(there)
        for payload in payloads:
            assert whole(decoder, encoder.deflate(payload)) == payload


def _encode(role: Role) -> Encode:
    return encode_frame if role is Role.SERVER else encode_masked_frame


def _wsproto(role: Role, params: DeflateParams) -> PerMessageDeflate:
    """Return wsproto's half of a session in which ``role`` has ``params``."""
    if role is Role.SERVER:
        oracle = PerMessageDeflate(
            client_no_context_takeover=params.their_no_context_takeover,
            client_max_window_bits=params.their_window_bits,
            server_no_context_takeover=params.our_no_context_takeover,
            server_max_window_bits=params.our_window_bits,
        )
    else:
        oracle = PerMessageDeflate(
            client_no_context_takeover=params.our_no_context_takeover,
            client_max_window_bits=params.our_window_bits,
            server_no_context_takeover=params.their_no_context_takeover,
            server_max_window_bits=params.their_window_bits,
        )
    oracle._enabled = True  # as ``finalize`` leaves it
    return oracle


def _in_two(data: bytes, cut: int) -> bytes:
    """Return what ``data`` expands to in two fragments."""
    decoder = inflater()
    head = decoder.inflate(data[:cut], final_fragment=False, budget=MIB)
    return head + whole(decoder, data[cut:])


def _again(decoder: Inflater, text: bytes) -> bytes:
    """Return ``text`` compressed without looking back, for the next round."""
    assert whole(decoder, b"\x00") == b""
    return message(text)


def _cpu_time(bomb: bytes, limit: int = MIB) -> float:
    """Return the seconds that ``bomb`` costs; the larger limit lets it pass."""
    decoder = inflater()
    began = time.thread_time()
    with contextlib.suppress(MessageTooBig):
        whole(decoder, bomb, limit)
    return time.thread_time() - began
