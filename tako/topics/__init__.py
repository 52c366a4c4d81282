"""Topics: messages to everyone who subscribes; see the README here."""

from tako.topics.counts import Counts
from tako.topics.engine import Engine, Receiver, Replay
from tako.topics.feed import Feed
from tako.topics.history import History
from tako.topics.item import OLDEST, Cause, Data, Gap, Item, Position
from tako.topics.policy import Policy, close, drop_newest, drop_oldest, latest
from tako.topics.topics import Topics


__all__ = [
    "OLDEST",
    "Cause",
    "Counts",
    "Data",
    "Engine",
    "Feed",
    "Gap",
    "History",
    "Item",
    "Policy",
    "Position",
    "Receiver",
    "Replay",
    "Topics",
    "close",
    "drop_newest",
    "drop_oldest",
    "latest",
]
