"""Waiting until more output is welcome."""

from tako.core.counters import Waits
from tako.core.writable import Writable
from tests.support.wire import FakeRuntime


class Output:
    """What a writer waits for."""

    writable = False
    over = False


def test_the_wait_ends_when_there_is_room() -> None:
    runtime, output = FakeRuntime(), Output()
    writable = Writable(output, runtime, Waits())
    task = runtime.spawn(writable.wait)
    runtime.run_ready()
    writable.wake()  # room for others: it was taken before this one ran
    runtime.run_ready()
    assert not task.done
    output.writable = True
    writable.wake()
    runtime.run_ready()
    assert task.done


def test_the_wait_ends_when_nothing_can_be_sent_any_more() -> None:
    runtime, output = FakeRuntime(), Output()
    writable = Writable(output, runtime, Waits())
    task = runtime.spawn(writable.wait)
    runtime.run_ready()
    output.over = True
    writable.wake()
    runtime.run_ready()
    assert task.done


def test_there_is_no_wait_while_there_is_room() -> None:
    runtime, output = FakeRuntime(), Output()
    output.writable = True
    task = runtime.spawn(Writable(output, runtime, Waits()).wait)
    runtime.run_ready()
    assert task.done
