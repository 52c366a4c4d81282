"""What the verdicts of the corpus mean: words to predicates, one table for all.

A verdict is looked up by the first pattern that matches the whole of a row's
``expect``, after the few rows that leave tako a choice; ``verdict`` raises for
words that have no meaning here, so each row is judged. The same predicates judge what
a server on a socket did and what one in memory did (``runner.Target``).
"""

import functools
import re
import zlib
from collections.abc import Callable
from typing import TypeAlias

from tako.errors import RemoteProtocolError
from tako.testing.peer import Wire
from tako.testing.peer.websocket import encode_frame
from tests.security.corpus import Delivery, Row
from tests.security.runner import Outcome, Target, deliver
from tests.support.attack import close_codes
from tests.support.server import Gate
from tests.support.victim import eventually


Check: TypeAlias = Callable[[Outcome], None]

CODES = {
    "PROTOCOL_ERROR": 0x1,
    "FLOW_CONTROL_ERROR": 0x3,
    "SETTINGS_TIMEOUT": 0x4,
    "STREAM_CLOSED": 0x5,
    "FRAME_SIZE_ERROR": 0x6,
    "REFUSED_STREAM": 0x7,
    "CANCEL": 0x8,
    "COMPRESSION_ERROR": 0x9,
    "ENHANCE_YOUR_CALM": 0xB,
    "INADEQUATE_SECURITY": 0xC,
}
_CALM = CODES["ENHANCE_YOUR_CALM"]


# HTTP/1.1 -----------------------------------------------------------------------------


def refused(*statuses: int, entered: bool = False) -> Check:
    """One answer with ``Connection: close``, then FIN; nothing behind it is parsed.

    ``entered``: the fault is in the body; a handler that waits for it gets an error.
    """

    def check(out: Outcome) -> None:
        ending = out.peer.read_to_end(out_time(out))
        (answer,) = out.answers()
        assert answer.status in statuses, answer
        assert answer.closes
        assert answer.all("content-type") == ["text/plain; charset=utf-8"]
        assert answer.body
        assert ending == "eof", f"the connection ended with {ending}"
        handlers = out.handlers()
        assert all(entry.request.path != "/smug" for entry in handlers)
        if not entered:
            assert not handlers, "a handler was entered for a rejected request"
        eventually(
            lambda: all(entry.ended for entry in handlers), "the handlers end", 1
        )
        for entry in handlers:
            assert isinstance(entry.error, RemoteProtocolError), entry

    return check


def out_time(out: Outcome) -> float:
    """Seconds that the verdict may take: what is sent counts at 10 MB a second."""
    return 5.0 + len(out.row.data) / 1e7


def answered(*statuses: int) -> Check:
    """Exactly these answers, and the connection stays open."""

    def check(out: Outcome) -> None:
        out.wait(lambda: len(out.answers()) >= len(statuses))
        out.victim.canary.echo()
        assert [answer.status for answer in out.answers()] == list(statuses)
        assert out.peer.ending is None

    return check


def _byte_ff(out: Outcome) -> None:
    answered(200)(out)
    (entry,) = out.handlers()
    assert entry.request.headers.get_raw(b"x") == b"a\xffb"


def _absolute_form(out: Outcome) -> None:
    answered(200)(out)
    (entry,) = out.handlers()
    assert (entry.request.path, entry.request.authority) == ("/x", "b")


def _in_order(out: Outcome) -> None:
    answered(200, 200)(out)
    assert [entry.request.path for entry in out.handlers()] == ["/", "/smug"]
    assert out.victim.ledger.most_alive == 1


def _one_response(out: Outcome) -> None:
    assert out.peer.read_to_end() == "eof"
    (answer,) = out.answers()
    assert answer.status == 200
    assert answer.closes
    assert [entry.request.path for entry in out.handlers()] == ["/"]


def _trailers_apart(out: Outcome) -> None:
    answered(200, 200)(out)
    for entry in out.handlers():
        assert "x-evil" not in entry.request.headers
    assert out.handlers()[0].body == b"abc"


def _many_chunks(out: Outcome) -> None:
    answered(200)(out)
    (entry,) = out.handlers()
    assert entry.body is not None
    assert len(entry.body) == 20_000


def _no_switch(out: Outcome) -> None:
    answered(200, 200)(out)
    assert not any(answer.all("upgrade") for answer in out.answers())
    assert {entry.request.http_version for entry in out.handlers()} == {"1.1"}


_STATUS = r"R?[45]\d\d"


def _refusal(words: str) -> Check | None:
    """Read ``R400``, ``400 or 413, close``, ``400/413 before ...; close``."""
    match = re.match(rf"{_STATUS}(?:(?: or |/){_STATUS})*(?=$|[,; ])", words)
    if match is None or not (words == "R400" or "close" in words):
        return None
    statuses = [int(status) for status in re.findall(r"[45]\d\d", match[0])]
    return refused(*statuses, entered=words != "R400")


# WebSocket handshakes -----------------------------------------------------------------


def _status(out: Outcome) -> int:
    out.wait(lambda: out.handshake() is not None)
    answer = out.handshake()
    assert answer is not None, "no answer"
    return answer[0]


def _header(out: Outcome, name: str) -> str | None:
    answer = out.handshake()
    assert answer is not None
    return answer[1].get(name)


def _opened(out: Outcome) -> None:
    assert _status(out) == (200 if out.http2 else 101)
    if not out.http2:
        assert _header(out, "upgrade") == "websocket"
        assert _header(out, "connection") == "Upgrade"
        assert _header(out, "content-length") is None
        assert _header(out, "transfer-encoding") is None


def _echoes(out: Outcome, text: bytes) -> None:
    out.wait(lambda: bool(out.frames()))
    assert [(f.opcode, f.payload) for f in out.frames()] == [(1, text)]


def _early_echo(out: Outcome) -> None:
    _opened(out)
    _echoes(out, b"early")


def _plain_400(out: Outcome) -> None:
    assert _status(out) == 400
    assert not out.sessions()
    if not out.http2:
        out.victim.canary.echo()


def _426(out: Outcome) -> None:
    assert _status(out) == 426
    assert (_header(out, "upgrade") or "").lower() == "websocket"
    assert "upgrade" in (_header(out, "connection") or "").lower()
    assert not out.sessions()


def _426_reusable(out: Outcome) -> None:
    _426(out)
    out.peer.send(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
    answered(426, 200)(out)


def _400_close(out: Outcome) -> None:
    assert out.peer.read_to_end() == "eof"
    (answer,) = out.answers()
    assert answer.status == 400
    assert answer.closes
    assert not out.sessions()


def _without_extension(out: Outcome) -> None:
    _opened(out)
    assert _header(out, "sec-websocket-extensions") is None
    out.send_tunnel(encode_frame(1, b"plain"))
    _echoes(out, b"plain")


_FAR = ((bytes(range(256)) * 2 + b"filler" * 3000) * 2 + b"end").ljust(40_960, b".")


@functools.cache
def _far_looking(window_bits: int) -> bytes:
    """Return a message, deflated so that it refers as far back as it may."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -window_bits)
    data = deflater.compress(_FAR) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return encode_frame(2, data[:-4], rsv=4)


def _first_offer_used(out: Outcome) -> None:
    _opened(out)
    answer = _header(out, "sec-websocket-extensions") or ""
    assert answer.startswith("permessage-deflate")
    bits = re.search(r"client_max_window_bits=(\d+)", answer)
    out.send_tunnel(_far_looking(int(bits[1]) if bits else 15))
    out.wait(lambda: bool(out.victim.ledger.of("session")[-1].messages))
    assert out.sessions()[-1].messages == [_FAR]


def _quoted_string(out: Outcome) -> None:
    _opened(out)
    answer = _header(out, "sec-websocket-extensions") or ""
    assert re.fullmatch(r"permessage-deflate(;.*)?", answer)
    assert "," not in answer


def _4xx(out: Outcome) -> None:
    assert 400 <= _status(out) < 500
    assert not out.sessions()


def _101_or_4xx(out: Outcome) -> None:
    if _status(out) not in {101, 200}:
        _4xx(out)


def _4xx_with_version(out: Outcome) -> None:
    _4xx(out)
    assert _header(out, "sec-websocket-version") == "13"


def _closed_quietly(out: Outcome) -> None:
    assert out.peer.read_to_end() == "eof"
    assert not out.handlers()


def _closed_or_waiting(out: Outcome) -> None:
    out.settled()
    assert not out.handlers()
    assert all(answer.status == 400 for answer in out.answers())


def _403_not_entered(out: Outcome) -> None:
    assert _status(out) == 403
    assert not out.sessions()


def _403_close(out: Outcome) -> None:
    _403_not_entered(out)
    if out.http2:
        out.wait(lambda: out.h2.gone(out.stream))
        out.same_connection_lives()
        return
    ending = out.peer.read_to_end()
    (answer,) = out.answers()
    assert answer.status == 403
    assert ending == "eof"
    # a refusal that precedes the frame knows nothing of it; the end follows it
    assert answer.closes or out.cut
    assert not out.handlers(), "buffered bytes were parsed as HTTP"


def _early_flood(out: Outcome) -> None:
    gate = out.victim.ledger.gate
    assert isinstance(gate, Gate), "the row needs a handler that waits"
    flood = out.row.data.partition(b"\r\n\r\n")[2]
    if out.http2:
        out.h2.send_stream(out.stream, flood[:200_000])
    out.settled_or_blocked()
    assert out.handshake() is None
    if not out.http2:
        assert out.peer.unsent, "the server has read everything"
    gate.open()
    _opened(out)
    if out.http2:
        out.h2.send_stream(out.stream, flood[200_000:])
    wanted = out.row.data.count(b"\x82\xfe\xea\x60\x12\x34\x56\x78")
    assert wanted == 170
    out.wait(lambda: len(out.peer.received) >= wanted * 60_004)
    lengths = [len(message) for message in out.sessions()[-1].messages]
    assert lengths == [60_000] * wanted


# WebSocket frames ---------------------------------------------------------------------


def closed_with(*codes: int | None) -> Check:
    """One Close with one of ``codes``, then the end; the connection below survives."""

    def check(out: Outcome) -> None:
        out.wait(out.tunnel_over, out_time(out))
        frames = out.frames()
        assert out.tunnel_over(), f"still open after {frames[-3:]}"
        found = list(close_codes(frames))
        assert len(found) == 1, found
        assert found[0] in codes, found
        assert frames[-1].opcode == 8
        _ended_cleanly(out)

    return check


def _ended_cleanly(out: Outcome) -> None:
    if out.http2:
        assert out.h2.resets.get(out.stream) in {None, 0, CODES["CANCEL"]}
        out.same_connection_lives()
    else:
        assert out.peer.ending == "eof", out.peer.ending


def delivered(*messages: str | int) -> Check:
    """The session got these texts, or messages of these sizes; the socket goes on."""

    def check(out: Outcome) -> None:
        before = ["before"] if out.beside else []
        wanted = [*before, *messages]
        session = out.victim.ledger.of("session")[-1]
        out.wait(lambda: len(out.frames()) >= len(messages), out_time(out))
        assert len(session.messages) == len(wanted), _short(session.messages)
        for got, want in zip(session.messages, wanted, strict=True):
            assert (len(got) if isinstance(want, int) else got) == want
        assert not list(close_codes(out.frames()))

    return check


def _short(messages: list[str | bytes]) -> str:
    return f"{len(messages)} messages, of {[len(m) for m in messages[:5]]} ..."


def _one_close_late_ignored(out: Outcome) -> None:
    closed_with(1000)(out)
    (session,) = out.sessions()
    eventually(lambda: session.ended, "the session ends", 1)
    assert session.messages == (["before"] if out.beside else [])


def _few_pongs_or_1008(out: Outcome) -> None:
    out.send_tunnel(encode_frame(1, b"done"))
    out.wait(lambda: any(f.opcode in {1, 8} for f in out.frames()))
    frames = out.frames()
    if codes := list(close_codes(frames)):
        assert codes == [1008]
        return
    assert (frames[-1].opcode, frames[-1].payload) == (1, b"done")
    pongs = [frame.payload for frame in frames if frame.opcode == 10]
    assert pongs
    # at most one for each read of the server
    assert len(pongs) <= 1 + 35_000 // 256
    assert pongs[-1] == b"x"


def _hundred_thousand(out: Outcome) -> None:
    wanted = 100_000 + out.beside
    session = out.victim.ledger.of("session")[-1]
    out.peer.pump(lambda: len(out.tunnel()) >= 3 * 100_000, 30)
    assert len(session.messages) == wanted
    assert set(session.messages[-100_000:]) == {"x"}


def _dribbled(out: Outcome) -> None:
    session = out.victim.ledger.of("session")[-1]
    out.wait(lambda: bool(out.frames()))
    assert len(session.messages) == 1 + out.beside
    assert len(session.messages[-1]) == 20_000


def _both_or_1007(out: Outcome) -> None:
    out.wait(lambda: out.tunnel_over() or len(out.frames()) >= 2)
    if out.tunnel_over():
        assert list(close_codes(out.frames())) == [1007]
    else:
        assert len(out.victim.ledger.of("session")[-1].messages) == 2 + out.beside


def _close_code(words: str) -> Check | None:
    match = re.match(r"Close (\d{4})\b(?: or (\d{4}))?", words)
    if match is None:
        return None
    return closed_with(*(int(code) for code in match.groups() if code))


# HTTP/2 -------------------------------------------------------------------------------


def goaway(*codes: int) -> Check:
    """GOAWAY with one of ``codes``, then the end of the connection."""

    def check(out: Outcome) -> None:
        ending = out.peer.read_to_end(out_time(out) + 2)
        assert out.h2.goaways, "closed without GOAWAY"
        assert out.h2.goaways[-1][1] in codes, out.h2.goaways
        assert ending == "eof", ending

    return check


def reset(*codes: int) -> Check:
    """RST_STREAM with one of ``codes``; the connection goes on."""

    def check(out: Outcome) -> None:
        out.wait(lambda: out.h2.gone(out.stream))
        assert not out.h2.goaways, out.h2.goaways
        assert out.h2.resets.get(out.stream) in codes, out.h2.resets
        served = [entry for entry in out.handlers() if entry.request.path != "/late"]
        eventually(lambda: all(entry.ended for entry in served), "the handlers end", 1)
        assert all(entry.error is not None for entry in served), "it was served"
        assert not out.sessions()
        out.same_connection_lives()

    return check


RSTS = reset(CODES["PROTOCOL_ERROR"])


def _no_preface(out: Outcome) -> None:
    goaway(CODES["PROTOCOL_ERROR"])(out)
    assert not out.handlers()


def calm(out: Outcome) -> None:
    """GOAWAY(ENHANCE_YOUR_CALM), and never more handlers than streams."""
    goaway(_CALM)(out)
    assert out.victim.ledger.most_alive <= 100


def calm_or_alive(out: Outcome) -> None:
    """GOAWAY(ENHANCE_YOUR_CALM), or the connection goes on."""
    if not out.h2.settled() or out.h2.goaways:
        calm(out)
    else:
        out.same_connection_lives()


def _either(check: Check, other: Check) -> Check:
    """Judge by GOAWAY where there is one, otherwise by the stream."""

    def judge(out: Outcome) -> None:
        out.wait(lambda: bool(out.h2.goaways) or out.h2.gone(out.stream))
        out.h2.settled()
        (check if out.h2.goaways else other)(out)

    return judge


def _rst_or_goaway(name: str) -> Check:
    return _either(goaway(CODES[name]), reset(CODES[name]))


def _ignored(out: Outcome) -> None:
    assert out.h2.settled()
    assert not out.h2.goaways
    out.same_connection_lives()


def _late_frame(out: Outcome) -> None:
    out.wait(lambda: bool(out.h2.goaways) or out.h2.gone(out.stream))
    out.h2.settled()
    if out.h2.goaways:
        goaway(CODES["STREAM_CLOSED"])(out)
    else:
        assert out.h2.resets == {out.stream: CODES["STREAM_CLOSED"]}
        out.same_connection_lives()


def _served(out: Outcome) -> None:
    out.wait(lambda: out.h2.gone(out.stream))
    assert out.h2.statuses.get(out.stream) == [200], (out.h2.resets, out.h2.goaways)
    out.same_connection_lives()


def _one_reset(out: Outcome) -> None:
    _ignored(out)
    resets = [frame for frame in out.h2.frames if frame.type == 3]
    assert len(resets) <= 1, resets


def _settings_late(out: Outcome) -> None:
    goaway(CODES["SETTINGS_TIMEOUT"])(out)


def _padding_credited(out: Outcome) -> None:
    out.h2.settled()
    out.h2.connection_window -= 200 * 256
    out.h2.credit[out.stream] = out.h2.credit.get(out.stream, 0) - 200 * 256
    out.h2.send_stream(out.stream, b"x" * 600_000, end=True)
    out.wait(lambda: out.h2.gone(out.stream))
    assert out.h2.statuses[out.stream] == [200]
    (entry,) = out.handlers()
    assert entry.body == b"x" * 600_000
    out.same_connection_lives()


def _slow_read(out: Outcome) -> None:
    out.wait(lambda: out.h2.gone(out.stream))
    assert len(out.h2.data[out.stream]) <= 200
    assert out.h2.resets[out.stream] == CODES["CANCEL"]


def _never_read(out: Outcome) -> None:
    out.wait(lambda: len(out.h2.resets) >= 100)
    assert set(out.h2.resets.values()) == {CODES["CANCEL"]}
    assert len(out.h2.resets) == 100
    assert not any(out.h2.data.get(stream) for stream in out.h2.resets)


def _first_gets_200(out: Outcome) -> None:
    bad, good = out.stream + 2, out.stream
    out.wait(lambda: out.h2.gone(good) and out.h2.gone(bad))
    assert out.h2.statuses[good] == [200]
    assert out.h2.resets == {bad: CODES["PROTOCOL_ERROR"]}
    out.same_connection_lives()


def _two_get_200(out: Outcome) -> None:
    first = out.stream
    out.wait(lambda: all(out.h2.gone(first + offset) for offset in (0, 2, 4)))
    assert out.h2.statuses[first] == out.h2.statuses[first + 2] == [200]
    assert out.h2.resets == {first + 4: CODES["PROTOCOL_ERROR"]}
    out.same_connection_lives()


def _refused_above_limit(out: Outcome) -> None:
    peer = out.h2
    out.wait(lambda: len(peer.resets) + len(peer.ended) >= 4000, 20)
    served = [s for s, status in out.h2.statuses.items() if status == [200]]
    assert out.victim.ledger.most_alive <= 100
    assert set(out.h2.resets.values()) <= {CODES["REFUSED_STREAM"]}
    asked = {out.stream + 2 * number for number in range(4000)}
    assert asked <= out.h2.resets.keys() | set(served)
    assert not out.h2.goaways
    out.same_connection_lives()


# Extended CONNECT ---------------------------------------------------------------------


def _extended_connect(out: Outcome) -> None:
    _opened(out)
    assert (
        not {"sec-websocket-accept", "content-length"}
        & dict(out.h2.fields[out.stream]).keys()
    )
    _echoes(out, b"hi")
    assert not out.h2.gone(out.stream)
    out.same_connection_lives()


def status_of_stream(*statuses: int, header: tuple[str, str] | None = None) -> Check:
    """One of ``statuses`` and END_STREAM; the connection goes on."""

    def check(out: Outcome) -> None:
        assert _status(out) in statuses
        out.wait(lambda: out.h2.gone(out.stream))
        assert out.stream in out.h2.ended
        if header is not None:
            assert _header(out, header[0]) == header[1]
        assert _header(out, "upgrade") is None
        assert not out.sessions()
        out.same_connection_lives()

    return check


def _cut_off(out: Outcome) -> None:
    out.same_connection_lives()
    out.settled()
    for session in out.sessions():
        assert session.ended
        assert session.close_code == 1006


def _reset_or_501(out: Outcome) -> None:
    out.wait(lambda: out.h2.gone(out.stream))
    if out.h2.resets.get(out.stream) != CODES["PROTOCOL_ERROR"]:
        status_of_stream(400, 501)(out)


def _tunnel_ended(out: Outcome) -> None:
    out.wait(lambda: out.h2.gone(out.stream))
    assert out.h2.gone(out.stream)
    out.same_connection_lives()
    out.settled()
    for session in out.sessions():
        eventually(lambda session=session: session.ended, "the session ends")  # type: ignore[misc]
        assert session.close_code == 1006


# The tables ---------------------------------------------------------------------------

_TABLE: list[tuple[str, Check]] = [
    # HTTP/1.1
    ("200; header reaches the handler as the byte 0xff.*", _byte_ff),
    ("200; path=/x, authority=b .*", _absolute_form),
    ("200, 200 in order; one handler at a time", _in_order),
    ("one response, close", _one_response),
    ("200, 200; X-Evil absent .*", _trailers_apart),
    ("200, body 20000 B;.*", _many_chunks),
    ("200, 200 as HTTP/1.1; no switch", _no_switch),
    # Handshakes
    ("101, then echo 'early'; nothing lost", _early_echo),
    ("400", _plain_400),
    ("ordinary GET: 426 .*", _426),
    ("426 .* connection reusable", _426_reusable),
    ("101 without that offer", _without_extension),
    ("first acceptable offer answered AND used;.*", _first_offer_used),
    ("101; quoted string not split", _quoted_string),
    ("403; handler not entered", _403_not_entered),
    (r"403 \+ Connection: close;.*", _403_close),
    ("reads pause at <= 64 KiB pre-accept;.*", _early_flood),
    ("4xx", _4xx),
    ("101 or 4xx", _101_or_4xx),
    (r"4xx \+ sec-websocket-version: 13", _4xx_with_version),
    (r"426 \+ Upgrade: websocket", _426),
    ("closed", _closed_quietly),
    ("closed or waiting", _closed_or_waiting),
    # WebSocket frames
    ("Close empty", closed_with(None)),
    ("late ignored; exactly one Close sent; closed", _one_close_late_ignored),
    ("<= 1 pong per read batch owed .*", _few_pongs_or_1008),
    ("all delivered in order with back-pressure;.*", _hundred_thousand),
    (r"delivered; linear CPU .*", _dribbled),
    ("delivered, 1048576 B", delivered(1_048_576)),
    ("both messages delivered .*", _both_or_1007),
    ("delivered", delivered("plain")),
    ("delivered, empty", delivered("")),
    # HTTP/2
    (r"RST or GOAWAY\(STREAM_CLOSED\), perhaps behind the answer", _late_frame),
    ("ignored; the connection goes on", _ignored),
    ("200; the connection goes on", _served),
    ("at most one RST; the connection goes on", _one_reset),
    (r"GOAWAY\(ENHANCE_YOUR_CALM\).*", calm),
    ("same budget counts .*", calm),
    ("same as H2-05", calm),
    ("ENHANCE_YOUR_CALM at the budget", calm),
    (r"dropped, or GOAWAY\(ENHANCE_YOUR_CALM\);.*", calm_or_alive),
    ("ok or ENHANCE_YOUR_CALM;.*", calm_or_alive),
    ("ENHANCE_YOUR_CALM or < .*", calm_or_alive),
    (r"GOAWAY\(SETTINGS_TIMEOUT\) after 10 s.*", _settings_late),
    ("padding credited back; no stall;.*", _padding_credited),
    ("body sent 1 B at a time only up to min-rate.*", _slow_read),
    (r"send timeout \(30 s\) resets them;.*", _never_read),
    ("stream 3 RST; stream 1 still gets 200", _first_gets_200),
    ("1 and 3 answered 200", _two_get_200),
    ("RSTS(; process alive)?", RSTS),
    (r"RST\(PROTOCOL_ERROR\).*", reset(CODES["PROTOCOL_ERROR"])),
    (r"RST \(not GOAWAY\)", RSTS),
    ("at most 100 running; excess REFUSED_STREAM;.*", _refused_above_limit),
    # Extended CONNECT
    (":status 200, no END_STREAM, no sec-websocket-accept;.*", _extended_connect),
    ("400/501", status_of_stream(400, 501)),
    (
        r"400 \+ sec-websocket-version: 13",
        status_of_stream(400, header=("sec-websocket-version", "13")),
    ),
    ("400, or 200 then END_STREAM .*", status_of_stream(400)),
    (r"400 \(an ordinary GET\);.*", status_of_stream(400)),
    ("handler: 1006 within 100 ms;.*", _cut_off),
    ("405/501", status_of_stream(405, 501)),
    ("501", status_of_stream(501)),
    ("431 on the stream", status_of_stream(431)),
    ("RSTS or 501", _reset_or_501),
    ("ended or reset; the connection goes on", _tunnel_ended),
]


_CHOSEN: dict[str, Check] = {  # where the words leave a choice: what tako does
    "H1-66": refused(417),
    "WH-20": _opened,
    "H2-01": _no_preface,
    "H2-10": reset(CODES["PROTOCOL_ERROR"]),
    "H2-11": reset(CODES["FRAME_SIZE_ERROR"]),
    "H2-43": calm,
}


def _coded(words: str) -> Check | None:
    """Read ``GOAWAY(X)`` and ``RST or GOAWAY(X)``."""
    match = re.match(r"(RST(?:/| or ))?GOAWAY\((\w+)(?: or (\w+))?", words)
    if match is None:
        return None
    if match[1]:
        return _rst_or_goaway(match[2])
    return goaway(*(CODES[name] for name in match.groups()[1:] if name))


def verdict(row: Row) -> Check:
    """Return the predicate for ``row``.

    Raises:
        LookupError: its words have no meaning here.
    """
    if row.id in _CHOSEN:
        return _CHOSEN[row.id]
    if row.proto == "ws-hs" and row.expect == "400, close":
        return _400_close
    for words, check in _TABLE:
        if re.fullmatch(words, row.expect):
            return check
    for read in (_refusal, _close_code, _coded):
        found = read(row.expect)
        if found is not None:
            return found
    msg = f"{row.id}: no verdict has the words {row.expect!r}"
    raise LookupError(msg)


def judge(
    row: Row, victim: Target, wire: Wire, delivery: Delivery, *, settle: bool = True
) -> None:
    """Deliver ``row`` and assert its verdict, then what must hold after every attack.

    Without ``settle`` the latter is left to a later call.
    """
    try:
        out = deliver(row, victim, wire, delivery)
        with out.peer:
            verdict(row)(out)
        if settle:
            victim.settle()
    except (AssertionError, TimeoutError) as error:
        error.add_note(f"{row.id} ({row.name}), {wire}, {delivery}: {row.expect}")
        raise
