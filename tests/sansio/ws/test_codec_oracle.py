"""``Codec`` against wsproto, an implementation that shares no code with it.

Both get the same bytes; messages and close codes must be equal. Where they are known to
differ, ``same_verdict`` and the strategies say how.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, strategies as st
from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType

from tako.errors import WsError
from tako.ws.codec import Codec, encode_binary, encode_close, encode_ping, encode_text
from tako.ws.message import AnyMessage, Message


@dataclass
class Outcome:
    messages: list[AnyMessage]
    close_code: int | None  # of a violation
    finished: bool
    reason: str = field(default="", compare=False)


def tako_outcome(
    parts: list[bytes], limit: int = 1024, *, size: int = 2**63
) -> Outcome:
    codec = Codec(max_frame_size=size, max_message_size=size)
    messages: list[AnyMessage] = []
    for part in parts:
        found = codec.receive(part, limit)
        messages += found
        while codec.pending:
            found = codec.receive(b"", limit)
            messages += found
        assert isinstance(codec.error, WsError | None)
    code = None if codec.error is None else codec.error.close_code
    return Outcome(messages, code, codec.finished)


def wsproto_outcome(parts: list[bytes]) -> Outcome:
    connection = Connection(ConnectionType.SERVER)
    messages: list[AnyMessage] = []
    pieces: list[Any] = []
    for part in parts:
        connection.receive_data(part)
        for event in connection.events():
            if isinstance(event, events.CloseConnection):
                if connection.state is ConnectionState.OPEN:  # that is: a violation
                    code, reason = int(event.code), event.reason or ""
                    return Outcome(messages, code, finished=True, reason=reason)
                messages.append(_close(event))
                return Outcome(messages, None, finished=True)
            if isinstance(event, events.Ping):
                messages.append(Message.Ping(bytes(event.payload)))
            elif isinstance(event, events.Pong):
                messages.append(Message.Pong(bytes(event.payload)))
            elif isinstance(event, events.Message):
                pieces.append(event.data)
                if event.message_finished:
                    messages.append(_joined(pieces))
                    pieces = []
    return Outcome(messages, None, finished=False)


def _close(event: events.CloseConnection) -> Message.Close:
    # wsproto reports an empty Close frame as 1005 (RFC 6455 §7.1.5)
    code = None if event.code == 1005 else int(event.code)
    return Message.Close(code, event.reason or "")


def _joined(pieces: list[Any]) -> str | bytes:
    if isinstance(pieces[0], str):
        return "".join(pieces)
    return b"".join(pieces)


def same_verdict(parts: list[bytes]) -> None:
    """Compare both, allowing for the difference that is meant.

    tako refuses an unmasked frame, a reserved bit or a surrogate (ED A0) as early as
    possible; wsproto wants more bytes, with which it must come to the same verdict.
    """
    ours = tako_outcome(parts)
    theirs = [wsproto_outcome(parts)]
    if ours.close_code is not None and theirs[0].close_code is None:
        fillers = [bytes(300), client_frame(0, bytes(3))]
        theirs = [wsproto_outcome([*parts, filler]) for filler in fillers]
    assert ours in theirs


def client_frame(
    opcode: int,
    data: bytes = b"",
    mask: bytes = b"\x37\xfa\x21\x3d",
    *,
    fin: bool = True,
) -> bytes:
    size = len(data)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))
    return bytes((fin << 7 | opcode,)) + length + mask + masked


characters = st.characters(codec="utf-8")
masks = st.binary(min_size=4, max_size=4)
texts = st.one_of(
    st.text(characters, max_size=30),
    st.builds(lambda char, size: char * size, characters, st.integers(0, 300)),
).map(str.encode)
blobs = st.one_of(st.binary(max_size=30), st.integers(0, 70_000).map(bytes))
close_payloads = st.one_of(
    st.just(b""),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason.encode(),
        st.sampled_from([1000, 1001, 1003, 1007, 1011, 1012, 1013, 3000, 4999]),
        st.text(characters, max_size=30),
    ),
)
controls = st.builds(
    client_frame, st.sampled_from([9, 10]), st.binary(max_size=125), masks
)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Return a message in fragments, cut anywhere, with control frames in between."""
    opcode, data = draw(
        st.one_of(st.tuples(st.just(1), texts), st.tuples(st.just(2), blobs))
    )
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    bounds = [0, *cuts, len(data)]
    wire = b""
    for i, (begin, end) in enumerate(itertools.pairwise(bounds)):
        wire += b"".join(draw(st.lists(controls, max_size=1))) if i else b""
        part, fin = data[begin:end], i == len(cuts)
        wire += client_frame(0 if i else opcode, part, draw(masks), fin=fin)
    return wire


messages = st.one_of(
    st.builds(client_frame, st.just(1), texts, masks),
    st.builds(client_frame, st.just(2), blobs, masks),
    controls,
    fragmented(),
)
conversations = st.builds(
    lambda frames, close: b"".join(frames) + close,
    st.lists(messages, max_size=6),
    st.one_of(st.just(b""), st.builds(client_frame, st.just(8), close_payloads, masks)),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({place % (len(data) + 1) for place in places})
    return [
        data[begin:end]
        for begin, end in zip([0, *bounds], [*bounds, len(data)], strict=True)
    ]


places = st.lists(st.integers(0, 2**20), max_size=8)


@given(wire=conversations, places=places)
def test_valid_conversations_are_understood_alike(
    wire: bytes, places: list[int]
) -> None:
    ours = tako_outcome(cut(wire, places))
    assert ours.close_code is None
    assert ours == wsproto_outcome([wire])


@given(
    wire=conversations,
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=3),
    places=places,
)
@example(wire=client_frame(8, b"\x03\xf6"), changes=[], places=[])  # 1014
@example(wire=client_frame(8, b"\x03\xf6\xff"), changes=[], places=[])
@example(wire=client_frame(1, b"\xed\xa0", fin=False), changes=[], places=[])
@example(wire=b"\x81\x7e", changes=[], places=[])  # unmasked, length incomplete
def test_damaged_conversations_are_judged_alike(
    wire: bytes, changes: list[tuple[int, int]], places: list[int]
) -> None:
    damaged = bytearray(wire)
    for place, value in changes:
        if damaged:
            damaged[place % len(damaged)] ^= value
    same_verdict(cut(bytes(damaged), places))


heads = st.builds(
    lambda first, second, rest: bytes((first, second)) + rest,
    st.integers(0, 255),
    st.sampled_from([0, 5, 125, 126, 127, 128, 129, 130, 253, 254, 255]),
    st.binary(max_size=30),
)


@given(st.lists(st.one_of(heads, messages), max_size=4).map(b"".join))
def test_any_head_is_judged_alike(wire: bytes) -> None:
    same_verdict([wire])


@given(
    st.integers(0, 65535),
    st.one_of(st.text(characters, max_size=20).map(str.encode), st.binary(max_size=20)),
)
def test_any_close_is_judged_alike(code: int, reason: bytes) -> None:
    same_verdict([client_frame(8, code.to_bytes(2, "big") + reason)])


@given(
    wire=st.one_of(conversations, st.binary(), st.lists(heads).map(b"".join)),
    places=places,
    limit=st.integers(1, 5),
    size=st.sampled_from([10, 1000, 2**40]),
)
def test_neither_chunks_nor_limits_change_the_outcome(
    wire: bytes, places: list[int], limit: int, size: int
) -> None:
    whole = tako_outcome([wire], size=size)
    assert tako_outcome(cut(wire, places), limit, size=size) == whole
    if len(wire) < 2000:
        each = [wire[i : i + 1] for i in range(len(wire))]
        assert tako_outcome(each, size=size) == whole


@given(st.lists(st.binary(), max_size=5), st.integers(1, 3))
def test_arbitrary_bytes_never_raise(parts: list[bytes], limit: int) -> None:
    outcome = tako_outcome(parts, limit)
    assert outcome.close_code in {None, 1002, 1007, 1009}


@given(
    st.lists(
        st.one_of(
            st.text(characters, max_size=300), st.binary(max_size=70_000), st.none()
        ),
        max_size=5,
    )
)
def test_a_client_reads_what_is_encoded(sent: list[str | bytes | None]) -> None:
    client = Connection(ConnectionType.CLIENT)
    for message in sent:
        if message is None:
            client.receive_data(encode_ping(b"ping"))
        elif isinstance(message, str):
            client.receive_data(encode_text(message))
        else:
            client.receive_data(encode_binary(message))
    client.receive_data(encode_close(1001, "gone"))
    *received, close = client.events()
    assert [getattr(e, "data", None) for e in received] == sent
    assert isinstance(close, events.CloseConnection)
    assert (close.code, close.reason) == (1001, "gone")
