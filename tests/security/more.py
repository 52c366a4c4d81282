"""Rows of our own, in the form and the words of the corpus: the classes, made wider.

Each table is a fault of one class in many spellings. Names say what is wrong; the
verdict is the one that security.md and the RFCs give the class, so nothing here is
about what tako happens to do.
"""

import zlib

from tako.testing.peer.frames import raw_frame
from tako.testing.peer.websocket import encode_frame
from tests.security.corpus import Protocol, Row
from tests.support.attack import literal_block


_SMUGGLED = b"GET /smug HTTP/1.1\r\nHost: a\r\n\r\n"
_UNKNOWN_CODING = {"TE in two lines", "TE xchunked", "TE gzip, chunked"}
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


def more_rows() -> list[Row]:
    """Return the rows."""
    return [
        *_named("h1", "SM", _smuggling()),
        *_named("h1", "HG", _header_grammar()),
        *_named("h1", "TG", _targets()),
        *_named("h1", "CK", _chunks()),
        *_named("h1", "OK", _accepted()),
        *_named("ws-hs", "HS", _handshakes()),
        *_named("ws", "FR", _ws_frames()),
        *_named("ws-pmd", "PM", _deflated()),
        *_named("h2", "FM", _h2_frames()),
        *_named("h2", "SN", _h2_streams()),
        *_named("h2", "MR", _malformed_requests()),
        *_named("h2", "HP", _hpack()),
        *_named("h2-ws", "EC", _extended_connects()),
    ]


def _named(
    proto: Protocol, prefix: str, rows: list[tuple[str, str, bytes]]
) -> list[Row]:
    return [
        Row(f"{prefix}-{number:02}", proto, name, expect, data)
        for number, (name, expect, data) in enumerate(rows, 1)
    ]


# HTTP/1.1 -----------------------------------------------------------------------------


def _post(fields: bytes, body: bytes = b"", *, version: bytes = b"1.1") -> bytes:
    head = b"POST / HTTP/" + version + b"\r\nHost: a\r\n" + fields + b"\r\n"
    return head + body + _SMUGGLED


def _get(fields: bytes = b"", *, host: bytes = b"Host: a\r\n") -> bytes:
    return b"GET / HTTP/1.1\r\n" + host + fields + b"\r\n" + _SMUGGLED


def _smuggling() -> list[tuple[str, str, bytes]]:
    """RFC 9112 section 6: which length counts?"""
    last = b"0\r\n\r\n"
    both = [
        ("CL then TE", b"Content-Length: 6\r\n" + _CHUNKED),
        ("CL 0 and TE", b"Content-Length: 0\r\n" + _CHUNKED),
        (
            "TE in mixed case, and CL",
            b"Content-Length: 6\r\ntrAnSfer-eNcoDing: chunked\r\n",
        ),
        ("TE identity and CL", b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n"),
        ("empty TE and CL", b"Transfer-Encoding:\r\nContent-Length: 5\r\n"),
        ("TE in two lines", b"Transfer-Encoding: gzip\r\n" + _CHUNKED),
        ("TE chunked twice in a line", b"Transfer-Encoding: chunked, chunked\r\n"),
        ("TE with a leading comma", b"Transfer-Encoding: , chunked\r\n"),
        ("TE with a trailing comma", b"Transfer-Encoding: chunked,\r\n"),
        ("TE folded", b"Transfer-Encoding:\r\n chunked\r\n"),
        ("TE with a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n"),
        ("TE with NUL", b"Transfer-Encoding: chunked\x00\r\n"),
        ("TE quoted", b'Transfer-Encoding: "chunked"\r\n'),
        ("TE with a parameter", b"Transfer-Encoding: chunked;q=0.5\r\n"),
        ("TE xchunked", b"Transfer-Encoding: xchunked\r\n"),
        ("TE gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n"),
        ("tab before the colon of TE", b"Transfer-Encoding\t: chunked\r\n"),
        ("tab before the name of TE", b"X: y\r\n\tTransfer-Encoding: chunked\r\n"),
        ("TE behind a bare CR", b"X: y\rTransfer-Encoding: chunked\r\n"),
        ("TE behind a bare LF", b"X: y\nTransfer-Encoding: chunked\r\n"),
    ]
    lengths = [
        ("CL +3", b"+3"),
        ("CL -1", b"-1"),
        ("CL 3 with a letter", b"3a"),
        ("CL with a space inside", b"3 3"),
        ("CL with a semicolon", b"3;"),
        ("CL 1e1", b"1e1"),
        ("CL 3.0", b"3.0"),
        ("CL 3_0", b"3_0"),
        ("CL with a comma at the end", b"3,"),
        ("CL in Arabic digits", "\u0663".encode()),
        ("CL quoted", b'"3"'),
        ("CL with NUL", b"3\x00"),
    ]
    return [
        *(
            (
                name,
                "400/501, close" if name in _UNKNOWN_CODING else "R400",
                _post(fields, last),
            )
            for name, fields in both
        ),
        *(
            (name, "R400", _post(b"Content-Length: " + value + b"\r\n", b"abc"))
            for name, value in lengths
        ),
        (
            "CL of forty digits",
            "400 or 413, close",
            _post(b"Content-Length: " + b"9" * 40 + b"\r\n", b"abc"),
        ),
        ("TE in HTTP/1.0", "R400", _post(_CHUNKED, last, version=b"1.0")),
    ]


def _header_grammar() -> list[tuple[str, str, bytes]]:
    """RFC 9112 section 5, RFC 9110 sections 5.1, 5.5 and 7.2."""
    lines = [
        ("no colon", b"Foo\r\n"),
        ("no name", b": x\r\n"),
        ("a space in the name", b"Fo o: x\r\n"),
        ("a tab in the name", b"Fo\to: x\r\n"),
        ("a parenthesis in the name", b"Fo(o: x\r\n"),
        ("a quote in the name", b'F"oo: x\r\n'),
        ("a slash in the name", b"F/oo: x\r\n"),
        ("an at sign in the name", b"F@oo: x\r\n"),
        ("NUL in the name", b"F\x00oo: x\r\n"),
        ("DEL in the name", b"F\x7foo: x\r\n"),
        ("UTF-8 in the name", "F\u00fc: x\r\n".encode()),
        ("DEL in the value", b"X: a\x7fb\r\n"),
        ("BEL in the value", b"X: a\x07b\r\n"),
        ("vertical tab in the value", b"X: a\x0bb\r\n"),
        ("form feed in the value", b"X: a\x0cb\r\n"),
        ("ESC in the value", b"X: \x1b[31m\r\n"),
        ("obs-fold with a tab", b"X: a\r\n\tb\r\n"),
        ("a space before the first field", b" X: a\r\n"),
        ("CR at the end of the value", b"X: a\r\r\n"),
        ("LF CR", b"X: a\n\r"),
    ]
    hosts = [
        ("no Host", b""),
        ("Host twice", b"Host: a\r\nHost: b\r\n"),
        ("Host twice, the same", b"Host: a\r\nHost: a\r\n"),
        ("Host in two spellings", b"Host: a\r\nhost: b\r\n"),
        ("Host with a slash", b"Host: a/b\r\n"),
        ("Host with userinfo", b"Host: u@a\r\n"),
        ("Host list", b"Host: a, b\r\n"),
        ("Host with a port of letters", b"Host: a:b\r\n"),
        ("Host with an open bracket", b"Host: [::1\r\n"),
        ("Host with a query", b"Host: a?b\r\n"),
        ("Host with a backslash", b"Host: a\\b\r\n"),
        ("Host with UTF-8", "Host: \u00e4\r\n".encode()),
    ]
    return [
        *(
            (
                name,
                "R400",
                b"GET / HTTP/1.1\r\n" + line + b"Host: a\r\n\r\n" + _SMUGGLED
                if "first" in name
                else _get(line),
            )
            for name, line in lines
        ),
        *((name, "R400", _get(host=host)) for name, host in hosts),
        ("101 fields", "431, close", _get(b"X: y\r\n" * 100)),
        ("a field of 70 KB", "431, close", _get(b"X: " + b"y" * 70_000 + b"\r\n")),
        (
            "70 KB without an end",
            "431, close",
            b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000,
        ),
        ("a name of 70 KB", "431, close", _get(b"X" * 70_000 + b": y\r\n")),
    ]


def _targets() -> list[tuple[str, str, bytes]]:
    """RFC 9112 sections 2.3, 3 and 3.2."""
    rest = b"\r\nHost: a\r\n\r\n" + _SMUGGLED
    bad = [
        ("two spaces", b"GET  / HTTP/1.1"),
        ("tabs", b"GET\t/\tHTTP/1.1"),
        ("a space in the target", b"GET /a b HTTP/1.1"),
        ("a space at the end", b"GET / HTTP/1.1 "),
        ("a space at the start", b" GET / HTTP/1.1"),
        ("no target", b"GET HTTP/1.1"),
        ("no method", b"/ HTTP/1.1"),
        ("a parenthesis in the method", b"G(ET / HTTP/1.1"),
        ("0xff in the method", b"G\xff / HTTP/1.1"),
        ("a fragment", b"GET /a#b HTTP/1.1"),
        ("NUL in the target", b"GET /\x00 HTTP/1.1"),
        ("DEL in the target", b"GET /\x7f HTTP/1.1"),
        ("CTL in the target", b"GET /\x01 HTTP/1.1"),
        ("CR in the target", b"GET /a\rb HTTP/1.1"),
        ("a relative target", b"GET a HTTP/1.1"),
        ("authority-form with GET", b"GET a:80 HTTP/1.1"),
        ("absolute-form with userinfo", b"GET http://u:p@a/ HTTP/1.1"),
        ("absolute-form without an authority", b"GET http:///x HTTP/1.1"),
        ("version in lower case", b"GET / http/1.1"),
        ("version 1.1.1", b"GET / HTTP/1.1.1"),
        ("version 1.10", b"GET / HTTP/1.10"),
        ("version 01.1", b"GET / HTTP/01.1"),
        ("version 1,1", b"GET / HTTP/1,1"),
        ("version +1.1", b"GET / HTTP/+1.1"),
        ("version without digits", b"GET / HTTP/"),
        ("another protocol", b"GET / ICY/1.1"),
    ]
    return [
        *((name, "R400", line + rest) for name, line in bad),
        ("version 2.0", "400/505, close", b"GET / HTTP/2.0" + rest),
        ("version 3.0", "400/505, close", b"GET / HTTP/3.0" + rest),
        ("version 0.9 spelled out", "400/505, close", b"GET / HTTP/0.9" + rest),
        ("CONNECT", "400/405/501, close", b"CONNECT a:443 HTTP/1.1" + rest),
        ("CONNECT with a path", "400/405/501, close", b"CONNECT /x HTTP/1.1" + rest),
        (
            "a target of 9 KB",
            "414, close",
            b"GET /" + b"a" * 9000 + b" HTTP/1.1" + rest,
        ),
        (
            "a method of 9 KB",
            "400/414/431/501, close",
            b"G" * 9000 + b" / HTTP/1.1" + rest,
        ),
        ("a TLS record", "closed", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("only line ends", "closed or waiting", b"\r\n" * 40),
        ("binary noise", "400, close", bytes(range(128, 256)) + b"\r\n\r\n"),
    ]


def _chunks() -> list[tuple[str, str, bytes]]:
    """RFC 9112 section 7.1."""
    bad = [
        ("size -3", b"-3\r\nabc\r\n0\r\n\r\n"),
        ("size +3", b"+3\r\nabc\r\n0\r\n\r\n"),
        ("no size", b"\r\nabc\r\n0\r\n\r\n"),
        ("size g", b"g\r\nabc\r\n0\r\n\r\n"),
        ("a space before the size", b" 3\r\nabc\r\n0\r\n\r\n"),
        ("a tab behind the size", b"3\t\r\nabc\r\n0\r\n\r\n"),
        ("size 3_0", b"3_0\r\nabc\r\n0\r\n\r\n"),
        ("bare LF behind the size", b"3\nabc\r\n0\r\n\r\n"),
        ("bare LF behind the data", b"3\r\nabc\n0\r\n\r\n"),
        ("bare CR behind the size", b"3\rabc\r\n0\r\n\r\n"),
        ("bare CR behind the data", b"3\r\nabc\r0\r\n\r\n"),
        ("data too long", b"3\r\nabcd\r\n0\r\n\r\n"),
        ("bare LF in an extension", b"3;a\n\r\nabc\r\n0\r\n\r\n"),
        ("NUL in an extension", b"3;a\x00\r\nabc\r\n0\r\n\r\n"),
        ("an extension of 300 bytes", b"3;" + b"a" * 300 + b"\r\nabc\r\n0\r\n\r\n"),
        ("5 KB of small extensions", (b"1;" + b"e" * 200 + b"\r\na\r\n") * 26),
        ("bare LF at the end", b"3\r\nabc\r\n0\n\n"),
        ("junk behind the last chunk", b"3\r\nabc\r\n0\r\nXYZ\r\n\r\n"),
        ("a trailer with a space in its name", b"0\r\nX y: z\r\n\r\n"),
        ("a trailer with NUL", b"0\r\nX: \x00\r\n\r\n"),
        ("a folded trailer", b"0\r\nX: a\r\n b\r\n\r\n"),
        ("a trailer with bare LF", b"0\r\nX: a\n\r\n"),
    ]
    return [
        *((name, "400, close", _post(_CHUNKED, body)) for name, body in bad),
        (
            "size of 20 digits",
            "400/413, close",
            _post(_CHUNKED, b"00000000000000000003\r\nabc\r\n0\r\n\r\n"),
        ),
        (
            "70 KB of trailers",
            "400/431, close",
            _post(_CHUNKED, b"0\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n"),
        ),
        (
            "200 trailers",
            "400/431, close",
            _post(_CHUNKED, b"0\r\n" + b"X: y\r\n" * 200),
        ),
    ]


def _accepted() -> list[tuple[str, str, bytes]]:
    """What must not be refused for fear of all of the above."""
    fine = "200, 200 in order; one handler at a time"
    return [
        ("CL 3", fine, _post(b"Content-Length: 3\r\n", b"abc")),
        ("CL with leading zeros", fine, _post(b"Content-Length: 0003\r\n", b"abc")),
        ("CL with spaces around", fine, _post(b"Content-Length: \t 3 \r\n", b"abc")),
        ("CL 0", fine, _post(b"Content-Length: 0\r\n")),
        ("TE CHUNKED", fine, _post(b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n")),
        (
            "GET with a body",
            fine,
            _get(b"Content-Length: 3\r\n")[: -len(_SMUGGLED)] + b"abc" + _SMUGGLED,
        ),
        ("chunk size with zeros", fine, _post(_CHUNKED, b"0003\r\nabc\r\n0\r\n\r\n")),
        (
            "chunk size in both cases",
            fine,
            _post(_CHUNKED, b"aA\r\n" + b"x" * 0xAA + b"\r\n0\r\n\r\n"),
        ),
        ("a chunk extension", fine, _post(_CHUNKED, b"3;a=b\r\nabc\r\n0\r\n\r\n")),
        (
            "a quoted chunk extension",
            fine,
            _post(_CHUNKED, b'3;a="b;c"\r\nabc\r\n0\r\n\r\n'),
        ),
        ("a last chunk of zeros", fine, _post(_CHUNKED, b"000\r\n\r\n")),
        ("trailers", fine, _post(_CHUNKED, b"0\r\nX: y\r\nZ: \r\n\r\n")),
        ("an empty line before the request", fine, b"\r\n" + _get()),
        ("an empty value", fine, _get(b"X:\r\n")),
        ("a tab inside a value", fine, _get(b"X: a\tb\r\n")),
        ("all token characters", fine, _get(b"!#$%&'*+-.^_`|~9aZ: b\r\n")),
        ("Host with a port", fine, _get(host=b"Host: a:8080\r\n")),
        ("Host with an IPv6 address", fine, _get(host=b"Host: [::1]:80\r\n")),
        ("Host in upper case", fine, _get(host=b"HOST: A.B\r\n")),
        ("99 fields", fine, _get(b"X: y\r\n" * 98)),
        (
            "Connection: close, and more",
            "one response, close",
            _get(b"Connection: foo, Close\r\n"),
        ),
        (
            "HTTP/1.0 without Host",
            "one response, close",
            b"GET / HTTP/1.0\r\n\r\n" + _SMUGGLED,
        ),
        (
            "Upgrade to something else, with a body",
            fine,
            _post(
                b"Connection: upgrade\r\nUpgrade: foo\r\nContent-Length: 3\r\n", b"abc"
            ),
        ),
    ]


# WebSocket handshakes -----------------------------------------------------------------

_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_VERSION = b"Sec-WebSocket-Version: 13\r\n"
_WANTS = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def _ask(
    fields: bytes, *, line: bytes = b"GET /ws HTTP/1.1", host: bytes = b"Host: a\r\n"
) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def _handshakes() -> list[tuple[str, str, bytes]]:
    """RFC 6455 section 4.2."""
    keys = [
        ("key of 17 bytes", b"dGhlIHNhbXBsZSBub25jZQA="),
        ("key in base64url", b"dGhlIHNhbXBsZSBub25j_w=="),
        ("key without padding", b"dGhlIHNhbXBsZSBub25jZQ"),
        ("key with a space inside", b"dGhlIHNhbXBs ZSBub25jZQ=="),
        ("empty key", b""),
        ("key 0xff", b"\xff" * 24),
        ("two keys in a line", b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    versions = [
        ("version 12", b"Sec-WebSocket-Version: 12\r\n"),
        ("version 013", b"Sec-WebSocket-Version: 013\r\n"),
        ("version list", b"Sec-WebSocket-Version: 13, 8\r\n"),
        ("version 0xff", b"Sec-WebSocket-Version: \xff\r\n"),
        ("version twice", _VERSION + _VERSION),
        ("no version", b""),
    ]
    extensions = [
        ("window bits of letters", b"permessage-deflate; client_max_window_bits=abc"),
        ("window bits 1_0", b"permessage-deflate; server_max_window_bits=1_0"),
        ("window bits 7", b"permessage-deflate; server_max_window_bits=7"),
        ("window bits 16", b"permessage-deflate; client_max_window_bits=16"),
        ("window bits empty", b'permessage-deflate; client_max_window_bits=""'),
        ("window bits negative", b"permessage-deflate; client_max_window_bits=-9"),
        ("window bits with a zero", b"permessage-deflate; client_max_window_bits=09"),
        (
            "server window bits without a value",
            b"permessage-deflate; server_max_window_bits",
        ),
        (
            "a parameter twice",
            b"permessage-deflate; client_max_window_bits; client_max_window_bits",
        ),
        ("takeover with a value", b"permessage-deflate; client_no_context_takeover=1"),
        ("another extension", b"x-webkit-deflate-frame"),
        ("junk", b";;==,,"),
        ("0xff", b"permessage-deflate\xff"),
    ]
    return [
        *(
            (
                name,
                "400",
                _ask(_WANTS + b"Sec-WebSocket-Key: " + key + b"\r\n" + _VERSION),
            )
            for name, key in keys
        ),
        *(
            (name, "4xx + sec-websocket-version: 13", _ask(_WANTS + _KEY + version))
            for name, version in versions
        ),
        *(
            (
                f"extension: {name}",
                "101 without that offer",
                _ask(
                    _WANTS
                    + _KEY
                    + _VERSION
                    + b"Sec-WebSocket-Extensions: "
                    + offer
                    + b"\r\n"
                ),
            )
            for name, offer in extensions
        ),
        (
            "subprotocol 0xff",
            "400",
            _ask(_WANTS + _KEY + _VERSION + b"Sec-WebSocket-Protocol: \xff\r\n"),
        ),
        (
            "Connection 0xff",
            "101 or 4xx",
            _ask(
                b"Connection: Upgrade, \xff\r\nUpgrade: websocket\r\n" + _KEY + _VERSION
            ),
        ),
        (
            "Origin 0xff",
            "101 or 4xx",
            _ask(_WANTS + _KEY + _VERSION + b"Origin: \xff\r\n"),
        ),
        (
            "no Upgrade",
            "426 + Upgrade: websocket",
            _ask(b"Connection: Upgrade\r\n" + _KEY + _VERSION),
        ),
        (
            "Upgrade to another protocol",
            "426 + Upgrade: websocket",
            _ask(b"Connection: Upgrade\r\nUpgrade: websockets\r\n" + _KEY + _VERSION),
        ),
        ("HTTP/1.0", "4xx", _ask(_WANTS + _KEY + _VERSION, line=b"GET /ws HTTP/1.0")),
        ("POST", "4xx", _ask(_WANTS + _KEY + _VERSION, line=b"POST /ws HTTP/1.1")),
        (
            "chunked body",
            "400, close",
            _ask(_WANTS + _KEY + _VERSION + _CHUNKED) + b"0\r\n\r\n",
        ),
        (
            "CL and TE",
            "400, close",
            _ask(_WANTS + _KEY + _VERSION + _CHUNKED + b"Content-Length: 3\r\n")
            + b"abc",
        ),
        (
            "lists and cases",
            "101, then echo 'early'; nothing lost",
            _ask(
                b"Connection: keep-alive, upGRADE\r\nUpgrade: foo, WebSocket\r\n"
                + _KEY
                + _VERSION
            )
            + encode_frame(1, b"early"),
        ),
        (
            "the first of two frames is broken in two",
            "101, then echo 'early'; nothing lost",
            _ask(_WANTS + _KEY + _VERSION)
            + encode_frame(1, b"ear", fin=False)
            + encode_frame(0, b"ly"),
        ),
    ]


# WebSocket frames ---------------------------------------------------------------------


def _ws_frames() -> list[tuple[str, str, bytes]]:
    """RFC 6455 sections 5, 7.4 and 8.1."""
    f = encode_frame
    part = f(1, b"a", fin=False)
    broken = [
        ("unmasked ping", f(9, b"x", masked=False)),
        ("unmasked close", f(8, b"\x03\xe8", masked=False)),
        ("unmasked empty text", f(1, masked=False)),
        ("RSV1 without an extension", f(1, b"x", rsv=4)),
        ("RSV2", f(1, b"x", rsv=2)),
        ("RSV3 on a ping", f(9, b"x", rsv=1)),
        ("RSV1 on a close", f(8, b"\x03\xe8", rsv=4)),
        *(
            (f"opcode {code}", f(code, b"x"))
            for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        ),
        ("fragmented pong", f(10, b"x", fin=False)),
        ("fragmented close", f(8, b"\x03\xe8", fin=False)),
        ("pong of 126 bytes", f(10, b"x" * 126)),
        ("close of 126 bytes", f(8, b"\x03\xe8" + b"x" * 124)),
        ("a ping that declares 64 bits", b"\x89\xff" + bytes(7) + b"\x05" + bytes(4)),
        ("5 bytes in 16 bits", b"\x82\xfe\x00\x05" + bytes(4) + b"abcde"),
        ("5 bytes in 64 bits", b"\x82\xff" + bytes(7) + b"\x05" + bytes(4) + b"abcde"),
        ("65535 bytes in 64 bits", b"\x82\xff" + bytes(6) + b"\xff\xff" + bytes(4)),
        ("unfinished continuation without a start", f(0, b"x", fin=False)),
        ("text inside a message", part + f(1, b"b")),
        ("binary inside a message", part + f(2, b"b")),
        ("continuation behind the end", part + f(0, b"b") + f(0, b"c")),
        *(
            (f"close {code}", f(8, code.to_bytes(2, "big")))
            for code in (
                0,
                1,
                999,
                1004,
                1005,
                1006,
                1015,
                1016,
                1100,
                2000,
                2999,
                5000,
                65535,
            )
        ),
    ]
    garbled = [
        ("overlong", b"\xc0\x80"),
        ("overlong, three bytes", b"\xe0\x80\xaf"),
        ("surrogate", b"\xed\xa0\x80"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
        ("F5", b"\xf5\x80\x80\x80"),
        ("FE", b"\xfe"),
        ("lone continuation", b"a\x80"),
        ("cut off", b"\xe2\x82"),
    ]
    return [
        *((name, "Close 1002", data) for name, data in broken),
        *((f"UTF-8: {name}", "Close 1007", f(1, data)) for name, data in garbled),
        *(
            (f"UTF-8 in a close: {name}", "Close 1007", f(8, b"\x03\xe8" + data))
            for name, data in garbled
        ),
        (
            "UTF-8: cut off by the end of the message",
            "Close 1007",
            f(1, b"\xe2\x82", fin=False) + f(0),
        ),
        (
            "UTF-8: broken at a fragment's border",
            "Close 1007",
            f(1, b"\xe2", fin=False) + f(0, b"a\xac"),
        ),
        ("close 1000", "Close 1000", f(8, b"\x03\xe8bye")),
        ("close without a code", "Close empty", f(8)),
        ("close 3000", "Close 3000", f(8, b"\x0b\xb8")),
        ("close 4999", "Close 4999", f(8, b"\x13\x87")),
        ("close 1012", "Close 1012", f(8, b"\x03\xf4")),
        ("two closes", "Close 1000", f(8, b"\x03\xe8") + f(8, b"\x03\xe9")),
        (
            "a broken frame behind a close",
            "Close 1000",
            f(8, b"\x03\xe8") + f(3, b"x", masked=False),
        ),
        (
            "declares the limit and one",
            "Close 1009",
            b"\x82\xff" + ((1 << 20) + 1).to_bytes(8, "big") + bytes(4),
        ),
        ("declares 2^63 - 1", "Close 1009", b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4)),
        (
            "fragments that exceed the limit together",
            "Close 1009",
            f(2, b"x" * 600_000, fin=False) + f(0, b"x" * 600_000),
        ),
        (
            "20000 empty fragments",
            "Close 1008 or 1009",
            f(1, fin=False) + f(0, fin=False) * 20_000,
        ),
        (
            "20000 fragments of a byte",
            "Close 1008 or 1009",
            f(2, b"x", fin=False) + f(0, b"x", fin=False) * 20_000,
        ),
        (
            "ping between fragments",
            "delivered",
            f(1, b"pl", fin=False) + f(9, b"") * 0 + f(0, b"ain"),
        ),
        (
            "empty fragments around",
            "delivered",
            f(1, fin=False) + f(0, b"plain", fin=False) + f(0),
        ),
        ("unsolicited pongs", "delivered", f(10, b"x") * 50 + f(1, b"plain")),
        ("mask of zeros", "delivered", b"\x81\x85" + bytes(4) + b"plain"),
        ("an empty text", "delivered, empty", f(1)),
    ]


def _raw_deflate(data: bytes, *, final: bool = False) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = deflater.compress(data)
    if final:
        return out + deflater.flush()
    return (out + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _deflated() -> list[tuple[str, str, bytes]]:
    """RFC 7692 sections 6 and 7.2."""
    f = encode_frame
    bomb = _raw_deflate(bytes((1 << 20) + 1))
    half = _raw_deflate(b"plain")
    return [
        ("one byte over the limit", "Close 1009", f(2, bomb, rsv=4)),
        (
            "over the limit, in fragments",
            "Close 1009",
            f(2, bomb[:500], rsv=4, fin=False) + f(0, bomb[500:]),
        ),
        ("a bomb of 100 MB", "Close 1009", f(2, _raw_deflate(bytes(100 << 20)), rsv=4)),
        ("RSV1 on a close", "Close 1002", f(8, b"\x03\xe8", rsv=4)),
        ("RSV1 on a pong", "Close 1002", f(10, b"x", rsv=4)),
        ("RSV2", "Close 1002", f(1, half, rsv=6)),
        ("a reserved block type", "Close 1007", f(2, b"\x07", rsv=4)),
        (
            "a stored block that lies",
            "Close 1007",
            f(2, b"\x00\x05\x00\x00\x00a", rsv=4),
        ),
        ("a distance before the start", "Close 1007", f(2, b"\x03\x02\x00\x00", rsv=4)),
        ("invalid UTF-8 inside", "Close 1007", f(1, _raw_deflate(b"\xff"), rsv=4)),
        (
            "compressed, in fragments",
            "delivered",
            f(1, half[:2], rsv=4, fin=False) + f(0, half[2:]),
        ),
        (
            "a pong between compressed fragments",
            "delivered",
            f(1, half[:2], rsv=4, fin=False) + f(10, b"x") + f(0, half[2:]),
        ),
        ("an empty first fragment", "delivered", f(1, rsv=4, fin=False) + f(0, half)),
    ]


# HTTP/2 -------------------------------------------------------------------------------

_GET_BLOCK = b"\x82\x87\x84\x01\x01a"
_POST_BLOCK = b"\x83\x87\x84\x01\x01a"
_PROTOCOL = "GOAWAY(PROTOCOL_ERROR)"
_SIZE = "GOAWAY(FRAME_SIZE_ERROR)"
_ALIVE = "ignored; the connection goes on"


def _number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def _post_open(stream: int = 1) -> bytes:
    return raw_frame(1, 4, stream, _POST_BLOCK)


def _get_done(stream: int = 1) -> bytes:
    return raw_frame(1, 5, stream, _GET_BLOCK)


def _setting(identifier: int, value: int) -> bytes:
    return raw_frame(4, 0, 0, _number(identifier, 2) + _number(value))


def _h2_frames() -> list[tuple[str, str, bytes]]:
    """RFC 9113 sections 4 and 6, frame by frame."""
    r = raw_frame
    return [
        ("unknown frame type", _ALIVE, r(0x16, 0, 0, b"x" * 8)),
        ("unknown frame type on a stream", _ALIVE, r(0xFE, 0xFF, 7, b"x" * 8)),
        ("ALTSVC and ORIGIN", _ALIVE, r(10, 0, 0, b"\0\0") + r(12, 0, 0)),
        ("PRIORITY_UPDATE", _ALIVE, r(16, 0, 0, _number(1) + b"u=1")),
        ("undefined flags on PING", _ALIVE, r(6, 0xFE, 0, b"x" * 8)),
        ("the reserved bit of a stream id", _ALIVE, r(6, 1, 1 << 31, b"x" * 8)),
        (
            "unknown frame inside a header block",
            _PROTOCOL,
            r(1, 0, 1, _GET_BLOCK) + r(0x16, 0, 0, b"x"),
        ),
        ("DATA of 16385 bytes", _SIZE, _post_open() + r(0, 0, 1, b"x" * 16_385)),
        ("HEADERS of 16385 bytes", _SIZE, r(1, 4, 1, b"x" * 16_385)),
        ("SETTINGS of 16386 bytes", _SIZE, r(4, 0, 0, b"\0" * 16_386)),
        ("a header that declares 16 MB", _SIZE, b"\xff\xff\xff\0\0\0\0\0\1"),
        ("an unknown frame of 16 MB", _SIZE, b"\xff\xff\xff\x42\0\0\0\0\0"),
        ("DATA on stream 0", _PROTOCOL, r(0, 0, 0, b"x")),
        (
            "padded DATA without a pad length",
            "GOAWAY(FRAME_SIZE_ERROR or PROTOCOL_ERROR)",
            _post_open() + r(0, 8, 1),
        ),
        (
            "padding as long as the payload",
            _PROTOCOL,
            _post_open() + r(0, 8, 1, b"\x01"),
        ),
        ("HEADERS on stream 0", _PROTOCOL, r(1, 5, 0, _GET_BLOCK)),
        ("HEADERS with too much padding", _PROTOCOL, r(1, 13, 1, b"\xff" + _GET_BLOCK)),
        ("PRIORITY on stream 0", _PROTOCOL, r(2, 0, 0, bytes(5))),
        ("RST_STREAM on stream 0", _PROTOCOL, r(3, 0, 0, _number(8))),
        ("RST_STREAM of 3 bytes", _SIZE, _post_open() + r(3, 0, 1, b"\0\0\0")),
        ("RST_STREAM of 5 bytes", _SIZE, _post_open() + r(3, 0, 1, bytes(5))),
        ("SETTINGS of 5 bytes", _SIZE, r(4, 0, 0, bytes(5))),
        ("SETTINGS of 7 bytes", _SIZE, r(4, 0, 0, bytes(7))),
        ("ENABLE_PUSH 2", _PROTOCOL, _setting(2, 2)),
        (
            "INITIAL_WINDOW_SIZE 2^31",
            "GOAWAY(FLOW_CONTROL_ERROR)",
            _setting(4, 1 << 31),
        ),
        ("MAX_FRAME_SIZE 2^24", _PROTOCOL, _setting(5, 1 << 24)),
        ("MAX_FRAME_SIZE 0", _PROTOCOL, _setting(5, 0)),
        ("an unknown setting", _ALIVE, _setting(0xFF00, 7)),
        (
            "33 settings",
            "ok or ENHANCE_YOUR_CALM; bounded",
            r(4, 0, 0, (_number(3, 2) + _number(9)) * 33),
        ),
        ("an unsolicited SETTINGS ACK", _ALIVE, r(4, 1, 0)),
        ("HEADER_TABLE_SIZE 2^32 - 1", _ALIVE, _setting(1, 2**32 - 1)),
        ("PING of 9 bytes", _SIZE, r(6, 0, 0, bytes(9))),
        ("PING on stream 1", _PROTOCOL, r(6, 0, 1, bytes(8))),
        ("an unsolicited PING ACK", _ALIVE, r(6, 1, 0, bytes(8))),
        ("GOAWAY on stream 1", _PROTOCOL, r(7, 0, 1, bytes(8))),
        ("GOAWAY of 7 bytes", _SIZE, r(7, 0, 0, bytes(7))),
        ("WINDOW_UPDATE 0", _PROTOCOL, r(8, 0, 0, bytes(4))),
        ("WINDOW_UPDATE of 3 bytes", _SIZE, r(8, 0, 0, bytes(3))),
        ("WINDOW_UPDATE of 5 bytes", _SIZE, r(8, 0, 0, bytes(5))),
        (
            "WINDOW_UPDATE 0 on a stream",
            "RST or GOAWAY(PROTOCOL_ERROR)",
            _post_open() + r(8, 0, 1, bytes(4)),
        ),
        (
            "WINDOW_UPDATE overflow on a stream",
            "RST or GOAWAY(FLOW_CONTROL_ERROR)",
            _post_open() + r(8, 0, 1, _number(2**31 - 1)),
        ),
        (
            "window overflow by SETTINGS",
            "GOAWAY(FLOW_CONTROL_ERROR)",
            _post_open() + r(8, 0, 1, _number(2**30)) + _setting(4, 2**31 - 1),
        ),
        ("CONTINUATION first", _PROTOCOL, r(9, 4, 1, _GET_BLOCK)),
        (
            "CONTINUATION on stream 0",
            _PROTOCOL,
            r(1, 1, 1, b"\x82") + r(9, 4, 0, b"\x87"),
        ),
        (
            "CONTINUATION behind END_HEADERS",
            _PROTOCOL,
            _post_open() + r(9, 4, 1, b"\x82"),
        ),
        (
            "CONTINUATION on another stream",
            _PROTOCOL,
            r(1, 1, 1, b"\x82") + r(9, 4, 3, b"\x87"),
        ),
        (
            "HEADERS inside a header block",
            _PROTOCOL,
            r(1, 1, 1, b"\x82") + _get_done(3),
        ),
        (
            "DATA inside a header block",
            _PROTOCOL,
            r(1, 1, 1, b"\x82") + r(0, 1, 1, b"x"),
        ),
        ("SETTINGS inside a header block", _PROTOCOL, r(1, 1, 1, b"\x82") + r(4, 0, 0)),
        (
            "9 CONTINUATION",
            "GOAWAY(ENHANCE_YOUR_CALM)",
            r(1, 1, 1, b"\x82") + r(9, 0, 1) * 9,
        ),
        (
            "HEADERS in 8 CONTINUATION",
            "200; the connection goes on",
            r(1, 1, 1, b"\x82")
            + r(9, 0, 1) * 6
            + r(9, 0, 1, b"\x87\x84")
            + r(9, 4, 1, b"\x01\x01a"),
        ),
        (
            "padded HEADERS with priority",
            "200; the connection goes on",
            r(1, 0x2D, 1, b"\x03" + bytes(5) + _GET_BLOCK + b"\0\0\0"),
        ),
        (
            "HEADERS with a priority cut short",
            "GOAWAY(FRAME_SIZE_ERROR or PROTOCOL_ERROR)",
            r(1, 0x25, 1, b"\0\0"),
        ),
    ]


def _h2_streams() -> list[tuple[str, str, bytes]]:
    """RFC 9113 section 5.1: frames that come when they may not."""
    r = raw_frame
    closed = "RST or GOAWAY(STREAM_CLOSED)"
    late = "RST or GOAWAY(STREAM_CLOSED), perhaps behind the answer"
    return [
        ("DATA on an idle stream", _PROTOCOL, r(0, 1, 1, b"x")),
        ("RST_STREAM on an idle stream", _PROTOCOL, r(3, 0, 1, _number(8))),
        ("WINDOW_UPDATE on an idle stream", _PROTOCOL, r(8, 0, 1, _number(1))),
        ("RST_STREAM on an even stream", _PROTOCOL, r(3, 0, 2, _number(8))),
        ("PRIORITY on an idle stream", _ALIVE, r(2, 0, 3, bytes(5))),
        ("HEADERS with an even id", _PROTOCOL, _get_done(4)),
        (
            "a lower stream id",
            "GOAWAY(PROTOCOL_ERROR or STREAM_CLOSED)",
            _post_open(5) + _get_done(3),
        ),
        ("HEADERS twice with END_STREAM", late, _get_done() + _get_done()),
        (
            "HEADERS behind RST_STREAM",
            closed,
            _post_open() + r(3, 0, 1, _number(8)) + _get_done(),
        ),
        (
            "DATA behind RST_STREAM",
            closed,
            _post_open() + r(3, 0, 1, _number(8)) + r(0, 1, 1, b"x"),
        ),
        (
            "WINDOW_UPDATE behind RST_STREAM",
            _ALIVE,
            _post_open() + r(3, 0, 1, _number(8)) + r(8, 0, 1, _number(1)),
        ),
        ("RST_STREAM twice", _ALIVE, _post_open() + r(3, 0, 1, _number(8)) * 2),
        (
            "PRIORITY behind RST_STREAM",
            _ALIVE,
            _post_open() + r(3, 0, 1, _number(8)) + r(2, 0, 1, bytes(5)),
        ),
        ("DATA behind END_STREAM", late, _get_done() + r(0, 1, 1, b"x")),
        (
            "RST_STREAM with an unknown code",
            _ALIVE,
            _post_open() + r(3, 0, 1, _number(0xFFFFFFFF)),
        ),
        (
            "HEADERS that depends on itself",
            "RST or GOAWAY(PROTOCOL_ERROR)",
            r(1, 0x25, 1, _number(1) + b"\xff" + _GET_BLOCK),
        ),
        (
            "PUSH_PROMISE on an idle stream",
            _PROTOCOL,
            r(5, 4, 1, _number(2) + _GET_BLOCK),
        ),
        (
            "30 frames behind RST_STREAM",
            "at most one RST; the connection goes on",
            _post_open() + r(3, 0, 1, _number(8)) + r(0, 0, 1, b"x") * 30,
        ),
    ]


def _request(*fields: tuple[str, str | bytes], method: str = "GET") -> bytes:
    pseudo = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/"),
    ]
    return raw_frame(1, 5, 1, literal_block([*pseudo, *fields]))


def _only(*fields: tuple[str, str | bytes]) -> bytes:
    return raw_frame(1, 5, 1, literal_block(fields))


_M, _S, _A, _P = (
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a"),
    (":path", "/"),
)


def _malformed_requests() -> list[tuple[str, str, bytes]]:
    """RFC 9113 section 8: one stream's fault."""
    fields: list[tuple[str, str, str | bytes]] = [
        ("upper case in a name", "X-Foo", "y"),
        ("an empty name", "", "y"),
        ("a space in a name", "x y", "z"),
        ("a colon in a name", "x:y", "z"),
        ("CR in a name", "x\ry", "z"),
        ("NUL in a name", "x\0y", "z"),
        ("0xff in a name", "x\xff", "z"),
        ("DEL in a name", "x\x7f", "z"),
        ("LF in a value", "x", "a\nb"),
        ("NUL in a value", "x", "a\0b"),
        ("DEL in a value", "x", "a\x7fb"),
        ("a space before a value", "x", " y"),
        ("a space behind a value", "x", "y "),
        ("a tab behind a value", "x", "y\t"),
        ("keep-alive", "keep-alive", "timeout=5"),
        ("proxy-connection", "proxy-connection", "close"),
        ("upgrade", "upgrade", "h2c"),
        ("te: gzip", "te", "gzip"),
        ("te: trailers, gzip", "te", "trailers, gzip"),
        ("an unknown pseudo-field", ":foo", "bar"),
        ("a response's pseudo-field", ":status", "200"),
        (":protocol without CONNECT", ":protocol", "websocket"),
        ("another Host", "host", "b"),
        ("Host with userinfo", "host", "u@a"),
        ("content-length +0", "content-length", "+0"),
        ("content-length -1", "content-length", "-1"),
        ("content-length list", "content-length", "0, 0"),
        ("content-length empty", "content-length", ""),
        ("content-length too large", "content-length", "99999999999999999999"),
    ]
    swaps: list[tuple[str, str, str | bytes]] = [
        (":method empty", ":method", ""),
        (":method with a space", ":method", "GET /x"),
        (":method with CR LF", ":method", "GET\r\nX: y"),
        (":method 0xff", ":method", b"\xff"),
        (":path empty", ":path", ""),
        (":path with a space", ":path", "/a b"),
        (":path with a version", ":path", "/ HTTP/1.1"),
        (":path with CR LF", ":path", "/\r\nX: y"),
        (":path with a fragment", ":path", "/a#b"),
        (":path with NUL", ":path", "/\0"),
        (":path with DEL", ":path", "/\x7f"),
        (":path *", ":path", "*"),
        (":path absolute", ":path", "https://a/"),
        (":scheme empty", ":scheme", ""),
        (":scheme ftp", ":scheme", "ftp"),
        (":scheme with CR", ":scheme", "https\r"),
        (":authority empty", ":authority", ""),
        (":authority with userinfo", ":authority", "u@a"),
        (":authority with a slash", ":authority", "a/b"),
        (":authority with a space", ":authority", "a b"),
        (":authority with CR LF", ":authority", "a\r\nX: y"),
        (":authority 0xff", ":authority", b"\xff"),
        (":authority with a port of letters", ":authority", "a:b"),
    ]
    base: list[tuple[str, str | bytes]] = [_M, _S, _A, _P]
    trailers = [
        ("upper case in trailers", ("X-Y", "z")),
        ("a connection field in trailers", ("connection", "close")),
        ("content-length in trailers", ("content-length", "2")),
        ("host in trailers", ("host", "b")),
        ("CR LF in trailers", ("x", "a\r\nb")),
    ]
    return [
        *((name, "RSTS", _request((field, value))) for name, field, value in fields),
        *(
            (name, "RSTS", _only(*[(n, value if n == swapped else v) for n, v in base]))
            for name, swapped, value in swaps
        ),
        ("no :method", "RSTS", _only(_S, _A, _P)),
        ("no :scheme", "RSTS", _only(_M, _A, _P)),
        ("no :path", "RSTS", _only(_M, _S, _A)),
        ("no :authority and no Host", "RSTS", _only(_M, _S, _P)),
        ("no field at all", "RSTS", _only()),
        (":method twice", "RSTS", _only(_M, _M, _S, _A, _P)),
        (":scheme twice", "RSTS", _only(_M, _S, _S, _A, _P)),
        (":path twice", "RSTS", _only(_M, _S, _A, _P, _P)),
        (":authority twice", "RSTS", _only(_M, _S, _A, _A, _P)),
        ("a pseudo-field behind a field", "RSTS", _only(_M, _S, ("x", "y"), _A, _P)),
        ("Host twice", "RSTS", _request(("host", "a"), ("host", "a"))),
        (
            "content-length twice",
            "RSTS",
            _request(("content-length", "0"), ("content-length", "0")),
        ),
        ("101 fields", "431 on the stream", _request(*[("x", "y")] * 101)),
        (
            "fields of 65 KB",
            "431 on the stream",
            raw_frame(1, 1, 1, literal_block(base))
            + raw_frame(9, 0, 1, literal_block([("x", "y" * 16_000)])) * 4
            + raw_frame(9, 4, 1, literal_block([("x", "y" * 1500)])),
        ),
        (
            "content-length 1, END_STREAM on empty DATA",
            "RSTS",
            raw_frame(1, 4, 1, literal_block([*base, ("content-length", "1")]))
            + raw_frame(0, 1, 1),
        ),
        (
            "content-length 0, one byte",
            "RSTS",
            raw_frame(1, 4, 1, literal_block([*base, ("content-length", "0")]))
            + raw_frame(0, 1, 1, b"x"),
        ),
        (
            "content-length 3, 2 bytes and 2 bytes",
            "RSTS",
            raw_frame(1, 4, 1, literal_block([*base, ("content-length", "3")]))
            + raw_frame(0, 0, 1, b"ab")
            + raw_frame(0, 1, 1, b"cd"),
        ),
        *(
            (
                name,
                "RSTS",
                raw_frame(1, 4, 1, literal_block(base))
                + raw_frame(0, 0, 1, b"ab")
                + raw_frame(1, 5, 1, literal_block([field])),
            )
            for name, field in trailers
        ),
        ("0xff in a value", "200; the connection goes on", _request(("x", b"a\xffb"))),
        (
            "a tab inside a value",
            "200; the connection goes on",
            _request(("x", "a\tb")),
        ),
        ("te: trailers", "200; the connection goes on", _request(("te", "trailers"))),
        (
            "50 cookie crumbs",
            "200; the connection goes on",
            _request(*[("cookie", "a=b")] * 50),
        ),
        ("an empty value", "200; the connection goes on", _request(("x", ""))),
        ("the same Host", "200; the connection goes on", _request(("host", "a"))),
        (
            "Host in place of :authority",
            "200; the connection goes on",
            _only(_M, _S, _P, ("host", "a")),
        ),
        ("a method of our own", "200; the connection goes on", _request(method="BREW")),
    ]


def _hpack() -> list[tuple[str, str, bytes]]:
    """RFC 7541: what breaks the shared state ends the connection."""
    broken = [
        ("index 0", b"\x80"),
        ("index 70 of an empty table", b"\xc6"),
        ("name index 70 of an empty table", b"\x7f\x07\x01a"),
        ("an index that never ends", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f"),
        ("a string cut short", b"\x00\x05ab"),
        ("a length cut short", b"\x00\x7f"),
        ("padding of a string with zeros", b"\x00\x81\x18\x01a"),
        ("padding of more than seven bits", b"\x00\x82\x1f\xff\x01a"),
        ("EOS in a string", b"\x00\x84\xff\xff\xff\xff\x01a"),
        ("a table size above ours", b"\x3f\xe2\x1f"),
        ("a table size in the middle", b"\x20"),
        ("three table sizes", b""),
    ]
    rows = []
    for name, tail in broken:
        block = _GET_BLOCK + tail
        if name == "three table sizes":
            block = b"\x20\x20\x3f\xe1\x1f" + _GET_BLOCK
        elif name == "a table size above ours":
            block = tail + _GET_BLOCK
        rows.append((name, "GOAWAY(COMPRESSION_ERROR)", raw_frame(1, 5, 1, block)))
    resized = raw_frame(1, 5, 1, b"\x20\x3f\xe1\x1f" + _GET_BLOCK)
    return [
        *rows,
        ("two table sizes", "200; the connection goes on", resized),
        (
            "a fault in a refused block counts",
            "GOAWAY(COMPRESSION_ERROR)",
            _post_open() + raw_frame(3, 0, 1, _number(8)) + raw_frame(1, 5, 1, b"\x80"),
        ),
    ]


# Extended CONNECT ---------------------------------------------------------------------


def _connect(*fields: tuple[str, str | bytes], end: bool = False, **swap: str) -> bytes:
    pseudo: dict[str, str | bytes] = {
        ":method": "CONNECT",
        ":protocol": "websocket",
        ":scheme": "https",
        ":authority": "a",
        ":path": "/ws",
    }
    for name, value in swap.items():
        if value:
            pseudo[f":{name}"] = value
        else:
            del pseudo[f":{name}"]
    every = [*pseudo.items(), *fields]
    return raw_frame(1, 5 if end else 4, 1, literal_block(every))


def _extended_connects() -> list[tuple[str, str, bytes]]:
    """RFC 8441 and RFC 9113 section 8.5."""
    version = ("sec-websocket-version", "13")
    early = raw_frame(0, 0, 1, encode_frame(1, b"hi"))
    fine = ":status 200, no END_STREAM, no sec-websocket-accept; echo"
    return [
        ("no :scheme", "RSTS", _connect(version, scheme="")),
        ("no :authority", "RSTS", _connect(version, authority="")),
        (":protocol foo", "400/501", _connect(version, protocol="foo")),
        (":protocol connect-udp", "400/501", _connect(version, protocol="connect-udp")),
        (
            ":protocol with a space",
            "RSTS or 501",
            _connect(version, protocol="web socket"),
        ),
        (":path without a slash", "RSTS", _connect(version, path="ws")),
        (":path 0xff", "RSTS", _connect(version, path="/\xff")),
        (
            "version 8",
            "400 + sec-websocket-version: 13",
            _connect(("sec-websocket-version", "8")),
        ),
        (
            "version twice",
            "400 + sec-websocket-version: 13",
            _connect(version, version),
        ),
        ("content-length", "400", _connect(version, ("content-length", "5"))),
        ("content-length 0", "400", _connect(version, ("content-length", "0"))),
        ("Connection", "RSTS", _connect(version, ("connection", "upgrade"))),
        ("Upgrade", "RSTS", _connect(version, ("upgrade", "websocket"))),
        (
            "transfer-encoding",
            "RSTS",
            _connect(version, ("transfer-encoding", "chunked")),
        ),
        (
            "plain CONNECT",
            "405/501",
            raw_frame(
                1, 4, 1, literal_block([(":method", "CONNECT"), (":authority", "a:1")])
            ),
        ),
        (
            "plain CONNECT with :scheme",
            "RSTS",
            raw_frame(
                1,
                4,
                1,
                literal_block(
                    [
                        (":method", "CONNECT"),
                        (":authority", "a:1"),
                        (":scheme", "https"),
                    ]
                ),
            ),
        ),
        ("a route that is no WebSocket", "501", _connect(version, path="/other")),
        (
            ":protocol in another case",
            fine,
            _connect(version, protocol="WebSocket") + early,
        ),
        ("early data in the same segment", fine, _connect(version) + early),
        (
            "data a byte a frame",
            fine,
            _connect(version)
            + b"".join(
                raw_frame(0, 0, 1, bytes((byte,))) for byte in encode_frame(1, b"hi")
            ),
        ),
        (
            "padded data",
            fine,
            _connect(version)
            + raw_frame(0, 8, 1, b"\x05" + encode_frame(1, b"hi") + bytes(5)),
        ),
        ("an empty DATA frame", fine, _connect(version) + raw_frame(0, 0, 1) + early),
        (
            "subprotocol 0xff",
            "400",
            _connect(version, ("sec-websocket-protocol", b"\xff")) + early,
        ),
        (
            "trailers on the tunnel",
            "ended or reset; the connection goes on",
            _connect(version) + raw_frame(1, 5, 1, literal_block([("x", "y")])),
        ),
        (
            "HEADERS without END_STREAM on the tunnel",
            "ended or reset; the connection goes on",
            _connect(version) + raw_frame(1, 4, 1, literal_block([("x", "y")])),
        ),
        (
            "END_STREAM without a Close",
            "ended or reset; the connection goes on",
            _connect(version) + raw_frame(0, 1, 1),
        ),
        (
            "END_STREAM inside a frame",
            "ended or reset; the connection goes on",
            _connect(version) + raw_frame(0, 1, 1, encode_frame(1, b"hello")[:5]),
        ),
        (
            "RST_STREAM behind the request",
            "handler: 1006 within 100 ms;",
            _connect(version) + raw_frame(3, 0, 1, _number(8)),
        ),
        (
            "unmasked frame",
            "Close 1002",
            _connect(version) + raw_frame(0, 0, 1, b"\x81\x02hi"),
        ),
        (
            "PRIORITY on the tunnel",
            fine,
            _connect(version) + raw_frame(2, 0, 1, bytes(5)) + early,
        ),
    ]
