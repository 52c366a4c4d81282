"""``tako.h2.request_head`` and ``fields``: short ways mean what the rules say."""

import pytest
from hypothesis import given, strategies as st

from tako.config import ServerConfig
from tako.h2.fields import KINDS, FieldKind, read_field
from tako.h2.hpack import FieldDecoder, encode
from tako.h2.request_head import check_head, judge_head, limits_of
from tako.http import grammar
from tako.http.headers import RawHeader
from tako.http.request_head import RequestHead
from tako.native import pure
from tako.native.loops import usual_request


USUAL: list[RawHeader] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/a?b"),
    (b":authority", b"localhost:80"),
]
CONFIG = ServerConfig(
    max_header_bytes=1000,
    max_headers=4,
    max_target_bytes=20,
    h2_max_header_list_size=1024,
    h2_enable_connect_protocol=True,
)
CONFIGS = [ServerConfig(), CONFIG, ServerConfig(h2_max_header_list_size=None)]

names = st.sampled_from([*KINDS, b"a", b"A", b":a", b"", b"x-request-id"])
TEXTS = """
    a a@b trailers 12 1111111111111111111 localhost:80 localhost [::1]:8 100-continue
    websocket GET HEAD OPTIONS CONNECT http https ftp / * /a#b
"""
values = (
    st.sampled_from([text.encode() for text in TEXTS.split()])
    | st.sampled_from([b"", b" a", b"a\t", b"a b", b"a\x80", b"a\0"])
    | st.sampled_from([b"M" * 64, b"M" * 65, b"/" * 20, b"/" * 21])
    | st.integers(0, 600).map(b"x".__mul__)
    | st.binary(max_size=20)
)
fields_of_any_meaning = st.tuples(names, values) | st.sampled_from(
    [*USUAL, (b"cookie", b"a=b"), (b"cookie", b"c=d"), (b"x-forwarded-for", b"1.2.3.4")]
)


@given(names, values)
def test_a_field_of_a_block_is_what_the_rules_say(name: bytes, value: bytes) -> None:
    block = encode([(name, value)])
    assert FieldDecoder(2**20).decode_block(block) == [read_field(name, value)]


@given(
    head=st.permutations(USUAL),
    others=st.lists(fields_of_any_meaning, max_size=5),
    changes=st.lists(st.tuples(st.integers(0, 9), fields_of_any_meaning), max_size=2),
    config=st.sampled_from(CONFIGS),
)
def test_a_usual_head_means_what_the_rules_say(
    head: list[RawHeader],
    others: list[RawHeader],
    changes: list[tuple[int, RawHeader]],
    config: ServerConfig,
) -> None:
    pairs = [*head, *others]
    for at, field in changes:
        pairs[at : at + 1] = [field]
    fields = [read_field(*field) for field in pairs]
    found = check_head(fields, limits_of(config), config)
    assert found == judge_head(fields, config)


def is_usual(pairs: list[RawHeader], config: ServerConfig = CONFIG) -> bool:
    fields = [read_field(*field) for field in pairs]
    return usual_request(fields, limits_of(config)) is not None


@pytest.mark.parametrize(
    "more",
    [
        [],
        [(b"a", b"b"), (b"te", b"trailers")],
        [(b"cookie", b"a=b"), (b"a", b""), (b"cookie", b"c=d"), (b"cookie", b"e")],
        [(b"content-length", b"12"), (b"x-forwarded-for", b"1.2.3.4")],
    ],
)
def test_a_usual_head_is_read_in_one_pass(more: list[RawHeader]) -> None:
    assert is_usual([*USUAL, *more])


@pytest.mark.parametrize(
    "more",
    [
        [(b"host", b"localhost:80")],
        [(b"expect", b"100-continue")],
        [(b":protocol", b"websocket")],
        [(b"te", b"gzip")],
        [(b"cookie", b" a")],
        [(b"content-length", b"12"), (b"content-length", b"12")],
        [(b"a", b"b")] * 5,
    ],
)
def test_a_head_with_a_rule_of_its_own_is_judged_by_it(more: list[RawHeader]) -> None:
    assert not is_usual([*USUAL, *more])


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(max_header_bytes=1024),
        ServerConfig(h2_max_header_list_size=1024),
    ],
)
def test_both_ways_keep_to_the_same_limits(config: ServerConfig) -> None:
    usual = 0
    for size in range(600, 1024):
        fields = [read_field(*field) for field in USUAL]
        fields += [read_field(b"a", b"b" * (size // 2))] * 2
        usual += usual_request(fields, limits_of(config)) is not None
        found = judge_head(fields, config)
        assert isinstance(found, RequestHead) == (usual == size - 599)
    assert 0 < usual < 1024 - 600


def test_the_rules_and_the_byte_loops_have_the_same_numbers() -> None:
    kinds = (
        pure._PLAIN_KIND,
        pure._PSEUDO_KIND,
        pure._CRUMB_KIND,
        pure._RULED_KIND,
    )
    assert (*kinds, FieldKind.MALFORMED) == tuple(FieldKind)
    assert pure._MAX_METHOD == grammar.MAX_METHOD
