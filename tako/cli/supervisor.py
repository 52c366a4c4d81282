"""The supervisor: worker processes that share listening sockets.

Theory of operation. The sockets are bound here and inherited by every worker, which is
this same command with ``TAKO_WORKER`` in its environment. One thread, one loop:
signals, the ends of processes and what comes on the workers' links (``link.py``) wake a
selector; where workers are watched it looks at them once a second, too.

``ChildState`` says what a worker goes through. Each place (1 to ``--workers``) has one
worker that is starting or ready, and perhaps old ones that are stopping.

* The first worker is started alone: if it cannot start, its line says why, and the
  supervisor ends. Then the others are started.
* A worker that dies is replaced: at once if it was ready for a while, else after a
  pause that doubles. Why one cannot start is printed here, again only if it
  changes.
* One whose event loop has not turned for ``--worker-timeout`` (``pulse.py``) is ended,
  and replaced like that. Time in which the supervisor itself stood still does not
  count: whatever stopped it may have stopped all.
* SIGHUP: every worker loads its certificate again, in place; then the places are
  rolled one by one: a replacement is started, and only when it is ready the old worker
  drains. Connections wait in the kernel's queue of the shared socket, so none is
  refused. If a replacement cannot start the roll ends and the old worker stays. A
  worker that was starting already is rolled, too, once it is ready: it may have
  loaded the old code.
* A worker that wants a successor (``--max-requests``), or has too much memory
  (``--max-worker-rss``), has its place rolled likewise; after a failure again, with
  those pauses between. Such a roll waits while as many old workers drain as there are
  places, so that their number is bounded.
* SIGUSR1: only the certificates. To a worker both signals mean just that, so it gets
  SIGHUP for either.
* SIGTTIN, SIGTTOU: one worker more, one less, but for the last one.
* SIGTERM, SIGINT: every worker drains. The second one kills.
* Where metrics are asked for (``tally.py``), what a worker has counted is kept when it
  is gone.
* A worker that uses topics has the hub started (``hub.py``). The hub stays whatever
  becomes of workers, and ends after the last of them.

Invariant: a place is never without a worker for longer than its pause, until the end.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from typing import cast

from tako.cli import link, listeners
from tako.cli.banner import announce
from tako.cli.child import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    SETTLED,
    Child,
    how_it_ended,
    longer,
)
from tako.cli.console import echo, say, say_failure
from tako.cli.hub import HubKeeper
from tako.cli.inspecting import Inspection, shared
from tako.cli.listeners import Bound
from tako.cli.plan import MOST_WORKERS, Plan
from tako.cli.pulse import UNWATCHED, Pulse, new_memory
from tako.cli.reload import Watch
from tako.cli.serve import stopping
from tako.cli.service_manager import ServiceManager
from tako.cli.tally import Tally
from tako.cli.worker import ENVIRONMENT, describe


_LOOK_EVERY = 1.0  # seconds
_MIB = 1 << 20

_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
)


def supervise(plan: Plan, watch: Watch | None, manager: ServiceManager) -> int:
    """Serve with workers until a signal ends it; return the exit code.

    Raises:
        CliError: an address cannot be bound.
    """
    plan.logs.set_up()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listeners.bind_plan(plan))
        inspection = stack.enter_context(shared()) if plan.inspect_binds else None
        return Supervisor(plan, listener, manager, inspection).run(watch)


class Supervisor:
    """Starts, watches, replaces and stops the workers."""

    def __init__(
        self,
        plan: Plan,
        listener: Bound,
        manager: ServiceManager,
        inspection: Inspection | None = None,
    ) -> None:
        self._plan = plan
        self._inspection = inspection
        self._listener = listener
        self._manager = manager
        self._workers = plan.workers  # how many there are to be
        self._children: list[Child] = []
        self._due: dict[int, float] = {}  # place -> when its next worker may start
        self._pauses: dict[int, float] = {}
        self._to_roll: deque[int] = deque()
        self._roll_begun: float | None = None  # that all are to be replaced
        self._reloading = False  # SIGHUP came, and its roll is not over
        self._signals: deque[int] = deque()
        self._code: int | None = None  # set once this is ending
        self._closes_at: float | None = None  # the listening sockets, then
        self._announced = False
        self._failure = ""  # why workers cannot start, as last printed
        self._changes: deque[str] = deque()
        self._heavy_said = False
        self._looked = time.monotonic()  # at the workers
        self._awake_since = self._looked
        self._alive = self._looked  # when the service manager was told so
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._memory = new_memory()
        self._pulse = Pulse(self._memory)
        self._tally = Tally() if plan.metrics_binds else None
        self._hub = HubKeeper(self._selector, verbose=plan.verbose)

    def run(self, watch: Watch | None) -> int:
        """Run until the last worker is gone; return the exit code."""
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        previous = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        handlers = {
            number: signal.signal(number, lambda n, _: self._signals.append(n))
            for number in _SIGNALS
        }
        stop = threading.Event()
        watcher = None if watch is None else self._watching(watch, stop)
        try:
            self._start(1)
            while self._code is None or self._children:
                self._turn()
        finally:
            stop.set()
            if watcher is not None:
                watcher.join()
            for child in self._children:
                child.process.kill()
                child.process.wait()
                child.link.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous)
            self.close()
        if self._announced or not self._code:
            say("stopped")
        return self._code or 0

    def close(self) -> None:
        """End the hub, and release what it waits with."""
        self._hub.close()
        self._selector.close()
        self._woken.close()
        self._wake.close()
        self._pulse.close()
        os.close(self._memory)
        if self._tally is not None:
            self._tally.close()

    # The loop ------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for an event and handle it."""
        for key, _ in self._selector.select(self._timeout()):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            elif key.data is self._hub:
                self._hub.knocked(cast("socket.socket", key.fileobj), time.monotonic())
            else:
                self._hear(key.data)
        while self._signals:
            self._signalled(self._signals.popleft())
        self._reap()
        while self._changes:
            names = self._changes.popleft()
            if self._code is None:
                say(f"{names} changed, starting again")
                self._begin_roll()
        self._look_at_clock()
        self._take_wishes()
        self._note_end_of_roll()
        if self._tally is not None:
            self._tally.serving(sum(child.serves for child in self._children))
        self._tell_manager()

    def _timeout(self) -> float | None:
        overdue = (each.overdue_at(self._plan.stop_limit) for each in self._children)
        times = [each for each in overdue if each is not None]
        if self._code is None:
            times += self._due.values()
        if self._closes_at is not None:
            times.append(self._closes_at)
        if self._hub.due is not None:
            times.append(self._hub.due)
        if self._watches and any(child.serves for child in self._children):
            times.append(self._looked + self._look_every)
        if self._manager.watchdog is not None:
            times.append(self._alive + self._manager.watchdog)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        self._hub.look(now)
        for place, due in list(self._due.items()):
            if due <= now:
                del self._due[place]
                if self._holder(place) is None:
                    self._start(place)
        if self._closes_at is not None and self._closes_at <= now:
            self._closes_at = None
            self._listener.close()
        limit = self._plan.stop_limit
        for child in self._children:
            overdue_at = child.overdue_at(limit)
            if overdue_at is not None and overdue_at <= now:
                late = f"still runs {now - child.since:.0f} s after its signal"
                say(f"{child} {late}: killed", logging.ERROR)
                child.kill(now)
        if self._watches and self._looked + self._look_every <= now:
            self._look_at_workers(now)
        watchdog = self._manager.watchdog
        if watchdog is not None and self._alive + watchdog <= now:
            self._alive = now
            self._manager.alive()

    def _signalled(self, number: int) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            if self._code is None:
                self._end(0)
            else:
                self._code = 128 + number
                for child in self._children:
                    child.kill(time.monotonic())
        elif self._code is not None:
            return
        elif number == signal.SIGTTIN:
            self._grow()
        elif number == signal.SIGTTOU:
            self._shrink()
        elif number in {signal.SIGHUP, signal.SIGUSR1}:
            self._reload()
            if number == signal.SIGHUP:
                self._reloading = self._announced
                self._manager.reloading()
                self._begin_roll()

    def _reload(self) -> None:
        """Have the workers load their certificates again."""
        for child in self._children:
            if child.serves:
                # SIGUSR1, too, reaches workers as SIGHUP: one way to say it
                child.process.send_signal(signal.SIGHUP)

    def _end(self, code: int) -> None:
        """Drain everything; ``code`` is the exit code."""
        say(stopping(self._plan))
        self._code = code
        self._manager.stopping()
        # the workers close theirs then, too: new connections are refused
        self._closes_at = time.monotonic() + (self._plan.config.drain_delay or 0.0)
        self._due.clear()
        self._to_roll.clear()
        for child in self._children:
            self._stop(child)

    def _tell_manager(self) -> None:
        """Tell how many workers serve, and that a reload is over."""
        if not self._announced or self._code is not None:
            return
        serving = sum(child.serves for child in self._children)
        self._manager.status(f"{serving} of {self._workers} workers serve")
        if self._reloading and not self._to_roll and not self._rolling():
            self._reloading = False
            self._manager.reloaded()

    def _note_end_of_roll(self) -> None:
        """Say that all workers were replaced, if they were to be."""
        begun = self._roll_begun
        if begun is None or self._to_roll or self._rolling() or self._code is not None:
            return
        self._roll_begun = None
        say(f"ready again after {time.monotonic() - begun:.2f} s")

    # Workers -------------------------------------------------------------------------

    def _start(self, place: int, replaces: Child | None = None) -> None:
        slot = self._pulse.take()
        if self._tally is not None:
            self._tally.begin(slot, place)
        try:
            process, own_link, door = self._spawn(slot, place)
        except OSError as error:  # no memory, or no descriptor, or no process is left
            self._give_back(slot)
            self._not_started(place, error.strerror or str(error))
            return
        now = time.monotonic()
        child = Child(place, slot, process, own_link, now, replaces, door=door)
        self._children.append(child)
        self._hub.add(door)
        self._selector.register(own_link, selectors.EVENT_READ, child)

    def _spawn(
        self, slot: int, place: int
    ) -> tuple[subprocess.Popen[bytes], socket.socket, socket.socket]:
        """Start a worker; return its process and our ends of its link and its door."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo, theirs:
            undo.callback(ours.close)
            door, their_door = socket.socketpair()
            undo.callback(door.close)
            with their_door:
                board = () if self._tally is None else (self._tally.memory,)
                passed = (theirs.fileno(), their_door.fileno(), self._memory, *board)
                sockets = [sock.fileno() for sock in self._listener.sockets]
                inspection = self._inspection
                text = "" if inspection is None else inspection.written(place)
                value = describe(slot, passed, self._listener, text)
                process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                    [sys.executable, "-m", "tako.cli", *sys.argv[1:]],
                    env={**os.environ, ENVIRONMENT: value},
                    pass_fds=(*passed, *sockets),
                    process_group=0,  # a terminal's Ctrl-C is for us to pass on
                )
            undo.pop_all()
        ours.setblocking(False)
        door.setblocking(False)
        return process, ours, door

    def _give_back(self, slot: int) -> None:
        """Take note that the process of a slot has ended, or was none."""
        if self._tally is not None:
            self._tally.end(slot)
        self._pulse.give_back(slot)

    def _not_started(self, place: int, reason: str) -> None:
        """Try again later; a worker that was to be replaced stays."""
        say(f"worker {place} cannot be started: {reason}", logging.ERROR)
        if not self._announced:
            self._code = 1
            return
        self._to_roll.clear()
        self._due[place] = time.monotonic() + LONGEST_PAUSE

    def _hear(self, child: Child) -> None:
        lines = child.hear()
        if lines is None:  # SIGCHLD says when it has ended
            self._selector.unregister(child.link)
            return
        self._heard(child, lines)

    def _heard(self, child: Child, lines: list[tuple[bytes, str]]) -> None:
        for word, text in lines:
            if word == link.FAILED:
                child.failure = link.as_failure(text)
            elif word == link.REPLACE and child.serves:
                child.wish = child.wish or text
            elif word == link.READY and child.ready_at is None:
                self._became_ready(child, text)

    def _became_ready(self, child: Child, kind: str) -> None:
        if not child.holds_its_place or child.process.poll() is not None:
            return  # it was told to end meanwhile, or is gone
        child.become_ready(time.monotonic())
        self._failure = ""
        self._weigh(child)
        if not self._announced:
            self._announced = True
            self._manager.ready("serving")
            announce(self._plan, self._listener, kind, self._inspection)
            for place in range(2, self._workers + 1):
                self._start(place)
        if child.replaces is not None:
            self._hand_over(child.replaces)
            child.replaces = None
        self._roll_on()

    def _hand_over(self, child: Child) -> None:
        """End a worker that serves; others accept from the same sockets."""
        self._pulse.clear(child.slot)
        child.replace(time.monotonic())

    def _stop(self, child: Child) -> None:
        if child.holds_its_place:
            self._pulse.clear(child.slot)
            child.stop(time.monotonic())

    def _reap(self) -> None:
        for child in list(self._children):
            if child.process.poll() is not None:
                self._gone(child)

    def _gone(self, child: Child) -> None:
        """Take note that a process has ended, and replace it unless it was to end."""
        wanted, state = child.holds_its_place and self._code is None, child.state
        child.ended(time.monotonic())
        self._children.remove(child)
        if self._tally is not None:
            self._tally.exited(state)
        self._give_back(child.slot)
        if child.link in self._selector.get_map():
            self._selector.unregister(child.link)
        self._hub.remove(child.door)
        self._heard(child, child.last_words())
        if wanted:
            self._lost(child, how_it_ended(child.process.returncode))

    def _lost(self, child: Child, how: str) -> None:
        """Replace a worker that has not ended as it was told, or begin to end."""
        if child.failure and child.failure != self._failure:
            self._failure = child.failure  # and not again while it stays the same
            shown = say_failure if self._announced else echo
            shown(child.failure)
        if not self._announced:
            self._code = child.process.returncode if child.process.returncode > 0 else 1
        elif child.replaces is not None:
            then = "the old one stays"
            if self._plan.reload_folders:
                then += " until a file changes"
            say(f"the new {child} {how}; {then}", logging.ERROR)
            self._to_roll.clear()
            self._roll_begun = None
            # for those who want a successor all the same
            self._due[child.place] = time.monotonic() + self._pause(child)
        elif self._replaced(child):
            say(f"{child} {how} while it was being replaced", logging.WARNING)
        else:
            pause = self._pause(child)
            then = f"another in {pause:g} s" if pause else "starting another"
            say(f"{child} {how}; {then}", logging.WARNING)
            self._due[child.place] = time.monotonic() + pause
            self._roll_on()

    def _replaced(self, gone: Child) -> bool:
        """Tell whether another worker is about to take the place of ``gone`` anyway."""
        for child in self._children:
            if child.replaces is gone:
                child.replaces = None
                self._roll_on()
                return True
        return False

    def _pause(self, child: Child) -> float:
        lived = time.monotonic() - child.started
        ready = child.ready_at is not None
        if ready and lived > SETTLED:
            self._pauses.pop(child.place, None)
            return 0.0
        pause = self._pauses.get(child.place, 0.0 if ready else FIRST_PAUSE)
        self._pauses[child.place] = longer(pause)
        return pause

    def _holder(self, place: int) -> Child | None:
        """Return the worker of a place; ``None`` if one is yet to be started."""
        for child in self._children:
            if child.place == place and child.holds_its_place:
                return child
        return None

    def _grow(self) -> None:
        if self._workers == MOST_WORKERS:
            say(f"there are {MOST_WORKERS} workers, and can be no more")
            return
        self._workers += 1
        say(f"one worker more: {self._workers}")
        if self._announced:
            self._start(self._workers)

    def _shrink(self) -> None:
        if self._workers == 1:
            say("there is one worker, and can be no less")
            return
        place = self._workers
        self._workers -= 1
        say(f"one worker less: {self._workers}")
        self._due.pop(place, None)
        self._pauses.pop(place, None)
        if place in self._to_roll:
            self._to_roll.remove(place)
        for child in self._children:
            if child.place == place:
                child.replaces = None
                if child.serves:
                    self._hand_over(child)
                else:
                    self._stop(child)
        self._roll_on()

    # Watching ------------------------------------------------------------------------

    @property
    def _watches(self) -> bool:
        plan = self._plan
        return plan.worker_timeout is not None or plan.max_worker_rss is not None

    @property
    def _look_every(self) -> float:
        limit = self._plan.worker_timeout
        return _LOOK_EVERY if limit is None else min(_LOOK_EVERY, limit / 4)

    def _look_at_workers(self, now: float) -> None:
        """End workers that hang, and have those replaced that have grown too large."""
        limit = self._plan.worker_timeout
        if limit is not None and now - self._looked > limit / 2:
            self._awake_since = now
        self._looked = now
        if limit is not None:
            self._hub.look_at_doors(now, limit, self._awake_since)
        for child in self._children:
            if not child.serves:
                continue
            last = max(self._pulse.last(child.slot), child.since, self._awake_since)
            if limit is not None and child.slot != UNWATCHED and now - last > limit:
                say(
                    f"{child} has not answered for {limit:g} s: it is ended. "
                    "Where its threads are:",
                    logging.ERROR,
                )
                self._pulse.clear(child.slot)
                child.abort(now)
                self._lost(child, "did not answer")
            elif now - child.since > SETTLED:
                self._weigh(child)

    def _weigh(self, child: Child) -> None:
        """Have a worker replaced if it has grown too large."""
        most = self._plan.max_worker_rss
        if most is None or child.wish or child.heavy:
            return
        size = child.resident() / _MIB
        if size <= most:
            return
        text = f"{size:.0f} MiB of memory, --max-worker-rss is {most}"
        if time.monotonic() - child.since > SETTLED:
            child.wish = text
            return
        child.heavy = True  # its successors will be like that
        if not self._heavy_said:
            self._heavy_said = True
            what = f"{child} began with {text}: it is not replaced for that"
            say(what, logging.WARNING)

    # Rolling -------------------------------------------------------------------------

    def _begin_roll(self) -> None:
        self._failure = ""  # a user asked for this roll: print it again
        self._to_roll = deque(range(1, self._workers + 1))
        self._roll_begun = time.monotonic()
        self._roll_on()

    def _take_wishes(self) -> None:
        """Roll the places of workers that want a successor."""
        old = sum(not child.holds_its_place for child in self._children)
        for child in self._children:
            place = child.place
            if (
                child.wish
                and child.serves
                and old < self._workers
                and place not in self._due
                and place not in self._to_roll
                and not any(other.replaces is child for other in self._children)
            ):
                self._to_roll.append(place)
        self._roll_on()

    def _roll_on(self) -> None:
        """Replace the worker of the next place, unless one is being replaced."""
        while self._to_roll and not self._rolling():
            holder = self._holder(self._to_roll[0])
            if holder is not None and not holder.serves:
                return  # it is starting: called again when it is ready, or gone
            place = self._to_roll.popleft()
            if holder is not None:
                if holder.wish:
                    say(f"{holder} is to be replaced: {holder.wish}")
                self._start(place, holder)

    def _rolling(self) -> bool:
        return any(child.replaces is not None for child in self._children)

    def _watching(self, watch: Watch, stop: threading.Event) -> threading.Thread:
        def changed(names: str) -> None:
            self._changes.append(names)
            self._wake.send(b"\0")

        thread = threading.Thread(target=watch, args=(changed, stop), daemon=True)
        thread.start()
        return thread
