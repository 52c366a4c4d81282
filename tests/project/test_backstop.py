"""No test hangs the suite: ``tests/support/backstop.py`` ends it and says where."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.children import Child


ROOT = Path(__file__).parents[2]

HANGING = """
import asyncio, subprocess, sys, threading, time
from pathlib import Path
import pytest
import tako
from tests.support import backstop

backstop.AGAIN = 0.5
pytestmark = pytest.mark.limit(1)

async def sleep_on_a_loop():
    await tako.sleep(3600)

def run(loop):
    if loop == "trio":
        tako.run(sleep_on_a_loop, runtime="trio")
    else:
        tako.run(sleep_on_a_loop, loop=loop)

LOOPS = [
    pytest.param(name, marks=pytest.mark.skipif(
        name not in INSTALLED, reason="not installed"
    ))
    for name in ("asyncio", "uvloop", "trio")
]

@pytest.mark.limit(0.5)
def test_a_lock():
    threading.Event().wait()

@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop(loop):
    run(loop)

@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_in_a_thread(loop):
    thread = threading.Thread(target=run, args=(loop,), daemon=True)
    thread.start()
    thread.join()

@pytest.mark.limit(0.5)
def test_a_busy_loop():
    while True:
        pass

def test_who_excepts_everything_once():
    try:
        time.sleep(3600)
    except BaseException:
        time.sleep(3600)

PROGRAM = '''
import os, time
from pathlib import Path
Path("pid").write_text(str(os.getpid()))
def sleep_in_a_child():
    time.sleep(3600)
sleep_in_a_child()
'''

@pytest.mark.limit(3)
def test_a_child():
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE
    ) as process:
        while not Path("pid").exists() or not Path("pid").read_text():
            pass
        process.wait()

@pytest.fixture
def setup():
    time.sleep(3600)

@pytest.fixture
def teardown():
    yield
    time.sleep(3600)

@pytest.mark.limit(0.5)
def test_a_setup(setup):
    pass

@pytest.mark.limit(0.5)
def test_a_teardown(teardown):
    pass

@pytest.mark.limit(30)
def test_who_says_that_it_takes_long():
    time.sleep(1.5)
"""

STUCK = """
import time
import pytest
from tests.support import backstop

backstop.AGAIN, backstop.STUCK = 0.2, 1.0

@pytest.mark.limit(2)  # its setup has that as well
def test_who_takes_no_notice():
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
"""


def run_pytest(folder: Path, tests: str) -> tuple[int, str]:
    """Return the exit status of pytest, and what it wrote."""
    (folder / "test_inner.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = [
        "-p",
        "tests.support.backstop",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:faker",
    ]
    with Child(
        [sys.executable, "-m", "pytest", "-rA", *options, "test_inner.py"],
        limit=240,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.STDOUT,
    ) as process:
        output, _ = process.communicate()
    return process.returncode, output


def test_every_way_of_hanging_is_a_failure_that_says_where(tmp_path: Path) -> None:
    installed = {"asyncio"}
    for name in ("uvloop", "trio"):
        try:
            __import__(name)
        except ImportError:
            continue
        installed.add(name)
    status, output = run_pytest(tmp_path, f"INSTALLED = {installed}\n{HANGING}")
    assert status == 1, output
    lines = output.splitlines()
    named = "FAILED test_inner.py::", "ERROR test_inner.py::"
    hung = [
        line.split("::")[1].split(" ")[0] for line in lines if line.startswith(named)
    ]
    loops = sorted(installed)
    assert sorted(hung) == sorted(
        [
            "test_a_lock",
            *(f"test_a_loop[{name}]" for name in loops),
            *(f"test_a_loop_in_a_thread[{name}]" for name in loops),
            "test_a_busy_loop",
            "test_who_excepts_everything_once",
            "test_a_child",
            "test_a_setup",
            "test_a_teardown",
        ]
    ), output
    assert "PASSED test_inner.py::test_who_says_that_it_takes_long" in output
    for phase in ("setup", "call", "teardown"):
        assert f"OverTimeError: {phase} took longer than 0.5 s" in output
    assert "in sleep_in_a_child" in output
    assert output.count("in sleep_on_a_loop") >= 2 * len(loops)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_what_takes_no_notice_ends_the_run(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, STUCK)
    assert status == 1
    assert "Timeout (0:00:03" in output
    assert "in test_who_takes_no_notice" in output


class TestAChild:
    def test_it_is_ended_at_its_limit_and_says_what_it_was_doing(self) -> None:
        program = "import time\ndef hang(): time.sleep(3600)\nhang()"

        def use() -> None:
            with Child([sys.executable, "-c", program], limit=1) as process:
                process.wait_line("what it never says")

        with pytest.raises(AssertionError, match=r"longer than 1 s[^$]*in hang"):
            use()

    def test_it_does_not_outlive_the_block(self) -> None:
        with Child([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            assert process.poll() is None
        assert process.returncode is not None

    def test_its_errors_are_kept(self) -> None:
        with Child([sys.executable, "-c", "raise SystemExit('why')"]) as process:
            assert process.wait() == 1
            assert process.error_text == "why\n"
