"""``tako.h2.hpack``: blocks that come again, and blocks without a table (RFC 7541)."""

from collections.abc import Callable
from functools import partial

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, strategies as st
from hypothesis.strategies import DrawFn

from tako.h2 import hpack as ours
from tako.h2.frames import HEADERS
from tako.h2.hpack import NO_TABLE, FieldDecoder, encode, encode_length
from tako.http.headers import RawHeader
from tests.support.h2wire import Peer


def kind(error: Exception) -> type[Exception]:
    """Return the type of an error of ``hpack``, by its newest name."""
    newest = hpack.InvalidTableIndexError
    return newest if isinstance(error, newest) else type(error)


def pairs(fields: object) -> list[RawHeader]:
    return [(name, value) for name, value in fields]  # type: ignore[attr-defined]


def read(decoder: FieldDecoder, block: bytes) -> list[RawHeader]:
    return [field for field, _, _ in decoder.decode_block(block)]


def dynamic(decoder: FieldDecoder) -> list[RawHeader]:
    """Return the dynamic table, which begins behind the static one."""
    return [field for field, _, _ in decoder.table.fields[62:]]


@st.composite
def heads(draw: DrawFn) -> list[RawHeader]:
    names = st.sampled_from([b":status", b"date", b"etag", b"set-cookie", b"x-tako"])
    values = st.sampled_from([b"200", b"404", b""]) | st.binary(max_size=300)
    return draw(st.lists(st.tuples(names, values), max_size=12))


@st.composite
def blocks(draw: DrawFn) -> bytes:
    """Blocks of every representation; not all of them can be decoded."""
    index = st.integers(1, 70).map(lambda index: bytes([0x80 | index]))
    literal = st.builds(
        lambda kind, name, value: bytes([kind, 1]) + name + b"\x01" + value,
        st.sampled_from([0x40, 0x00, 0x10]),  # indexed, not indexed, never indexed
        st.sampled_from([b"a", b"b"]),
        st.sampled_from([b"1", b"2"]),
    )
    resize = st.sampled_from([b"", b"", b"\x20", b"\x3f\x22", b"\x3f\xe1\x1f"])
    return draw(resize) + b"".join(draw(st.lists(index | literal, max_size=6)))


def strings() -> st.SearchStrategy[bytes]:
    """String literals, Huffman codes and such as are none among them."""
    texts = st.binary(max_size=40)
    coded = texts.map(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode)
    return texts.map(lambda text: bytes([len(text)]) + text) | (coded | texts).map(
        lambda code: bytes([0x80 | min(len(code), 126)]) + code[:126]
    )


def anything() -> st.SearchStrategy[bytes]:
    """Parts of blocks in any order, whole or broken off."""
    name = st.sampled_from(
        [b"\x41", b"\x7f\x01", b"\x0f\x2f", b"\x1f\x00", b"\x7f\x80"]
    )
    new = st.builds(
        lambda kind, text: kind + text,
        st.sampled_from([b"@", b"\0", b"\x10"]),
        strings(),
    )
    literal = st.builds(lambda start, text: start + text, name | new, strings())
    integer = st.builds(
        lambda first, more: bytes([first]) + more,
        st.sampled_from([0xFF, 0x3F, 0x7F, 0x0F, 0x80, 0x20]),
        st.binary(max_size=7),
    )
    long = st.integers(0, 6).map(lambda n: b"\x3f" + b"\x80" * n + b"\x01")
    part = literal | integer | long | blocks() | st.binary(max_size=8)
    return st.lists(part, max_size=5).map(b"".join)


def outcome(decode: Callable[[bytes], object], block: bytes) -> object:
    try:
        return pairs(decode(block))
    except hpack.HPACKError as error:
        return kind(error)


def encoded() -> st.SearchStrategy[bytes]:
    """Blocks of another implementation, Huffman codes and static names among them."""
    return heads().map(lambda fields: hpack.Encoder().encode(fields))


class TestEncoder:
    @given(st.lists(heads(), min_size=1, max_size=5))
    def test_a_decoder_reads_what_was_meant(
        self, several: list[list[RawHeader]]
    ) -> None:
        decoder = hpack.Decoder(max_header_list_size=1 << 20)
        for fields in several:
            assert pairs(decoder.decode(encode(fields), raw=True)) == fields

    def test_the_decoders_table_stays_empty(self) -> None:
        decoder = hpack.Decoder()
        for start in (NO_TABLE, b"", b""):
            decoder.decode(start + encode([(b"x-tako", b"1"), (b"date", b"now")]))
        assert not decoder.header_table.dynamic_entries
        assert decoder.header_table_size == 0

    def test_the_table_is_given_up_in_the_first_block_only(self) -> None:
        peer = Peer()
        for stream_id in (1, 3):
            peer.request(stream_id).send_headers(200, [])
        first, second = [f.payload for f in peer.frames() if f.kind == HEADERS]
        assert first[:2] == b"\x20\x88"
        assert second[:1] == b"\x88"

    def test_a_decoder_without_a_table_is_content(self) -> None:
        decoder = hpack.Decoder()
        decoder.max_allowed_table_size = 0
        decoder.decode(NO_TABLE + encode([(b":status", b"200")]))
        decoder.decode(encode([(b"x-tako", b"1")]))

    @pytest.mark.parametrize(
        "size", [0, 14, 15, 126, 127, 128, 254, 255, 16_511, 70_000]
    )
    def test_integers_of_every_length(self, size: int) -> None:
        decoder = hpack.Decoder(max_header_list_size=1 << 20)
        fields = [(b"x" * max(size, 1), b"v" * size)]
        assert pairs(decoder.decode(encode(fields), raw=True)) == fields

    def test_secrets_are_marked_and_not_kept(self) -> None:
        block = encode([(b"set-cookie", b"secret")])
        assert block == b"\x1f\x28\x06secret"  # RFC 7541 §6.2.3, index 55
        assert (b"set-cookie", b"secret") not in ours._kept

    def test_lengths_are_encoded_as_any_field(self) -> None:
        for length in (*range(2000), 10**9, 3):
            expected = encode([(b"content-length", b"%d" % length)])
            assert encode_length(length) == expected
        assert len(ours._lengths) <= 512

    def test_what_is_kept_is_bounded(self) -> None:
        for number in range(5000):
            encode([(b"x-number", b"%d" % number)])
            encode([(b"x-large", b"%d" % number * 100)])
        assert len(ours._kept) <= 512
        assert encode([(b":status", b"200")]) == b"\x88"


class TestDecoder:
    def test_an_indexed_block_is_known_again(self) -> None:
        decoder, encoder = FieldDecoder(1 << 16), hpack.Encoder()
        fields = [(b":method", b"GET"), (b"x-tako", b"1")]
        first = decoder.decode_block(encoder.encode(fields))
        block = encoder.encode(fields)
        second = decoder.decode_block(block)
        assert first == second
        assert [field for field, _, _ in first] == fields
        assert decoder.decode_block(block) is second

    def test_a_block_that_changes_the_table_makes_it_forget(self) -> None:
        decoder, encoder = FieldDecoder(1 << 16), hpack.Encoder()
        decoder.decode_block(encoder.encode([(b"x-a", b"1")]))
        block = encoder.encode([(b"x-a", b"1")])
        assert block == b"\xbe"  # the youngest entry
        assert read(decoder, block) == [(b"x-a", b"1")]
        decoder.decode_block(encoder.encode([(b"x-b", b"2")]))
        assert read(decoder, block) == [(b"x-b", b"2")]

    def test_so_does_one_that_shrinks_it(self) -> None:
        decoder, encoder = FieldDecoder(1 << 16), hpack.Encoder()
        decoder.decode_block(encoder.encode([(b"x-a", b"1")]))
        decoder.decode_block(b"\xbe")
        decoder.decode_block(b"\x20\x82")
        with pytest.raises(hpack.HPACKError):
            decoder.decode_block(b"\xbe")

    def test_literals_that_enter_no_table_are_known_again(self) -> None:
        decoder = FieldDecoder(1 << 16)
        block = b"\x82\x04\x02/a\x00\x06x-tako\x011"  # RFC 7541 §6.2.2
        fields = decoder.decode_block(block)
        assert [field for field, _, _ in fields] == [
            (b":method", b"GET"),
            (b":path", b"/a"),
            (b"x-tako", b"1"),
        ]
        assert decoder.decode_block(block) is fields

    @pytest.mark.parametrize(
        "block",
        [
            pytest.param(b"\x82\x14\x02/a", id="a secret"),  # RFC 7541 §6.2.3
            pytest.param(b"\x82\x44\x02/a", id="a literal for the table"),
            pytest.param(b"\x3f\xe1\x1f\x82\x04\x02/a", id="a size update"),
            pytest.param(b"\x04\x7f\xa0\x20" + b"x" * 4255, id="a large one"),
        ],
    )
    def test_other_blocks_are_not_kept(self, block: bytes) -> None:
        decoder = FieldDecoder(1 << 16)
        first = decoder.decode_block(block)
        second = decoder.decode_block(block)
        assert first == second
        assert first is not second

    def test_a_literal_for_the_table_is_put_there_each_time(self) -> None:
        decoder = FieldDecoder(1 << 16)
        plain, named = b"\x00\x01a\x01b", b"\x40\x01c\x01d"
        for times in range(1, 4):
            assert read(decoder, plain) == [(b"a", b"b")]
            assert read(decoder, named) == [(b"c", b"d")]
            assert len(dynamic(decoder)) == times

    def test_one_that_failed_is_not_known(self) -> None:
        decoder = FieldDecoder(1 << 16)
        for _ in range(2):
            with pytest.raises(hpack.HPACKError):
                decoder.decode_block(b"\xbe")

    def test_an_empty_block_has_no_fields(self) -> None:
        assert FieldDecoder(1 << 16).decode_block(b"") == []

    @given(st.lists(blocks() | encoded(), min_size=1, max_size=20), st.data())
    def test_it_says_what_the_library_says(
        self, several: list[bytes], data: st.DataObject
    ) -> None:
        decoder, oracle = FieldDecoder(1 << 20), hpack.Decoder(1 << 20)
        for _ in range(data.draw(st.integers(1, 40))):
            block = data.draw(st.sampled_from(several))
            try:
                expected = pairs(oracle.decode(block, raw=True))
            except hpack.HPACKError as error:
                with pytest.raises(kind(error)):
                    decoder.decode_block(block)
                return
            assert read(decoder, block) == expected
            assert dynamic(decoder) == list(oracle.header_table.dynamic_entries)

    @given(st.lists(anything(), min_size=1, max_size=6), st.sampled_from([60, 1 << 20]))
    def test_it_decodes_and_refuses_what_the_library_does(
        self, several: list[bytes], limit: int
    ) -> None:
        decoder, oracle = FieldDecoder(limit), hpack.Decoder(limit)
        for block in several:
            expected = outcome(partial(oracle.decode, raw=True), block)
            assert outcome(partial(read, decoder), block) == expected
            assert dynamic(decoder) == list(oracle.header_table.dynamic_entries)
            if not isinstance(expected, list):
                return
