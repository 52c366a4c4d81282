"""``Method``: the request methods of RFC 9110 §9 and RFC 5789, as strings."""

from enum import StrEnum


class Method(StrEnum):
    """A request method; equal to its name, so a plain string can stand for it.

    The order is that of an ``Allow`` header.
    """

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    PATCH = "PATCH"
    HEAD = "HEAD"
    OPTIONS = "OPTIONS"
    CONNECT = "CONNECT"
    TRACE = "TRACE"
