"""``Hub``: numbers what workers publish, keeps some of it, and hands it to the others.

Theory of operation. The hub is a sequencer: whatever is published to a topic gets the
next offset of it, so that all workers see one order. A *member* is a connection of a
worker, with an *interest* in each topic that it has subscribed to. Bytes come in by
``receive``; what is to be sent stands in ``Member.output``, and ``take_touched`` says
which members have some. No I/O, no clock: the process around it is in ``process.py``.

What bounds it:

* A member's output. Messages beyond the bound are left out: per interest only the range
  of their offsets is kept, however many they are, and told by a GAP once half of the
  output is gone. Until then no later message of that topic is put out, so that the GAP
  stands in its place.
* Answers: a member is not worked for while its output is above its bound.
* Topics that a member subscribes to, topics without a subscriber, the history of all
  together. What was used longest ago goes first. A topic that is gone begins anew, with
  another epoch.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tako.topics.hub import wire
from tako.topics.log import Log


MOST_OUTPUT: Final = 4 << 20
"""Bytes that wait for a worker."""
MOST_INTERESTS: Final = 65_536
"""Topics that a connection of a worker subscribes to."""
_MOST_IDLE: Final = 10_000  # topics without a subscriber, unless a worker wants more
_MOST_KEPT: Final = 64 << 20  # bytes of history
_MOST_MESSAGES: Final = 10_000  # of a topic's history
_MOST_TOPICS: Final = 1_000_000  # that a worker may want to be kept
_PAGE: Final = 256 << 10  # bytes of history in one answer, but for the last message
_ENTRY: Final = 150  # bytes that Python needs for a message, beside its data

_Kept = tuple[float, int, int, bytes]  # when, size, flags, data


class _Keep:
    """How much of a topic is kept.

    Attributes:
        messages: so many; 0: none.
        seconds: for so long; 0: for any time.
        size: so many bytes, and one message in any case.
    """

    __slots__ = ("messages", "seconds", "size")

    def __init__(self, messages: int, seconds: float, size: int) -> None:
        self.messages: int = messages
        self.seconds: float = seconds
        self.size: int = size


_NOTHING: Final = _Keep(0, 0.0, 0)


class _Topic:
    """One topic.

    Attributes:
        name: in UTF-8.
        epoch: since when its offsets count.
        interests: of members.
        keep: what is kept of it.
        log: what is.
    """

    __slots__ = ("epoch", "interests", "keep", "log", "name")

    def __init__(self, name: bytes, epoch: bytes) -> None:
        self.name: bytes = name
        self.epoch: bytes = epoch
        self.interests: dict[_Interest, None] = {}
        self.keep: _Keep = _NOTHING
        self.log: Log[_Kept] = Log()


class _Interest:
    """A topic of a member.

    Attributes:
        number: what the member calls it.
        first: of the messages that were left out; 0: none is.
        last: the latest of them.
    """

    __slots__ = ("first", "last", "member", "number", "topic")

    def __init__(self, member: "Member", topic: _Topic, number: int) -> None:
        self.member: Member = member
        self.topic: _Topic = topic
        self.number: int = number
        self.first: int = 0
        self.last: int = 0


class Member:
    """A connection of a worker.

    Attributes:
        output: what it is to be sent; what is sent is taken from the front.
        fault: why it has to go; ``""``: it may stay.
        newer: it speaks a version that this hub is too old for.
    """

    __slots__ = (
        "acks",
        "fault",
        "frames",
        "gaps",
        "greeted",
        "interests",
        "keep",
        "newer",
        "output",
    )

    def __init__(self) -> None:
        self.output: bytearray = bytearray()
        self.fault: str = ""
        self.newer: bool = False
        self.frames: wire.Frames = wire.Frames()
        self.greeted: bool = False
        self.keep: _Keep = _NOTHING
        self.interests: dict[int, _Interest] = {}
        self.gaps: dict[_Interest, None] = {}
        self.acks: bytearray = bytearray()


class Hub:
    """Topics, and the members that publish and subscribe to them."""

    def __init__(
        self,
        clock: Callable[[], float],
        new_epoch: Callable[[], bytes],
        *,
        most_output: int = MOST_OUTPUT,
        most_interests: int = MOST_INTERESTS,
        most_idle: int = _MOST_IDLE,
        most_kept: int = _MOST_KEPT,
    ) -> None:
        """Make a hub without members.

        Args:
            clock: seconds that never go back.
            new_epoch: returns eight bytes, other ones each time.
            most_output: bytes that wait for a member; a message that is larger is sent
                if nothing waits.
            most_interests: topics that a member subscribes to.
            most_idle: topics without a subscriber.
            most_kept: bytes of history, of all topics.
        """
        self._clock = clock
        self._new_epoch = new_epoch
        self._most_output = most_output
        self._most_interests = most_interests
        self._most_idle = most_idle
        self._most_kept = most_kept
        self._topics: dict[bytes, _Topic] = {}
        self._idle: OrderedDict[_Topic, None] = OrderedDict()
        self._logs: OrderedDict[_Topic, None] = OrderedDict()  # with a history
        self._kept = 0
        self._touched: dict[Member, None] = {}

    # Members -------------------------------------------------------------------------

    def receive(self, member: Member, data: bytes) -> None:
        """Take bytes that came from ``member``."""
        member.frames.feed(data)
        self._work(member)

    def sent(self, member: Member) -> None:
        """Go on, now that some of the output of ``member`` is gone."""
        if member.gaps and len(member.output) <= self._most_output // 2:
            for interest in member.gaps:
                self._put_gap(interest)
            member.gaps.clear()
        self._work(member)

    def is_full(self, member: Member) -> bool:
        """Tell whether ``member`` is not worked for: nothing is to be received."""
        return len(member.output) > self._most_output

    def leave(self, member: Member) -> None:
        """Forget ``member``; it is gone."""
        for interest in member.interests.values():
            self._end_interest(interest)
        member.interests.clear()
        member.gaps.clear()
        self._touched.pop(member, None)

    def take_touched(self) -> list[Member]:
        """Return the members with new output, or a fault, since it was asked last."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def _work(self, member: Member) -> None:
        """Do what ``member`` wants, while it takes what that gives."""
        most, output, frames = self._most_output, member.output, member.frames
        while len(output) <= most and not member.fault:
            found = frames.next()
            if found is None:
                member.fault = frames.fault
                break
            kind, flags, number, offset, payload = found
            if kind == wire.PUB and member.greeted:
                self._publish(member, flags, number, payload)
            else:
                self._handle(member, kind, number, offset, payload)
        if member.acks:
            self._put(member, wire.frame(wire.ACK, bytes(member.acks)))
            member.acks.clear()
        if member.fault:
            self._touched[member] = None

    def _handle(
        self, member: Member, kind: int, number: int, offset: int, payload: bytes
    ) -> None:
        """Do what a frame that publishes nothing says."""
        if (kind == wire.HELLO) == member.greeted:
            member.fault = "HELLO is the first frame, and no other"
        elif kind == wire.HELLO:
            self._greet(member, number, offset, payload)
        elif kind == wire.SUB:
            self._subscribe(member, number, payload)
        elif kind == wire.UNSUB:
            self._unsubscribe(member, number)
        elif kind == wire.PAST:
            self._replay(member, number, offset, payload)
        else:
            member.fault = f"a frame of kind {kind}"

    def _greet(
        self, member: Member, messages: int, milliseconds: int, payload: bytes
    ) -> None:
        version = payload[0] if payload else 0
        member.newer = version > wire.VERSION
        if version != wire.VERSION or len(payload) != wire.GREETING.size:
            member.fault = f"version {version} is spoken, not {wire.VERSION}"
            return
        member.greeted = True
        if messages:
            _, size, topics = wire.GREETING.unpack(payload)
            most = min(messages, _MOST_MESSAGES)
            member.keep = _Keep(most, milliseconds / 1000, size)
            self._most_idle = max(self._most_idle, min(topics, _MOST_TOPICS))
        self._put(member, wire.frame(wire.HELLO, bytes([wire.VERSION])))

    def _subscribe(self, member: Member, number: int, name: bytes) -> None:
        if number in member.interests or len(member.interests) >= self._most_interests:
            member.fault = "a number is taken, or topics are too many"
            return
        topic = self._topic(member, name)
        if topic is None:
            return
        interest = _Interest(member, topic, number)
        member.interests[number] = interest
        topic.interests[interest] = None
        self._idle.pop(topic, None)
        self._put(
            member,
            wire.frame(wire.SUB, topic.epoch, number=number, offset=topic.log.last),
        )

    def _unsubscribe(self, member: Member, number: int) -> None:
        interest = member.interests.pop(number, None)
        if interest is None:
            member.fault = "UNSUB of no topic"
            return
        member.gaps.pop(interest, None)
        self._end_interest(interest)
        self._put(member, wire.frame(wire.UNSUB, number=number))

    def _end_interest(self, interest: _Interest) -> None:
        topic = interest.topic
        del topic.interests[interest]
        if not topic.interests:
            self._idle[topic] = None
            self._limit_idle()

    def _put(self, member: Member, data: bytes) -> None:
        member.output += data
        self._touched[member] = None

    # Messages ------------------------------------------------------------------------

    def _publish(self, member: Member, flags: int, size: int, payload: bytes) -> None:
        topic = self._topics.get(payload[:size])
        if topic is None:
            topic = self._topic(member, payload[:size])
            if topic is None:
                return
        data = payload[size:]
        if len(data) > wire.MOST_DATA:
            member.fault = f"a message of {len(data)} bytes"
            return
        topic.log.last = offset = topic.log.last + 1
        member.acks += wire.PLACE.pack(topic.epoch, offset)
        if member.keep.messages:
            topic.keep = member.keep
        if topic.keep.messages:
            self._keep(topic, flags, data)
        if not topic.interests:
            self._idle.move_to_end(topic)
            return
        length, most, pack = len(data), self._most_output, wire.HEADER.pack
        touched = self._touched
        for interest in topic.interests:
            reader = interest.member
            output = reader.output
            if interest.first:
                interest.last = offset
            elif output and len(output) + length > most:
                interest.first = interest.last = offset
                reader.gaps[interest] = None
            else:
                output += pack(length, wire.MSG, flags, interest.number, offset)
                output += data
                touched[reader] = None

    def _put_gap(self, interest: _Interest) -> None:
        payload = wire.OFFSET.pack(interest.first)
        number, last = interest.number, interest.last
        data = wire.frame(wire.GAP, payload, number=number, offset=last)
        self._put(interest.member, data)
        interest.first = 0

    # Topics and their history --------------------------------------------------------

    def _topic(self, member: Member, name: bytes) -> _Topic | None:
        """Return the topic of a name; ``None``: there can be none, a fault says why."""
        topic = self._topics.get(name)
        if topic is not None:
            return topic
        try:
            name.decode()
        except UnicodeDecodeError:
            member.fault = "the name of a topic is not UTF-8"
            return None
        if not 1 <= len(name) <= wire.MOST_NAME:
            member.fault = f"the name of a topic has {len(name)} bytes"
            return None
        topic = self._topics[name] = _Topic(name, self._new_epoch())
        self._idle[topic] = None
        self._limit_idle()
        return topic

    def _limit_idle(self) -> None:
        if len(self._idle) > self._most_idle:
            topic, _ = self._idle.popitem(last=False)
            self._trim(topic, 0, self._clock())
            del self._topics[topic.name]

    def _keep(self, topic: _Topic, flags: int, data: bytes) -> None:
        now = self._clock()
        size = len(data)
        topic.log.add((now, size, flags, data))
        self._kept += size + _ENTRY
        self._logs[topic] = None
        self._logs.move_to_end(topic)
        self._trim(topic, topic.keep.messages, now)
        while self._kept > self._most_kept:
            longest_ago = next(iter(self._logs))
            self._trim(longest_ago, len(longest_ago.log) - 1, now)

    def _trim(self, topic: _Topic, messages: int, now: float) -> None:
        """Drop what is beyond so many messages, or the other bounds of a topic."""
        log, keep = topic.log, topic.keep
        count, size = len(log), log.size
        before = now - keep.seconds if keep.seconds else None
        log.trim(messages, keep.size, before)
        self._kept -= size - log.size + (count - len(log)) * _ENTRY
        if count and not log:
            del self._logs[topic]

    def _replay(self, member: Member, number: int, since: int, payload: bytes) -> None:
        """Answer with what is kept behind a place; with all of it, if that is none."""
        epoch, name = payload[: wire.EPOCH], payload[wire.EPOCH :]
        topic = self._topics.get(name)
        if topic is None:
            self._put(member, wire.frame(wire.DONE, bytes(wire.EPOCH), number=number))
            return
        self._trim(topic, topic.keep.messages, self._clock())
        log = topic.log
        known = topic.epoch == epoch and log.knows(since)
        flags = wire.COMPLETE if known else 0
        size = 0
        for offset, (_, _, kind, data) in log.behind(since if known else None):
            if size >= _PAGE:
                flags |= wire.MORE
                break
            size += len(data)
            self._put(
                member,
                wire.frame(wire.PAST, data, flags=kind, number=number, offset=offset),
            )
        self._put(
            member,
            wire.frame(
                wire.DONE, topic.epoch, flags=flags, number=number, offset=log.last
            ),
        )
