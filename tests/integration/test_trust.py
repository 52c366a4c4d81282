"""``tako certs trust``: Chromium on Linux trusts the local authority afterwards."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.support.children import Child, run_child
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port


ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
APP = """
import tako

router = tako.Router()


@router.get("/")
async def answer() -> str:
    return "served by tako"
"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(shutil.which("certutil") is None, reason="certutil is missing")
def test_chromium_trusts_the_local_authority_when_it_was_told_to(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(APP)
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    env = os.environ | home | {"PYTHONPATH": str(ROOT)}
    tako = [sys.executable, "-m", "tako"]
    url = f"https://localhost:{free_port()}/"

    def seen() -> str:
        assert CHROMIUM is not None
        # /dev/shm is too small in some containers
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom")
        command = [CHROMIUM, *options, "--disable-dev-shm-usage", url]
        return run_child(command, limit=3 * TIMEOUT, env=env).stdout

    bind = url.removeprefix("https://localhost").rstrip("/")
    with Child(
        [*tako, "serve", "app:router", "--dev-cert", "--bind", f"127.0.0.1{bind}"],
        limit=5 * TIMEOUT,
        cwd=tmp_path,
        env=env,
    ) as server:
        end = time.monotonic() + TIMEOUT
        while f"open {url}" not in server.error_text:
            assert time.monotonic() < end
            time.sleep(0.02)  # there is nothing to wait on in another's process
        assert "Chromium, Chrome and Edge: " in server.error_text
        assert "served by tako" not in seen()
        words = ("certs", "trust", "--store", "browsers", "--yes")
        done = run_child([*tako, *words], cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert "served by tako" in seen()
        server.terminate()
        assert server.wait(TIMEOUT) == 0
