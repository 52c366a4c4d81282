"""One module of ``tako/`` under its own tests, with its branch coverage.

    python -m tests.support.own tako/h2/reader.py [pytest's options]

Its own tests are ``test_<module>.py`` and ``test_<module>_*.py`` in the folder of
``tests/sansio`` that mirrors its folder; where there are none, all of that folder.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


ROOT = Path(__file__).parents[2]
SANSIO = ROOT / "tests" / "sansio"
_MIRRORS = {"h1": "http1", "h2": "http2"}  # tests/h2 would hide the package


def folder_of(module: Path) -> Path:
    """Return the folder of ``tests/sansio`` for a path that begins with ``tako``."""
    _, *folders = module.parent.parts
    found = SANSIO.joinpath(*(_MIRRORS.get(name, name) for name in folders))
    while not found.is_dir():
        found = found.parent
    return found


def own_tests(module: Path) -> list[Path]:
    """Return the test files of ``module``, or else the folder with those around it.

    Raises:
        LookupError: no folder of ``tests/sansio`` is about it.
    """
    folder, name = folder_of(module), module.stem.strip("_")
    found = [*folder.glob(f"test_{name}.py"), *sorted(folder.glob(f"test_{name}_*.py"))]
    if found:
        return found
    if folder == SANSIO:
        msg = f"no test without I/O is about {module}: see tests/README.md"
        raise LookupError(msg)
    return [folder]


def main(arguments: Sequence[str]) -> int:
    """Run the tests of the module that is named first; return the exit status."""
    module = Path(arguments[0])
    if module.is_absolute():
        module = module.relative_to(ROOT)
    if not (ROOT / module).is_file() or module.parts[0] != "tako":
        print(f"{module} is no file of tako/", file=sys.stderr)
        return 2
    try:
        tests = [path.relative_to(ROOT) for path in own_tests(module)]
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    print("tests:", *tests)
    with tempfile.TemporaryDirectory() as folder:
        coverage = [sys.executable, "-m", "coverage"]
        data = f"--data-file={folder}/coverage"
        options = arguments[1:] or ["-q"]
        run = [*coverage, "run", data, "-m", "pytest", *options, *map(str, tests)]
        status = subprocess.run(run, cwd=ROOT, check=False).returncode
        report = ["report", data, f"--include={module}", "--fail-under=0"]
        shown = [*coverage, *report]
        return status or subprocess.run(shown, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
