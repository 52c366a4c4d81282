"""The grammar of RFC 9110 and RFC 3986 that both wires hold a request to.

One place for the rules, so that HTTP/1.1 and HTTP/2 accept the same requests. None of
the checks raises. Whether each byte of a value is allowed is asked of a table: a match
of a regular expression takes three times as long.
"""

import re
from typing import Final


TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""A character of a token (RFC 9110 §5.6.2), as a piece of a regular expression."""

LOWER_TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9a-z]"
"""A character of a field name as HTTP/2 has it (RFC 9113 §8.2.1)."""

FIELD_CHAR: Final = rb"[\t\x20-\x7e\x80-\xff]"
"""A character of a field value, white space among them (RFC 9110 §5.5)."""


def _marks(character: bytes) -> bytes:
    """Return a table for ``bytes.translate``: NUL for what is not ``character``."""
    one = re.compile(character, re.DOTALL)
    every = [bytes([byte]) for byte in range(256)]
    return bytes([one.fullmatch(byte) is not None for byte in every])


_TCHARS: Final = _marks(TCHAR)
_LOWER_TCHARS: Final = _marks(LOWER_TCHAR)
_FIELD_CHARS: Final = _marks(FIELD_CHAR)
_PATH_CHARS: Final = _marks(rb"[\x21\x22\x24-\x7e]")
_REG_NAME: Final = rb"[0-9A-Za-z\-._~!$&'()*+,;=%]"  # RFC 3986 §3.2.2
_REG_NAME_CHARS: Final = _marks(_REG_NAME)
_AUTHORITY: Final = re.compile(
    rb"(?:"
    + _REG_NAME
    + rb"+|\[[0-9A-Fa-f:.]+\]"
    + rb"|\[v[0-9A-Fa-f]+\.[0-9A-Za-z\-._~!$&'()*+,;=:]+\])(?::([0-9]*))?"
)
_MAX_DIGITS: Final = 19  # of a number that 64 bits hold

MAX_METHOD: Final = 64
"""Bytes of the longest method that is served, on both wires."""

_MAX_PORT: Final = 65535


def is_token(value: bytes) -> bool:
    """Tell whether ``value`` is a token (RFC 9110 §5.6.2): a method, a field name."""
    return bool(value) and 0 not in value.translate(_TCHARS)


def is_lower_name(name: bytes) -> bool:
    """Tell whether ``name`` is a field name in lower case (RFC 9113 §8.2.1)."""
    return bool(name) and 0 not in name.translate(_LOWER_TCHARS)


def is_field_content(value: bytes) -> bool:
    """Tell whether ``value`` may be part of a field value (RFC 9110 §5.5)."""
    return 0 not in value.translate(_FIELD_CHARS)


def is_field_value(value: bytes) -> bool:
    """Tell whether ``value`` is a field value without outer white space.

    RFC 9110 §5.5. Stricter than RFC 9113 §8.2.1 in one respect: other control
    characters are refused too, as RFC 9110 §5.5 allows.
    """
    if not value:
        return True
    # Of what is up to 0x20 only HTAB and SP may be part of one
    return value[0] > 0x20 and value[-1] > 0x20 and is_field_content(value)


def is_path(target: bytes) -> bool:
    """Tell whether ``target`` is in origin-form: an absolute path, perhaps a query.

    No fragment, white space, control character or byte above 0x7e (RFC 9112 §3.2.1).
    """
    # 0x2f is a slash
    return bool(target) and target[0] == 0x2F and 0 not in target.translate(_PATH_CHARS)


def is_authority(value: bytes) -> bool:
    """Tell whether ``value`` is ``host [ ":" port ]``, no userinfo (RFC 9110 §7.2)."""
    if value and 0 not in value.translate(_REG_NAME_CHARS):
        return True  # as most: a name, no port
    match = _AUTHORITY.fullmatch(value)
    return match is not None and int(match[1] or b"0") <= _MAX_PORT


def content_length(value: bytes) -> int | None:
    """Return the number that ``value`` spells in decimal digits, else ``None``.

    RFC 9110 §8.6; ``None`` also for a number that 64 bits cannot hold.
    """
    return int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else None


def members(values: list[bytes]) -> list[bytes]:
    """Return the members of the comma-separated lists in ``values``, in lower case.

    For lists of tokens without case; quoted strings are not looked for. White space
    around members does not count (RFC 9110 §5.6.1).
    """
    return [
        member.strip(b" \t") for value in values for member in value.lower().split(b",")
    ]


def has_token(values: list[bytes], token: bytes) -> bool:
    """Tell whether the lists in ``values`` contain ``token``; see ``members``."""
    return token in members(values)


def expects_continue(values: list[bytes]) -> bool | None:
    """Tell whether ``Expect`` asks for 100 (Continue); ``None``: for something else.

    RFC 9110 §10.1.1: there is no other expectation, and case does not count.
    """
    expectations = set(members(values))
    return bool(expectations) if expectations <= {b"100-continue"} else None
