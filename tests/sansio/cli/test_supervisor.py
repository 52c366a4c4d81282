"""What the supervisor does at which moment, with processes that are none."""

import dataclasses
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest


pytest.importorskip("click")

from tako.cli import child as child_module, supervisor
from tako.cli.child import Child, ChildState
from tako.cli.listeners import Bound
from tako.cli.logs import Logs
from tako.cli.plan import MOST_WORKERS, Plan
from tako.cli.service_manager import ServiceManager
from tako.cli.supervisor import Supervisor
from tako.config import ServerConfig
from tako.http.headers import Headers
from tako.server.listener import Listener
from tako.server.unix import bind_unix


PLAN = Plan(
    target="app:app",
    binds=(),
    plain_binds=(),
    metrics_binds=(),
    inspect_binds=(),
    https_redirect=False,
    wire="plain",
    certs=(),
    dev_cert=False,
    acme=None,
    password=None,
    client_auth=None,
    proxy=None,
    config=ServerConfig(drain_timeout=10.0),
    workers=2,
    worker_timeout=None,
    max_requests=None,
    max_requests_jitter=0,
    max_worker_rss=None,
    reload_folders=(),
    reload_include=(),
    reload_exclude=(),
    app_folder=Path(),
    runtime="asyncio",
    loop="asyncio",
    backlog=1024,
    unix_mode=None,
    fields=Headers(),
    allowed_hosts=None,
    request_id=None,
    trust_id=False,
    otel=False,
    logs=Logs(
        level="info",
        form="text",
        config=None,
        access=False,
        access_format=None,
        request_ids=False,
    ),
    verbose=False,
    asgi={},
)
TERM, KILL, ABRT = signal.SIGTERM, signal.SIGKILL, signal.SIGABRT


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Process:
    """A process that takes signals, and ends when the test says so."""

    def __init__(self, pid: int, link: socket.socket, door: socket.socket) -> None:
        self.pid = pid
        self.link = link
        self.door = door
        self.signals: list[int] = []
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            self.signals.append(number)

    def kill(self) -> None:
        self.send_signal(KILL)

    def say(self, line: bytes) -> None:
        self.link.sendall(line + b"\n")

    def told(self) -> bytes:
        """Return what the supervisor has written on the link."""
        try:
            return self.link.recv(1000)
        except BlockingIOError:
            return b""

    def end(self, code: int = 0) -> None:
        self.returncode = code


class Manager(ServiceManager):
    """Keeps what it tells."""

    def __init__(self, watchdog: float | None = None) -> None:
        super().__init__("/nowhere", watchdog)
        self.told: list[str] = []

    def _tell(self, *lines: str) -> None:
        self.told.append(lines[0])


class Bench:
    """A supervisor on a clock of its own; its processes are none."""

    def __init__(self, clock: Clock, plan: Plan, manager: Manager) -> None:
        self.clock = clock
        self.manager = manager
        self.processes: list[Process] = []
        self.no_more = False
        self.supervisor = made = Supervisor(plan, Bound(Listener([]), None), manager)
        made._spawn = self._spawn  # type: ignore[method-assign,assignment]
        select = made._selector.select
        made._selector.select = lambda timeout=None: select(0)  # type: ignore[method-assign]

    def _spawn(
        self, _slot: int, _place: int
    ) -> tuple[Process, socket.socket, socket.socket]:
        if self.no_more:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        door, their_door = socket.socketpair()
        door.setblocking(False)
        self.processes.append(Process(100 + len(self.processes), theirs, their_door))
        return self.processes[-1], ours, door

    def close(self) -> None:
        for child in self.supervisor._children:
            child.link.close()
        for process in self.processes:
            process.link.close()
            process.door.close()
        self.supervisor.close()

    # What happens --------------------------------------------------------------------

    def start(self) -> "Bench":
        """Start the first worker."""
        self.supervisor._start(1)
        return self

    def serve(self) -> "Bench":
        """Start all, and have them ready."""
        self.start()
        self.ready(self.processes[0])
        for process in self.processes[1:]:
            self.ready(process)
        return self

    def ready(self, process: Process) -> None:
        process.say(b"ready a router")
        self.turn()

    def end(self, process: Process, code: int = 0) -> None:
        process.end(code)
        self.turn()

    def signal(self, number: int) -> None:
        self.supervisor._signals.append(number)
        self.turn()

    def turn(self, later: float = 0.0) -> None:
        self.clock.now += later
        self.supervisor._turn()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in turns as the supervisor wants them."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            wanted = self.supervisor._timeout()
            left = end - self.clock.now
            self.turn(left if wanted is None else min(max(wanted, 0.01), left))

    # What there is -------------------------------------------------------------------

    @property
    def last(self) -> Process:
        return self.processes[-1]

    @property
    def code(self) -> int | None:
        """The exit code, if this is its end."""
        return None if self.supervisor._children else self.supervisor._code

    def child(self, process: Process) -> Child:
        (found,) = (
            each
            for each in self.supervisor._children
            if cast("object", each.process) is process
        )
        return found

    def beat(self, process: Process) -> None:
        """Have the event loop of a worker turn."""
        self.supervisor._pulse._beats[self.child(process).slot] = self.clock.now


Make = Callable[..., Bench]


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Make]:
    """Return a function that makes a bench, of a plan with some changes."""
    caplog.set_level(logging.INFO, "tako")
    clock = Clock()
    monkeypatch.setattr(supervisor, "time", clock)
    made: list[Bench] = []

    def make(watchdog: float | None = None, **changes: Any) -> Bench:
        plan = dataclasses.replace(PLAN, **changes)
        made.append(Bench(clock, plan, Manager(watchdog)))
        return made[-1]

    yield make
    for each in made:
        each.close()


class TestEnding:
    """One signal ends all, gracefully and whatever is going on; a second one kills."""

    def starting(self, bench: Make) -> Bench:
        return bench().start()

    def others_starting(self, bench: Make) -> Bench:
        made = bench(workers=3).start()
        made.ready(made.processes[0])
        return made

    def serving(self, bench: Make) -> Bench:
        return bench().serve()

    def rolling(self, bench: Make) -> Bench:
        made = bench().serve()
        made.signal(signal.SIGHUP)
        assert len(made.processes) == 3
        return made

    def rolled(self, bench: Make) -> Bench:
        made = self.rolling(bench)
        made.ready(made.last)
        assert made.processes[0].told() == b"replaced\n"
        return made

    def pausing(self, bench: Make) -> Bench:
        made = bench().serve()
        made.end(made.processes[1], 3)  # another at once
        made.turn()
        made.end(made.processes[2], 3)  # and another in a while
        assert made.supervisor._due
        return made

    def pausing_alone(self, bench: Make) -> Bench:
        made = bench(workers=1).serve()
        for _ in range(2):
            made.end(made.last, 3)
            made.turn()
        assert made.supervisor._due
        assert not made.supervisor._children
        return made

    def dying(self, bench: Make) -> Bench:
        made = bench().serve()
        made.processes[1].end(-9)  # it was not waited for yet
        return made

    def growing(self, bench: Make) -> Bench:
        made = bench().serve()
        made.signal(signal.SIGTTIN)
        assert len(made.processes) == 3
        return made

    def shrinking(self, bench: Make) -> Bench:
        made = bench().serve()
        made.signal(signal.SIGTTOU)
        return made

    def hanging(self, bench: Make) -> Bench:
        made = bench(worker_timeout=4.0).serve()
        made.pass_time(5.2)
        assert made.processes[0].signals == [ABRT]
        return made

    STATES = (
        "starting",
        "others_starting",
        "serving",
        "rolling",
        "rolled",
        "pausing",
        "pausing_alone",
        "dying",
        "growing",
        "shrinking",
        "hanging",
    )

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("state", STATES)
    def test_one_signal_ends_all(self, bench: Make, state: str, number: int) -> None:
        made: Bench = getattr(self, state)(bench)
        running = [each for each in made.processes if each.returncode is None]
        before = {each: list(each.signals) for each in running}
        told = {
            each
            for each in running
            if made.child(each).state in {ChildState.STOPPING, ChildState.HUNG}
        }
        made.signal(number)
        for process in running:
            wanted = [] if process in told else [TERM]
            assert process.signals == before[process] + wanted
        started = len(made.processes)
        for process in running:
            process.link.setblocking(True)
            made.ready(process)  # too late
            assert made.child(process).state is not ChildState.READY
            made.end(process)
        for other in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
            made.signal(other)
        made.supervisor._changes.append("apps.py")
        made.pass_time(100.0)
        assert len(made.processes) == started  # no other takes their place
        assert made.code == 0
        assert made.manager.told.count("STOPPING=1") == 1
        assert made.manager.told[-1] == "STOPPING=1"

    @pytest.mark.parametrize("state", STATES)
    def test_a_second_one_kills(self, bench: Make, state: str) -> None:
        made: Bench = getattr(self, state)(bench)
        made.signal(TERM)
        running = [each for each in made.processes if each.returncode is None]
        made.signal(TERM)
        for process in running:
            assert process.signals[-1] == KILL
            made.end(process, -9)
        assert made.code == 128 + TERM or not running

    @pytest.mark.parametrize(("delay", "limit"), [(None, 16.0), (20.0, 35.0)])
    def test_a_worker_that_does_not_end_is_killed_once_its_drain_must_be_over(
        self,
        bench: Make,
        delay: float | None,
        limit: float,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        config = ServerConfig(drain_timeout=10.0, drain_delay=delay)
        made = bench(workers=1, config=config).serve()
        made.signal(TERM)
        assert made.supervisor._timeout() == delay or limit
        made.turn(limit - 1)
        assert made.last.signals == [TERM]
        assert made.supervisor._timeout() == 1.0
        for _ in range(3):
            made.turn(1.0)
        assert made.last.signals == [TERM, KILL]
        assert made.supervisor._timeout() is None  # SIGCHLD says when it has ended
        assert caplog.text.count("killed") == 1

    @pytest.mark.parametrize("delay", [None, 20.0])
    def test_the_sockets_are_there_while_workers_go_on_accepting(
        self, bench: Make, delay: float | None, tmp_path: Path
    ) -> None:
        config = ServerConfig(drain_delay=delay)
        made = bench(workers=1, config=config).serve()
        path = tmp_path / "socket"
        listener = bind_unix(str(path), backlog=1)
        made.supervisor._listener = Bound(listener, None)
        made.signal(TERM)
        assert path.exists() == (delay is not None)
        made.turn(19.0)
        assert path.exists() == (delay is not None)
        made.turn(1.0)
        assert not path.exists()


class TestWishes:
    """``--max-requests``: a worker asks for a successor, and serves until then."""

    def test_a_successor_is_started_and_ready_before_the_old_one_is_told(
        self, bench: Make
    ) -> None:
        made = bench().serve()
        old = made.processes[0]
        old.say(b"replace 1000 requests")
        made.turn()
        assert len(made.processes) == 3
        assert (old.told(), old.signals) == (b"", [])
        made.ready(made.last)
        assert (old.told(), old.signals) == (b"replaced\n", [])
        made.end(old)
        made.pass_time(60.0)
        assert len(made.processes) == 3

    def test_a_place_is_rolled_once_though_it_was_asked_for_again(
        self, bench: Make
    ) -> None:
        made = bench().serve()
        old = made.processes[0]
        old.say(b"replace 1000 requests\nreplace 1000 requests")
        made.turn()
        old.say(b"replace memory")
        made.turn()
        made.ready(made.last)
        old.say(b"replace memory")
        made.pass_time(10.0)
        assert len(made.processes) == 3

    def test_several_go_one_after_another(self, bench: Make) -> None:
        made = bench(workers=3).serve()
        for process in made.processes[:3]:
            process.say(b"replace 1000 requests")
        made.turn()
        for count in (4, 5, 6):
            assert len(made.processes) == count
            made.pass_time(10.0)
            assert len(made.processes) == count
            made.ready(made.last)
        for process in made.processes[:3]:
            assert process.told() == b"replaced\n"

    def test_what_cannot_start_is_tried_again_after_a_pause(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = bench().serve()
        old = made.processes[0]
        old.say(b"replace 1000 requests")
        made.turn()
        made.last.say(b'failed "tako: no database"')
        made.end(made.last, 2)
        assert len(made.processes) == 3
        made.turn(0.11)
        assert len(made.processes) == 4
        made.end(made.last, 2)
        made.turn(0.11)
        assert len(made.processes) == 4  # the next pause is longer
        made.turn(0.11)
        assert len(made.processes) == 5
        assert old.signals == []
        assert old.told() == b""
        made.ready(made.last)
        assert old.told() == b"replaced\n"
        printed = caplog.text
        assert printed.count(" no database\n") == 1
        assert printed.count("the old one stays") == 2

    def test_no_more_old_workers_drain_than_there_are_places(self, bench: Make) -> None:
        made = bench(workers=1).serve()
        first = made.last
        first.say(b"replace 1000 requests")
        made.turn()
        made.ready(made.last)
        made.last.say(b"replace 1000 requests")
        made.turn(5.0)
        assert len(made.processes) == 2  # the first one drains
        made.end(first)
        assert len(made.processes) == 3

    def test_a_worker_that_dies_meanwhile_has_its_successor(self, bench: Make) -> None:
        made = bench().serve()
        made.processes[0].say(b"replace 1000 requests")
        made.turn()
        made.end(made.processes[0], -11)
        made.ready(made.last)
        made.pass_time(60.0)
        assert len(made.processes) == 3

    def test_one_that_says_it_is_ready_and_is_gone_replaces_none(
        self, bench: Make
    ) -> None:
        made = bench().serve()
        made.processes[0].say(b"replace 1000 requests")
        made.turn()
        made.last.end(3)
        made.ready(made.last)
        assert made.processes[0].told() == b""

    def test_lines_that_are_none_of_ours_change_nothing(self, bench: Make) -> None:
        made = bench().serve()
        junk = b"\xff\x00junk\n\nreplaced\nready\nready again\n"
        made.last.link.sendall(junk)
        made.turn()
        for _ in range(10):  # and no line ends
            made.last.link.sendall(b"replace " * 5_000)
            made.turn()
        assert len(made.child(made.last)._lines._rest) <= 1 << 18
        made.pass_time(10.0)
        assert len(made.processes) == 2
        assert made.last.signals == []

    def test_the_end_of_a_link_is_not_the_end_of_a_worker(self, bench: Make) -> None:
        made = bench().serve()
        made.last.link.close()
        made.pass_time(10.0)
        assert len(made.processes) == 2
        made.signal(signal.SIGHUP)
        made.ready(made.last)
        made.ready(made.last)
        # it has no link to be told on
        assert made.processes[1].signals == [signal.SIGHUP, TERM]


class TestHanging:
    """``--worker-timeout``: a worker whose event loop does not turn is replaced."""

    def serve(self, bench: Make, **changes: Any) -> Bench:
        return bench(worker_timeout=4.0, **changes).serve()

    def test_it_is_aborted_and_replaced_at_once_and_killed_a_second_later(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = self.serve(bench)
        one, other = made.processes
        for _ in range(8):
            made.pass_time(1.0)
            made.beat(other)
        assert one.signals[:1] == [ABRT]
        assert other.signals == []
        assert len(made.processes) == 3
        assert one.signals == [ABRT, KILL]
        made.end(one, -9)
        made.ready(made.last)
        assert len(made.processes) == 3
        printed = caplog.text
        assert printed.count("has not answered for 4 s: it is ended") == 1
        assert printed.count("did not answer; starting another") == 1

    def test_one_that_answers_lives(self, bench: Make) -> None:
        made = self.serve(bench)
        for _ in range(30):
            made.pass_time(1.0)
            for process in made.processes:
                made.beat(process)
        assert len(made.processes) == 2

    def test_not_while_it_starts(self, bench: Make) -> None:
        made = bench(worker_timeout=4.0).start()
        made.ready(made.processes[0])
        for _ in range(30):
            made.pass_time(1.0)
            made.beat(made.processes[0])
        assert made.processes[1].signals == []

    def test_not_while_it_stops(self, bench: Make) -> None:
        made = self.serve(bench, config=ServerConfig(drain_timeout=100.0))
        made.signal(TERM)
        made.pass_time(60.0)
        assert [each.signals for each in made.processes] == [[TERM], [TERM]]

    def test_not_for_time_in_which_the_supervisor_stood_still_itself(
        self, bench: Make
    ) -> None:
        made = self.serve(bench)
        made.turn(3600.0)
        made.pass_time(3.5)
        assert [each.signals for each in made.processes] == [[], []]
        for process in made.processes:
            made.beat(process)
        made.pass_time(3.5)
        assert [each.signals for each in made.processes] == [[], []]
        made.pass_time(1.5)
        assert [each.signals for each in made.processes[:2]] == [[ABRT], [ABRT]]

    def test_the_slot_of_one_that_has_ended_is_empty(self, bench: Make) -> None:
        made = self.serve(bench)
        for process in made.processes:
            made.beat(process)
        pulse = made.supervisor._pulse
        slots = [made.child(each).slot for each in made.processes]
        assert all(map(pulse.last, slots))
        made.signal(TERM)
        assert not any(map(pulse.last, slots))
        made.beat(made.processes[0])  # a last one, on its way to its end
        for process in made.processes:
            made.end(process)
        assert not any(map(pulse.last, slots))

    def test_without_a_limit_nothing_is_looked_at(self, bench: Make) -> None:
        made = bench().serve()
        assert made.supervisor._timeout() is None
        made.turn(3600.0)
        assert [each.signals for each in made.processes] == [[], []]


class TestMemory:
    """``--max-worker-rss``: a worker that grows too large is replaced."""

    @pytest.fixture
    def sizes(self, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
        """Return MiB by process; a test changes them."""
        sizes: dict[int, int] = {}
        monkeypatch.setattr(
            child_module.Child,
            "resident",
            lambda self: sizes.get(self.process.pid, 10) << 20,
        )
        return sizes

    def test_one_that_has_grown_is_rolled(
        self,
        bench: Make,
        sizes: dict[int, int],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        made = bench(max_worker_rss=100).serve()
        made.pass_time(6.0)
        sizes[made.processes[0].pid] = 101
        made.pass_time(1.0)
        assert len(made.processes) == 3
        made.ready(made.last)
        assert made.processes[0].told() == b"replaced\n"
        made.pass_time(60.0)
        assert len(made.processes) == 3
        reason = "101 MiB of memory, --max-worker-rss is 100"
        assert caplog.text.count(reason) == 1

    def test_one_that_began_too_large_is_not_for_its_successor_would_be(
        self,
        bench: Make,
        sizes: dict[int, int],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        sizes |= dict.fromkeys(range(100, 200), 101)
        made = bench(max_worker_rss=100).serve()
        made.pass_time(60.0)
        assert len(made.processes) == 2
        assert caplog.text.count("it is not replaced for that") == 1

    def test_one_that_grows_at_once_is_not_replaced_again_and_again(
        self, bench: Make, sizes: dict[int, int]
    ) -> None:
        made = bench(workers=1, max_worker_rss=100).serve()
        for process in range(100, 200):
            sizes[process] = 10
        began = made.clock.now
        while len(made.processes) < 6:
            sizes[made.last.pid] = 101
            made.pass_time(0.5)
            if made.child(made.last).state is ChildState.STARTING:
                old = made.processes[-2]
                made.ready(made.last)
                made.end(old)
        assert made.clock.now - began > 5 * 5.0


class TestNumber:
    """``TTIN`` and ``TTOU``."""

    def test_one_more_and_one_less(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = bench().serve()
        made.signal(signal.SIGTTIN)
        third = made.last
        made.ready(third)
        made.signal(signal.SIGTTOU)
        assert third.told() == b"replaced\n"  # the others accept in its place
        assert [each.told() for each in made.processes[:2]] == [b"", b""]
        assert not any(each.signals for each in made.processes)
        made.end(third)
        made.pass_time(60.0)
        assert len(made.processes) == 3
        printed = caplog.text
        assert "one worker more: 3\n" in printed
        assert "one worker less: 2\n" in printed

    def test_the_last_one_stays(self, bench: Make) -> None:
        made = bench().serve()
        for _ in range(3):
            made.signal(signal.SIGTTOU)
        assert [each.told() for each in made.processes] == [b"", b"replaced\n"]

    def test_there_is_a_most(self, bench: Make) -> None:
        made = bench(workers=MOST_WORKERS).start()
        made.signal(signal.SIGTTIN)
        assert made.supervisor._workers == MOST_WORKERS

    def test_before_the_first_one_is_ready_it_is_counted(self, bench: Make) -> None:
        made = bench().start()
        made.signal(signal.SIGTTIN)
        assert len(made.processes) == 1
        made.ready(made.last)
        assert len(made.processes) == 3

    def test_a_place_that_is_being_rolled_can_go(self, bench: Make) -> None:
        made = bench().serve()
        old = made.processes[1]
        old.say(b"replace 1000 requests")
        made.turn()
        made.signal(signal.SIGTTOU)
        assert (old.told(), made.last.signals) == (b"replaced\n", [TERM])
        made.signal(signal.SIGHUP)
        assert len(made.processes) == 4  # a roll is not held up

    def test_a_place_that_waits_for_its_worker_can_go(self, bench: Make) -> None:
        made = bench().serve()
        for _ in range(2):
            made.end(made.last, 3)
            made.turn()
        assert made.supervisor._due
        made.signal(signal.SIGTTOU)
        made.pass_time(60.0)
        assert len(made.processes) == 3


class TestStarting:
    def test_no_process_left_is_said_and_tried_again(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = bench().serve()
        made.no_more = True
        made.end(made.last, -9)
        made.turn()
        assert "Resource temporarily unavailable" in caplog.text
        made.no_more = False
        made.pass_time(11.0)
        assert len(made.processes) == 3
        assert made.processes[0].signals == []

    def test_no_process_left_ends_a_roll(self, bench: Make) -> None:
        made = bench().serve()
        made.no_more = True
        made.signal(signal.SIGHUP)
        made.no_more = False
        made.pass_time(60.0)
        assert len(made.processes) == 2
        assert made.manager.told[-2:] == ["RELOADING=1", "READY=1"]

    def test_without_the_first_one_it_ends(self, bench: Make) -> None:
        made = bench()
        made.no_more = True
        made.start()
        assert made.code == 1


class TestServiceManager:
    def test_it_hears_of_the_start_of_reloads_and_of_the_number(
        self, bench: Make
    ) -> None:
        made = bench().start()
        told = made.manager.told
        made.signal(signal.SIGHUP)
        assert told == []  # it has not started
        made.ready(made.processes[0])
        assert told[:2] == ["READY=1", "STATUS=1 of 2 workers serve"]
        for process in made.processes:  # more of them come meanwhile
            made.ready(process)
        assert told.count("READY=1") == 1
        assert told[-1] == "STATUS=2 of 2 workers serve"
        del told[:]
        made.signal(signal.SIGHUP)
        assert told == ["RELOADING=1"]
        made.ready(made.last)
        assert "READY=1" not in told
        made.ready(made.last)
        assert told[-1] == "READY=1"

    def test_a_reload_that_fails_is_over_too(self, bench: Make) -> None:
        made = bench().serve()
        made.signal(signal.SIGHUP)
        made.end(made.last, 2)
        assert made.manager.told[-2:] == ["RELOADING=1", "READY=1"]

    def test_it_hears_a_sign_of_life_as_often_as_it_wants(self, bench: Make) -> None:
        made = bench(watchdog=5.0).serve()
        made.pass_time(51.0)
        assert made.manager.told.count("WATCHDOG=1") == 10
