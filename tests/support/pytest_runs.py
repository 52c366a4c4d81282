"""Runs of pytest with the plugin of ``tako.testing``, as its users have them."""

import os
import sys
from pathlib import Path

from tests.support.children import run_child


ROOT = Path(__file__).parents[2]


def said_by_pytest(folder: Path, *arguments: str) -> str:
    """Return what pytest prints, run in ``folder`` without a configuration."""
    done = run_child(
        [
            *(sys.executable, "-m", "pytest", "-v", "-p", "tako_pytest"),
            *("-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)),
            *arguments,
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.stdout + done.stderr
