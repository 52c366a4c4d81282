"""The hub: what carries messages between the workers of one machine.

A worker's supervisor hands it a *door* (``adopt``), through which an engine reaches the
hub; ``joined`` makes that engine.
"""

import socket

from tako.topics.engine import Engine
from tako.topics.history import History
from tako.topics.hub.engine import HubEngine


__all__ = ["adopt", "joined"]

_door: socket.socket | None = None


def adopt(door: socket.socket) -> None:
    """Take the door of this process, for good."""
    global _door  # noqa: PLW0603 - a process has one
    door.setblocking(False)
    _door = door


def joined(history: History | None = None) -> Engine | None:
    """Return an engine that goes through the hub; ``None``: this is no worker.

    Args:
        history: what the hub keeps of the topics that the engine publishes to.
    """
    return None if _door is None else HubEngine(_door, history)
