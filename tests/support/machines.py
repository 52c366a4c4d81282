"""Two machines in one, for tests: each has an address, and a link to Redis of its own.

Where root may, a machine is a network namespace with two pairs of virtual interfaces:
by one it is reached, behind the other is Redis, and to cut the link is to take that one
down. Elsewhere it is an address of the loopback, and a ``CutLink`` is before Redis.
"""

import itertools
import os
import shutil
import subprocess
from types import TracebackType
from typing import Protocol, Self

from tests.support.redis_server import CutLink


_numbers = itertools.count(os.getpid() % 60 * 4)


class Machine(Protocol):
    """Where processes run."""

    address: str
    """At which it is reached."""
    router: str
    """An address of this machine, at which it reaches Redis if that listens there."""
    prefix: tuple[str, ...]
    """What a command that runs there begins with."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def link(self, port: int) -> int:
        """Return at which port of ``router`` it finds Redis, which is at ``port``."""

    def cut(self) -> None:
        """Take the link to Redis away: packets are lost, and nobody is told."""

    def mend(self) -> None:
        """Give it back."""


def ip(*words: str) -> bool:
    """Run ``ip``; return whether it could."""
    done = subprocess.run(["ip", *words], capture_output=True, check=False, timeout=30)
    return done.returncode == 0


def namespaces() -> bool:
    """Tell whether network namespaces can be made."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"tako-probe-{os.getpid()}"
    made = ip("netns", "add", name)
    works = made and ip("-n", name, "link", "add", "probe", "type", "veth")
    if made:
        ip("netns", "del", name)
    return works


class Namespace:
    """A machine that is a network namespace."""

    def __init__(self) -> None:
        number = next(_numbers)
        self._name = f"tako-{os.getpid()}-{number}"
        self._links = [f"tk{os.getpid() % 100_000}{end}{number}" for end in "fb"]
        self._net = f"10.77.{number % 256}"
        self.address = f"{self._net}.2"
        self.router = f"{self._net}.129"
        self.prefix = ("ip", "netns", "exec", self._name)

    def __enter__(self) -> Self:
        assert ip("netns", "add", self._name)
        assert ip("-n", self._name, "link", "set", "lo", "up")
        for link, here, there in zip(self._links, (1, 129), (2, 130), strict=True):
            inside = ("peer", "name", f"{link}p", "netns", self._name)
            assert ip("link", "add", link, "type", "veth", *inside)
            assert ip("addr", "add", f"{self._net}.{here}/25", "dev", link)
            assert ip("link", "set", link, "up")
            at = ("addr", "add", f"{self._net}.{there}/25", "dev", f"{link}p")
            assert ip("-n", self._name, *at)
            assert ip("-n", self._name, "link", "set", f"{link}p", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            ip("link", "del", link)
        ip("netns", "del", self._name)

    def link(self, port: int) -> int:
        return port

    def cut(self) -> None:
        assert ip("link", "set", self._links[1], "down")

    def mend(self) -> None:
        assert ip("link", "set", self._links[1], "up")


class LoopbackAddress:
    """A machine that is an address of this one."""

    prefix: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.address = f"127.0.77.{next(_numbers) % 250 + 2}"
        self.router = "127.0.0.1"
        self._link: CutLink | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._link is not None:
            self._link.__exit__(kind, value, traceback)

    def link(self, port: int) -> int:
        self._link = CutLink(port).__enter__()
        return self._link.port

    def cut(self) -> None:
        assert self._link is not None
        self._link.cut()

    def mend(self) -> None:
        assert self._link is not None
        self._link.mend()
