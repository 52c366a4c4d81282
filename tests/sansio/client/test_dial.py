"""Which of a host's addresses a client is connected to (RFC 8305)."""

import socket
from typing import Any, cast

import pytest

from tako.runtime.backend import Address, ClientRuntime
from tako.runtime.dial import dial, interleaved, unix_address
from tests.support.wire import Cancelled, FakeRuntime


V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


class FakeSocket:
    def __init__(self, address: Address) -> None:
        self.address = address
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Dialer(FakeRuntime):
    """Connects when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[Address] = []
        self.outcomes: dict[Address, OSError | FakeSocket] = {}
        self.cancelled_attempts: list[Address] = []
        self._changed = self.signal()

    async def dial(self, address: Address) -> FakeSocket:
        self.begun.append(address)
        try:
            while address not in self.outcomes:
                await self._changed.wait()
        except Cancelled:
            self.cancelled_attempts.append(address)
            raise
        outcome = self.outcomes[address]
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def settle(self, address: Address, error: str | None = None) -> None:
        self.outcomes[address] = OSError(error) if error else FakeSocket(address)
        self._changed.set()
        self.run_ready()

    def start(self, *addresses: Address) -> Any:
        task = self.spawn(dial, cast("ClientRuntime", self), list(addresses))
        self.run_ready()
        return task


A, B, C = (V6, "a"), (V4, "b"), (V6, "c")


@pytest.fixture
def dialer() -> Dialer:
    return Dialer()


def test_families_take_turns_and_the_systems_first_choice_leads() -> None:
    addresses = [(V6, 1), (V6, 2), (V6, 3), (V4, 4)]
    assert interleaved(addresses) == [(V6, 1), (V4, 4), (V6, 2), (V6, 3)]
    assert interleaved([]) == []


def test_the_first_that_connects_is_the_only_one_tried(dialer: Dialer) -> None:
    task = dialer.start(A, B)
    dialer.settle(A)
    assert task.result.address == A
    assert dialer.begun == [A]


def test_the_next_begins_when_one_fails(dialer: Dialer) -> None:
    task = dialer.start(A, B)
    dialer.settle(A, "refused")
    assert dialer.begun == [A, B]
    dialer.settle(B)
    assert task.result.address == B


def test_the_next_begins_after_a_quarter_of_a_second(dialer: Dialer) -> None:
    task = dialer.start(A, B)
    dialer.advance(0.24)
    assert dialer.begun == [A]
    dialer.advance(0.02)
    assert dialer.begun == [A, B]
    dialer.settle(B)
    assert task.result.address == B
    dialer.run_ready()
    assert dialer.cancelled_attempts == [A]


def test_a_slow_one_may_still_win(dialer: Dialer) -> None:
    task = dialer.start(A, B)
    dialer.advance(0.3)
    dialer.settle(B, "refused")
    assert not task.done
    dialer.settle(A)
    assert task.result.address == A


def test_all_errors_are_told(dialer: Dialer) -> None:
    task = dialer.start(A, C, B)
    for address in (A, B, C):
        dialer.settle(address, f"refused {address[1]}")
    assert isinstance(task.error, ExceptionGroup)
    assert [str(each) for each in task.error.exceptions] == [
        "refused a",
        "refused b",
        "refused c",
    ]


def test_a_cancelled_call_leaves_no_attempt(dialer: Dialer) -> None:
    task = dialer.start(A, B)
    dialer.advance(0.3)
    task.cancel()
    dialer.run_ready()
    assert task.cancelled
    assert set(dialer.cancelled_attempts) == {A, B}


def test_a_unix_socket_has_an_address() -> None:
    assert unix_address("/run/a") == (int(socket.AF_UNIX), "/run/a")
