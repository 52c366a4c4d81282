"""Which folder of tako imports which: read from the code, and drawn.

``python -m tests.project.architecture`` (``make architecture``) prints the picture that
DESIGN.md shows. A folder says in its README what it may import; the test
beside this file compares that with what its modules do import, for types or not.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path


ROOT = Path(__file__).parents[2]
TAKO = ROOT / "tako"
GROUND = frozenset({"errors", "config"})
"""The modules at the top that every folder may import."""
FOLDERS = sorted(path.parent.name for path in TAKO.glob("*/__init__.py"))


def modules(folder: str) -> list[Path]:
    """Return the Python files of a folder, those of folders in it among them."""
    return sorted((TAKO / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of everything that ``path`` imports."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def imported(folder: str) -> dict[str, str]:
    """Return what ``folder`` imports of tako, each with a place where it does.

    A name of ``tako/__init__`` counts as ``__init__``: nothing below may need it.
    """
    found: dict[str, str] = {}
    for path in modules(folder):
        for line, name in imports(path):
            top, _, rest = name.partition(".")
            part = rest.partition(".")[0]
            if top != "tako":
                continue
            if part not in FOLDERS and part not in GROUND:
                part = "__init__"
            if part != folder and part not in GROUND:
                where = f"{path.relative_to(ROOT).as_posix()}:{line}"
                found.setdefault(part, where)
    return found


def declared(folder: str) -> set[str]:
    """Return what the README of ``folder`` says that it imports.

    Raises:
        ValueError: it does not say so.
    """
    text = (TAKO / folder / "README.md").read_text()
    match = re.search(r"^Imports: (.*(?:\n.+)*)", text, re.MULTILINE)
    if match is None:
        msg = f"tako/{folder}/README.md has no line that begins with `Imports:`"
        raise ValueError(msg)
    return set(re.findall(r"`(\w+)`", match[1]))


def levels() -> list[list[str]]:
    """Return the folders from the ground up; a folder stands above what it imports.

    Raises:
        graphlib.CycleError: folders import each other in a circle.
    """
    sorter = TopologicalSorter({folder: imported(folder) for folder in FOLDERS})
    sorter.prepare()
    rows: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        rows.append(ready)
        sorter.done(*ready)
    return rows


def picture() -> str:
    """Return the folders as text, the highest first, each with what it imports."""
    rows = levels()
    order = {name: rank for rank, row in enumerate(rows) for name in row}
    lines = []
    for row in reversed(rows):
        for folder in row:
            below = sorted(imported(folder), key=lambda name: (-order[name], name))
            lines.append(f"{folder:8} -> {' '.join(below)}" if below else folder)
        lines.append("-" * 8)
    return "\n".join([*lines, "errors config"])


if __name__ == "__main__":
    print(picture())
