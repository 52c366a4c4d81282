"""The second SIGINT or SIGTERM ends the process, whatever it is doing at the moment."""

import os
import signal
import subprocess
import sys

import pytest

from tests.support.hosts import ROOT
from tests.support.server import RuntimeName


FEW = 12
LIMIT = 300.0
"""Seconds; a point takes a fraction of one, and ends its child itself after thirty."""

PAIRS = [
    pytest.param(signal.SIGINT, signal.SIGINT, id="INT-INT"),
    pytest.param(signal.SIGTERM, signal.SIGTERM, id="TERM-TERM"),
]
MIXED = [
    pytest.param(signal.SIGINT, signal.SIGTERM, id="INT-TERM"),
    pytest.param(signal.SIGTERM, signal.SIGINT, id="TERM-INT"),
]


def sweep(
    mode: str, runtime: str, first: int, second: int, most: int, limit: float
) -> None:
    """Send the second at ``most`` points after the first; 0: at all of them."""
    arguments = [mode, runtime, str(int(first)), str(int(second)), str(most)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.second_signal", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("mode", ["library", "ctrl_c", "command"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_second_signal_ends_the_process_at_any_point(
    runtime: RuntimeName, mode: str, first: int, second: int
) -> None:
    sweep(mode, runtime, first, second, FEW, LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["library", "ctrl_c", "command"])
@pytest.mark.parametrize(("first", "second"), PAIRS + MIXED)
def test_a_second_signal_ends_the_process_at_every_point(
    runtime: RuntimeName, mode: str, first: int, second: int
) -> None:
    sweep(mode, runtime, first, second, 0, LIMIT * 10)
