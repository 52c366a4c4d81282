"""``make dist``: what is in distributions is what belongs there."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path


ROOT = Path(__file__).parents[2]
LEFT_OUT = (".ci/", ".github/", ".gitignore", "tests/clients/node/.gitignore", ".pre-")
"""Beginnings of what only the repository needs."""
MADE = {"PKG-INFO", "setup.cfg"}


def in_the_source(path: Path) -> set[str]:
    """Return the files of a source distribution, but for those that building adds."""
    with tarfile.open(path) as archive:
        files = [each.name for each in archive if each.isfile()]
    names = {name.partition("/")[2] for name in files}
    return {name for name in names - MADE if ".egg-info/" not in name}


def in_the_repository() -> set[str]:
    """Return the files that are tracked, but for ``LEFT_OUT``."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    names = done.stdout.decode().strip("\0").split("\0")
    return {name for name in names if not name.startswith(LEFT_OUT)}


def in_the_wheel(path: Path) -> set[str]:
    """Return the modules of a wheel."""
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if name.endswith(".py")}


def main(folder: Path) -> int:
    """Compare; print what is wrong."""
    (source,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    tracked, archived = in_the_repository(), in_the_source(source)
    modules = {
        name
        for name in tracked
        if name.endswith(".py") and name.startswith(("tako/", "tako_pytest."))
    }
    differences = {
        f"{source.name} lacks": tracked - archived,
        f"{source.name} has": archived - tracked,
        f"{wheel.name} lacks": modules - in_the_wheel(wheel),
        f"{wheel.name} has": in_the_wheel(wheel) - modules,
    }
    for what, names in differences.items():
        for name in sorted(names):
            print(f"{what} {name}")
    print(f"{source.name}: {len(archived)} files, {wheel.name}: {len(modules)} modules")
    return int(any(differences.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
