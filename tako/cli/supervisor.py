"""The supervisor: worker processes that share listening sockets.

Theory of operation. The sockets are bound here and inherited by every worker, which is
this same command with ``TAKO_WORKER`` in its environment. One thread, one loop:
signals, the ends of processes and what comes from the *ready pipes* wake a selector.

A worker is *starting* -> *ready* -> *stopping* -> gone, or gone at any time. Each place
(1 to ``--workers``) has one worker that is starting or ready, and perhaps old ones that
are stopping.

* The first worker is started alone: if it cannot start, its line says why, and the
  supervisor ends. Then the others are started.
* A worker that dies is replaced: at once if it was ready for a while, else after a
  pause that doubles. Why one cannot start is printed here, again only if it
  changes.
* SIGHUP: every worker loads its certificate again, in place; then the places are
  rolled one by one: a replacement is started, and only when it is ready the old worker
  drains. Connections wait in the kernel's queue of the shared socket, so none is
  refused. If a replacement cannot start the roll ends and the old worker stays. A
  worker that was starting already is rolled, too, once it is ready: it may have
  loaded the old code.
* SIGUSR1: only the certificates. To a worker both signals mean just that, so it gets
  SIGHUP for either.
* SIGTERM, SIGINT: every worker drains. The second one kills.

Invariant: a place is never without a worker for longer than its pause, until the end.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from tako.cli import listeners
from tako.cli.console import say
from tako.cli.plan import Plan
from tako.cli.reload import Watch
from tako.cli.serve import announce
from tako.cli.worker import END, ENVIRONMENT, FAILED, READY, describe
from tako.server.listener import Listener


_SETTLED = 5.0  # seconds after which a worker is taken to be well
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_PIPE = 1 << 16  # bytes that a pipe holds

_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR1,
)


@dataclass(eq=False, slots=True)
class Child:
    """One worker process."""

    place: int
    process: subprocess.Popen[bytes]
    ready_pipe: int
    started: float
    said: bytes = b""  # on the ready pipe
    ready: bool = False
    stopping_at: float | None = None
    killed: bool = False
    replaces: "Child | None" = field(default=None, repr=False)


def supervise(plan: Plan, watch: Watch | None) -> int:
    """Serve with workers until a signal ends it; return the exit code.

    Raises:
        CliError: an address cannot be bound.
    """
    plan.set_up_logging()
    with listeners.bind_all(plan.binds, plan.backlog, plan.unix_mode) as listener:
        return Supervisor(plan, listener).run(watch)


class Supervisor:
    """Starts, watches, replaces and stops the workers."""

    def __init__(self, plan: Plan, listener: Listener) -> None:
        self._plan = plan
        self._listener = listener
        self._children: list[Child] = []
        self._due: dict[int, float] = {}  # place -> when its next worker starts
        self._pauses: dict[int, float] = {}
        self._to_roll: deque[int] = deque()
        self._signals: deque[int] = deque()
        self._code: int | None = None  # set once this is ending
        self._announced = False
        self._failure = b""  # why workers cannot start, as last printed
        self._changes: deque[str] = deque()
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._life_read, self._life = os.pipe()

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
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous)
            self._selector.close()
            self._woken.close()
            self._wake.close()
            os.close(self._life)
            os.close(self._life_read)
        return self._code or 0

    # The loop ------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for an event and handle it."""
        for key, _ in self._selector.select(self._timeout()):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            else:
                self._pipe_readable(key.data)
        while self._signals:
            self._signalled(self._signals.popleft())
        self._reap()
        while self._changes:
            say(f"tako: {self._changes.popleft()} changed, starting again")
            self._begin_roll()
        self._look_at_clock()

    def _timeout(self) -> float | None:
        times = list(self._due.values()) if self._code is None else []
        times += [
            child.stopping_at + self._plan.stop_limit
            for child in self._children
            if child.stopping_at is not None and not child.killed
        ]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        for place, due in list(self._due.items()):
            if due <= now and self._code is None:
                del self._due[place]
                self._start(place)
        late = self._plan.stop_limit
        for child in self._children:
            stopping_at = child.stopping_at
            if stopping_at is None or stopping_at + late > now or child.killed:
                continue
            how = f"has not ended {late:g} s after its signal: killed"
            say(f"tako: worker {child.place} {how}")
            child.killed = True
            child.process.kill()

    def _signalled(self, number: int) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            if self._code is None:
                self._end(0)
            else:
                self._code = 128 + number
                for child in self._children:
                    child.process.kill()
        elif number in {signal.SIGHUP, signal.SIGUSR1} and self._code is None:
            for child in self._children:
                if child.ready:
                    # SIGUSR1, too, reaches workers as SIGHUP: one way to say it
                    child.process.send_signal(signal.SIGHUP)
            if number == signal.SIGHUP:
                self._begin_roll()

    def _end(self, code: int) -> None:
        """Drain everything; ``code`` is the exit code."""
        self._code = code
        self._listener.close()  # the workers close theirs: new connections are refused
        self._due.clear()
        self._to_roll.clear()
        for child in self._children:
            self._stop(child)

    # Workers -------------------------------------------------------------------------

    def _start(self, place: int, replaces: Child | None = None) -> None:
        ready_pipe, ready = os.pipe()
        os.set_blocking(ready_pipe, False)
        sockets = [sock.fileno() for sock in self._listener.sockets]
        value = describe(ready, self._life_read, sockets)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                [sys.executable, "-m", "tako.cli", *sys.argv[1:]],
                env={**os.environ, ENVIRONMENT: value},
                pass_fds=(ready, self._life_read, *sockets),
                process_group=0,  # a terminal's Ctrl-C is for us to pass on
            )
        finally:
            os.close(ready)
        child = Child(place, process, ready_pipe, time.monotonic(), replaces=replaces)
        self._children.append(child)
        self._selector.register(ready_pipe, selectors.EVENT_READ, child)

    def _pipe_readable(self, child: Child) -> None:
        data = os.read(child.ready_pipe, _PIPE)
        child.said += data
        if not data:
            self._close_pipe(child)  # it could not start: SIGCHLD follows
        if not (child.said.startswith(READY) and child.said.endswith(END)):
            return
        self._close_pipe(child)
        child.ready, self._failure = True, b""
        if self._code is not None:
            self._stop(child)
            return
        if not self._announced:
            self._announced = True
            kind = child.said.removeprefix(READY).removesuffix(END).decode()
            announce(self._plan, self._listener, kind)
            for place in range(2, self._plan.workers + 1):
                self._start(place)
        if child.replaces is not None:
            self._stop(child.replaces)
            child.replaces = None
        self._roll_on()

    def _hear_out(self, child: Child) -> None:
        """Read what a worker wrote before it ended, and close its pipe."""
        if child.ready_pipe >= 0:
            with contextlib.suppress(BlockingIOError):
                child.said += os.read(child.ready_pipe, _PIPE)
            self._close_pipe(child)

    def _close_pipe(self, child: Child) -> None:
        if child.ready_pipe >= 0:
            self._selector.unregister(child.ready_pipe)
            os.close(child.ready_pipe)
            child.ready_pipe = -1

    def _stop(self, child: Child) -> None:
        if child.stopping_at is None:
            child.stopping_at = time.monotonic()
            child.process.send_signal(signal.SIGTERM)

    def _reap(self) -> None:
        for child in list(self._children):
            if child.process.poll() is not None:
                self._children.remove(child)
                self._hear_out(child)
                self._ended(child)

    def _ended(self, child: Child) -> None:
        """Replace a worker that has ended, or begin to end."""
        if child.stopping_at is not None or self._code is not None:
            return
        how = _how(child.process.returncode)
        if child.said.startswith(FAILED) and child.said != self._failure:
            self._failure = child.said  # and not again while it stays the same
            text = child.said.removeprefix(FAILED).removesuffix(END)
            say(text.decode(errors="replace"))
        if not self._announced:
            self._code = child.process.returncode if child.process.returncode > 0 else 1
        elif child.replaces is not None:
            say(f"tako: the new worker {child.place} {how}; the old one stays")
            self._to_roll.clear()
        elif self._replaced(child):
            say(f"tako: worker {child.place} {how} while it was being replaced")
        else:
            pause = self._pause(child)
            then = f"another in {pause:g} s" if pause else "starting another"
            say(f"tako: worker {child.place} (pid {child.process.pid}) {how}; {then}")
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
        if child.ready and lived > _SETTLED:
            self._pauses.pop(child.place, None)
            return 0.0
        pause = self._pauses.get(child.place, 0.0 if child.ready else _FIRST_PAUSE)
        longer = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._pauses[child.place] = longer
        return pause

    # Rolling -------------------------------------------------------------------------

    def _begin_roll(self) -> None:
        self._failure = b""  # a user asked for this roll: print it again
        self._to_roll = deque(range(1, self._plan.workers + 1))
        self._roll_on()

    def _roll_on(self) -> None:
        """Replace the worker of the next place, unless one is being replaced."""
        if any(child.replaces for child in self._children):
            return
        while self._to_roll:
            holder = self._holder(self._to_roll[0])
            if holder is not None and not holder.ready:
                return  # it is starting: called again when it is ready, or gone
            place = self._to_roll.popleft()
            if holder is not None:
                self._start(place, holder)
                return

    def _holder(self, place: int) -> Child | None:
        """Return the worker of a place; ``None`` if one is yet to be started."""
        for child in self._children:
            if child.place == place and child.stopping_at is None:
                return child
        return None

    def _watching(self, watch: Watch, stop: threading.Event) -> threading.Thread:
        def changed(names: str) -> None:
            self._changes.append(names)
            self._wake.send(b"\0")

        thread = threading.Thread(target=watch, args=(changed, stop), daemon=True)
        thread.start()
        return thread


def _how(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {signal.Signals(-code).name}"
