"""What tako writes to Redis: names of channels and keys, payloads, the two scripts.

A payload is a head, a space, and the data. The head is ``T`` for text or ``B`` for
bytes; behind that letter stands the position, where there is a history. With a history
each topic has two keys in the slot of its channel. One is a hash: ``epoch``,
``offset``, ``run`` (of the server that has numbered last), ``total`` (the bytes of all
payloads so far), ``largest`` (of them). One is a stream, the ids of which are the
offsets: the payload, its time, and the bytes before it, so that nobody has to count
what is kept where it cannot be too much.

An epoch ends with the process of the server: what comes back after a restart or a
failover may be older than what subscribers have seen, and offsets would be given twice.
"""

from binascii import crc_hqx
from secrets import token_hex
from typing import Final

from tako.topics.history import History
from tako.topics.item import Data, Position


KEPT: Final = 86_400
"""Seconds after the last message at which a topic is forgotten, with its epoch."""

PUBLISH: Final = b"""
local meta, log = KEYS[1], KEYS[2]
local known = redis.call('HMGET', meta, 'epoch', 'run', 'largest')
local epoch, largest = known[1], tonumber(known[3] or 0)
if not epoch or known[2] ~= ARGV[4] then
  epoch, largest = ARGV[5], 0
  redis.call('DEL', meta, log)
  redis.call('HSET', meta, 'epoch', epoch, 'run', ARGV[4])
end
local offset = redis.call('HINCRBY', meta, 'offset', 1)
local kind, rest = string.sub(ARGV[3], 1, 1), string.sub(ARGV[3], 2)
local sent = redis.pcall(ARGV[1], ARGV[2], kind .. epoch .. '.' .. offset .. rest)
if type(sent) == 'table' and sent.err then
  redis.call('HINCRBY', meta, 'offset', -1)
  return sent
end
local messages, limit, size = tonumber(ARGV[6]), tonumber(ARGV[7]), #ARGV[3]
local total, now = redis.call('HINCRBY', meta, 'total', size), redis.call('TIME')
redis.call('XADD', log, 'MAXLEN', messages, offset .. '-0',
  'd', ARGV[3], 't', now[1] .. '.' .. now[2], 'b', total - size)
if size > largest then
  largest = size
  redis.call('HSET', meta, 'largest', size)
end
while largest * messages > limit do
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if first[1] == offset .. '-0' or total - first[2][6] <= limit then break end
  redis.call('XDEL', log, first[1])
end
redis.call('EXPIRE', meta, ARGV[8])
redis.call('PEXPIRE', log, ARGV[9])
return {epoch, offset}
"""
"""Number a message, publish it, keep it. KEYS: hash, stream. ARGV: PUBLISH or SPUBLISH,
channel, payload, run, an epoch nobody has, messages, bytes, seconds, milliseconds."""

READ: Final = b"""
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'run')
local epoch, offset = meta[1] or '', tonumber(meta[2] or 0)
local items = {}
if ARGV[3] ~= '0' then
  local from = '-'
  if epoch == ARGV[1] and tonumber(ARGV[2]) <= offset then
    from = '(' .. ARGV[2] .. '-0'
  end
  items = redis.call('XRANGE', KEYS[2], from, '+')
end
local now = redis.call('TIME')
return {epoch, offset, meta[3] or '', now[1] .. '.' .. now[2], items}
"""
"""Read what is kept behind a position; all, if that is unknown. KEYS: hash, stream.
ARGV: epoch, offset, 0 for the end of the topic alone."""


class Names:
    """The channel and the keys of topics, under a prefix."""

    __slots__ = ("_prefix",)

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def channel(self, topic: str) -> bytes:
        """Return the channel of a topic; its braces say what the slot is made of."""
        return f"{self._prefix}{{{topic}}}".encode()

    def keys(self, topic: str) -> tuple[bytes, bytes]:
        """Return the keys of its hash and its stream, which are in the same slot."""
        channel = self.channel(topic)
        return channel + b":meta", channel + b":log"


def slot(topic: str) -> int:
    """Return the slot of a cluster that a topic is in (CRC-16/XMODEM of the name)."""
    return crc_hqx(topic.encode(), 0) % 16_384


def pack(data: Data) -> bytes:
    """Return the payload of a message without a position."""
    return b"T " + data.encode() if isinstance(data, str) else b"B " + data


def unpack(payload: bytes) -> tuple[Data, Position | None]:
    """Return the data and the position.

    Raises:
        ValueError: it is no payload of tako's.
    """
    head, space, data = payload.partition(b" ")
    kind, place = head[:1], head[1:].decode("ascii")
    position = Position.parse(place) if place else None
    if not space or kind not in {b"T", b"B"} or (place and position is None):
        msg = "not a message of tako's"
        raise ValueError(msg)
    return (data.decode() if kind == b"T" else data), position


def age(stamp: bytes, now: bytes) -> float:
    """Return how many seconds lie between two times of a script."""
    (begin, micro), (end, more) = stamp.split(b"."), now.split(b".")
    return int(end) - int(begin) + (int(more) - int(micro)) / 1e6


def new_epoch() -> str:
    """Return an epoch that nobody has."""
    return token_hex(8)


def kept(history: History) -> tuple[int, int, int, int]:
    """Return what ``PUBLISH`` has to know of how much is kept."""
    seconds = KEPT if history.seconds is None else min(history.seconds, KEPT)
    return history.messages, history.size, KEPT, max(int(seconds * 1000), 1)
