"""Media types (RFC 9110 §8.3), and bodies read by them: text and URL-encoded forms."""

import re
from typing import Final
from urllib.parse import parse_qs

from tako.errors import HttpError
from tako.http.headers import Headers


_MAX_FIELDS: Final = 1000
# Not everything that Python can decode: some of its codecs take quadratic time.
_CHARSETS: Final = frozenset(
    [
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "iso-8859-1",
        "latin1",
        "iso-8859-2",
        "iso-8859-15",
        "windows-1250",
        "windows-1251",
        "windows-1252",
        "koi8-r",
        "utf-16",
        "utf-16le",
        "utf-16be",
        "shift_jis",
        "euc-jp",
        "euc-kr",
        "gbk",
        "gb18030",
        "big5",
    ]
)
_CHARSET: Final = re.compile(r';\s*charset="?([^\s";]+)', re.IGNORECASE)


def essence(headers: Headers) -> str:
    """Return the media type without its parameters (RFC 9110 §8.3.1), in lower case."""
    value = headers.get("content-type") or ""
    return value.partition(";")[0].strip().lower()


def decode_text(data: bytes, content_type: str) -> str:
    """Return ``data`` as text in the charset of ``content_type``, else UTF-8.

    Raises:
        HttpError: 400, ``data`` is not in that charset, or the charset is unknown.
    """
    declared = _CHARSET.search(content_type)
    charset = declared[1].lower() if declared else "utf-8"
    if charset not in _CHARSETS:
        raise HttpError(400, "Failed to decode text: unknown charset")
    try:
        return data.decode(charset)
    except UnicodeError as error:
        raise HttpError(400, "Failed to decode text") from error


def parse_fields(data: bytes) -> dict[str, list[str]]:
    """Return the fields of a URL-encoded form.

    Raises:
        HttpError: 400, ``data`` is not such a form, or it has more than 1000 fields.
    """
    try:
        return parse_qs(
            data.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as error:
        raise HttpError(400, "Failed to deserialize form") from error
