"""``Codec`` against wsproto, an implementation that shares no code with it.

Both get the same bytes, in the role of a server and in that of a client; messages and
close codes must be equal. Where they are known to differ, ``same_verdict`` and the
strategies say how.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, strategies as st
from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType

from tako.core.role import Role
from tako.errors import WsError
from tako.ws.codec import (
    Codec,
    Encode,
    encode_close,
    encode_frame,
    encode_masked_frame,
    encode_ping,
)
from tako.ws.message import AnyMessage, Message


@dataclass
class Outcome:
    messages: list[AnyMessage]
    close_code: int | None  # of a violation
    finished: bool
    reason: str = field(default="", compare=False)


def tako_outcome(
    role: Role, parts: list[bytes], limit: int = 1024, *, size: int = 2**63
) -> Outcome:
    codec = Codec(max_frame_size=size, max_message_size=size, role=role)
    messages: list[AnyMessage] = []
    for number, part in enumerate(parts):
        if number & 1 and codec.receive_middle(part):
            continue
        found = codec.receive(part, limit)
        messages += found
        while codec.pending:
            found = codec.receive(b"", limit)
            messages += found
        assert isinstance(codec.error, WsError | None)
    code = None if codec.error is None else codec.error.close_code
    return Outcome(messages, code, codec.finished)


def wsproto_outcome(role: Role, parts: list[bytes]) -> Outcome:
    server = role is Role.SERVER
    connection = Connection(ConnectionType.SERVER if server else ConnectionType.CLIENT)
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


def same_verdict(role: Role, parts: list[bytes]) -> None:
    """Compare both, allowing for the difference that is meant.

    tako refuses a wrong mask bit, a reserved bit or a surrogate (ED A0) as early as
    possible; wsproto wants more bytes, with which it must come to the same verdict.
    """
    ours = tako_outcome(role, parts)
    theirs = [wsproto_outcome(role, parts)]
    if ours.close_code is not None and theirs[0].close_code is None:
        fillers = [bytes(300), peer_frame(role, 0, bytes(3))]
        theirs = [wsproto_outcome(role, [*parts, filler]) for filler in fillers]
    assert ours in theirs


MASK = b"\x37\xfa\x21\x3d"


def peer_frame(
    role: Role,
    opcode: int,
    data: bytes = b"",
    mask: bytes = MASK,
    *,
    fin: bool = True,
) -> bytes:
    """Return a frame of the peer of ``role``: a client's is masked."""
    size = len(data)
    bit = 0x80 if role is Role.SERVER else 0
    if size < 126:
        length = bytes((bit | size,))
    elif size < 65536:
        length = bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((bit | 127,)) + size.to_bytes(8, "big")
    head = bytes((fin << 7 | opcode,)) + length
    if not bit:
        return head + data
    return head + mask + bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))


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
roles = st.sampled_from(Role)


def controls(role: Role) -> st.SearchStrategy[bytes]:
    return st.builds(
        peer_frame,
        st.just(role),
        st.sampled_from([9, 10]),
        st.binary(max_size=125),
        masks,
    )


@st.composite
def fragmented(draw: st.DrawFn, role: Role) -> bytes:
    """Return a message in fragments, cut anywhere, with control frames in between."""
    opcode, data = draw(
        st.one_of(st.tuples(st.just(1), texts), st.tuples(st.just(2), blobs))
    )
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    bounds = [0, *cuts, len(data)]
    wire = b""
    for i, (begin, end) in enumerate(itertools.pairwise(bounds)):
        wire += b"".join(draw(st.lists(controls(role), max_size=1))) if i else b""
        part, fin = data[begin:end], i == len(cuts)
        wire += peer_frame(role, 0 if i else opcode, part, draw(masks), fin=fin)
    return wire


def messages(role: Role) -> st.SearchStrategy[bytes]:
    me = st.just(role)
    return st.one_of(
        st.builds(peer_frame, me, st.just(1), texts, masks),
        st.builds(peer_frame, me, st.just(2), blobs, masks),
        controls(role),
        fragmented(role),
    )


def conversations(role: Role) -> st.SearchStrategy[tuple[Role, bytes]]:
    close = st.builds(peer_frame, st.just(role), st.just(8), close_payloads, masks)
    return st.builds(
        lambda frames, close: (role, b"".join(frames) + close),
        st.lists(messages(role), max_size=6),
        st.one_of(st.just(b""), close),
    )


cases = roles.flatmap(conversations)  # the role that receives, and what


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({place % (len(data) + 1) for place in places})
    return [
        data[begin:end]
        for begin, end in zip([0, *bounds], [*bounds, len(data)], strict=True)
    ]


places = st.lists(st.integers(0, 2**20), max_size=8)


@given(case=cases, places=places)
def test_valid_conversations_are_understood_alike(
    case: tuple[Role, bytes], places: list[int]
) -> None:
    role, wire = case
    ours = tako_outcome(role, cut(wire, places))
    assert ours.close_code is None
    assert ours == wsproto_outcome(role, [wire])


SERVER, CLIENT = Role.SERVER, Role.CLIENT


@given(
    cases,
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=3),
    places,
)
@example((SERVER, peer_frame(SERVER, 8, b"\x03\xf6")), [], [])  # 1014
@example((SERVER, peer_frame(SERVER, 8, b"\x03\xf6\xff")), [], [])
@example((SERVER, peer_frame(SERVER, 1, b"\xed\xa0", fin=False)), [], [])
@example((SERVER, b"\x81\x7e"), [], [])  # unmasked, no whole length
@example((CLIENT, b"\x81\xfe"), [], [])  # masked, no whole length
@example((CLIENT, peer_frame(CLIENT, 1, b"\xed\xa0", fin=False)), [], [])
def test_damaged_conversations_are_judged_alike(
    case: tuple[Role, bytes], changes: list[tuple[int, int]], places: list[int]
) -> None:
    role, wire = case
    damaged = bytearray(wire)
    for place, value in changes:
        if damaged:
            damaged[place % len(damaged)] ^= value
    same_verdict(role, cut(bytes(damaged), places))


heads = st.builds(
    lambda first, second, rest: bytes((first, second)) + rest,
    st.integers(0, 255),
    st.sampled_from([0, 5, 125, 126, 127, 128, 129, 130, 253, 254, 255]),
    st.binary(max_size=30),
)


@given(
    roles.flatmap(
        lambda role: st.tuples(
            st.just(role),
            st.lists(st.one_of(heads, messages(role)), max_size=4).map(b"".join),
        )
    )
)
def test_any_head_is_judged_alike(case: tuple[Role, bytes]) -> None:
    role, wire = case
    same_verdict(role, [wire])


@given(
    roles,
    st.integers(0, 65535),
    st.one_of(st.text(characters, max_size=20).map(str.encode), st.binary(max_size=20)),
)
def test_any_close_is_judged_alike(role: Role, code: int, reason: bytes) -> None:
    same_verdict(role, [peer_frame(role, 8, code.to_bytes(2, "big") + reason)])


@given(
    case=st.one_of(
        cases,
        st.tuples(roles, st.binary()),
        st.tuples(roles, st.lists(heads).map(b"".join)),
    ),
    places=places,
    limit=st.integers(1, 5),
    size=st.sampled_from([10, 1000, 2**40]),
)
def test_neither_chunks_nor_limits_change_the_outcome(
    case: tuple[Role, bytes], places: list[int], limit: int, size: int
) -> None:
    role, wire = case
    whole = tako_outcome(role, [wire], size=size)
    assert tako_outcome(role, cut(wire, places), limit, size=size) == whole
    if len(wire) < 2000:
        each = [wire[i : i + 1] for i in range(len(wire))]
        assert tako_outcome(role, each, size=size) == whole


@given(roles, st.lists(st.binary(), max_size=5), st.integers(1, 3))
def test_arbitrary_bytes_never_raise(
    role: Role, parts: list[bytes], limit: int
) -> None:
    outcome = tako_outcome(role, parts, limit)
    assert outcome.close_code in {None, 1002, 1007, 1009}


ENCODE: dict[Role, Encode] = {
    Role.SERVER: encode_frame,
    Role.CLIENT: encode_masked_frame,
}
sendable = st.lists(
    st.one_of(st.text(characters, max_size=300), st.binary(max_size=70_000), st.none()),
    max_size=5,
)


def encoded(role: Role, sent: list[str | bytes | None]) -> list[bytes]:
    """Return what ``role`` sends: messages, Pings for ``None``, and a Close."""
    encode = ENCODE[role]
    frames = [
        encode_ping(b"ping", encode)
        if message is None
        else encode(0x81 if isinstance(message, str) else 0x82, message)
        for message in sent
    ]
    return [*frames, encode_close(1001, "gone", encode)]


@given(roles, sendable)
def test_wsproto_reads_what_is_encoded(
    role: Role, sent: list[str | bytes | None]
) -> None:
    server = role is Role.SERVER
    peer = Connection(ConnectionType.CLIENT if server else ConnectionType.SERVER)
    for frame in encoded(role, sent):
        peer.receive_data(frame)
    *received, close = peer.events()
    assert [getattr(e, "data", None) for e in received] == sent
    assert isinstance(close, events.CloseConnection)
    assert (close.code, close.reason) == (1001, "gone")


@given(roles, sendable, places)
def test_each_role_reads_what_the_other_encodes(
    role: Role, sent: list[str | bytes | None], places: list[int]
) -> None:
    peer = Role.CLIENT if role is Role.SERVER else Role.SERVER
    outcome = tako_outcome(role, cut(b"".join(encoded(peer, sent)), places))
    wanted = [Message.Ping(b"ping") if each is None else each for each in sent]
    assert outcome == Outcome([*wanted, Message.Close(1001, "gone")], None, True)


@given(roles, sendable)
def test_a_role_refuses_what_it_encodes_itself(
    role: Role, sent: list[str | bytes | None]
) -> None:
    outcome = tako_outcome(role, encoded(role, sent))
    assert outcome == Outcome([], 1002, finished=True)
