"""Who may import whom. The table is the rule; everything else here reads it.

A module imports only from rows above its own. Neighbours in a row never meet, except
inside one package (``tako.h1.engine`` may import ``tako.h1.checks``).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest


ROWS = """
    errors headers conn_info grammar method httpdate client_hello pieces _pure _speedups
    state byteloops tls_files proxy_tlv forms seldom response_fields log_lines config
    request deadlines tls_context turn
    seams
    body response tls proxy_protocol handlers late pace
    tls_pipe proxy_policy half_closed
    h1 h2 ws prelude
    middleware problem sse routes entrance
    registration request_ids
    connection router access
    pipeline redirect
    runtime
    listener
    service unix socket_activation
    lifetime
    serving
    server aliases
    asgi
    cli
    __init__
"""

IO_MODULES = {
    "asyncio",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "trio",
    "uvloop",
}
IO_EDGE = {"cli", "runtime", "listener", "service", "unix", "socket_activation"}
CLOCKS = {"time", "sched"}
CLOCK_EDGE = {"cli", "runtime", "httpdate"}  # httpdate: the wall clock of Date

TAKO = Path(__file__).parents[2] / "tako"
RANK = {name: rank for rank, row in enumerate(ROWS.split("\n")) for name in row.split()}
MODULES = sorted(path.relative_to(TAKO).as_posix() for path in TAKO.rglob("*.py"))


def part(module: str) -> str:
    """Return the name in the table for a path: ``h1/engine.py`` -> ``h1``."""
    return module.partition("/")[0].removesuffix(".py")


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


def complaints(module: str, path: Path) -> Iterator[str]:
    """Yield what is wrong with the imports of ``module``."""
    mine = part(module)
    for line, name in imports(path):
        top, _, rest = name.partition(".")
        theirs = rest.partition(".")[0]
        where = f"tako/{module}:{line}: "
        if top == "":
            yield f"{where}relative import; write `from tako.x import y`"
        elif top == "tako" and theirs not in RANK:
            yield f"{where}imports {name}, which the table does not know"
        elif top == "tako" and theirs != mine and RANK[theirs] >= RANK[mine]:
            yield f"{where}{mine} must not import {theirs}: it is not above it"
        elif top in IO_MODULES and mine not in IO_EDGE:
            yield f"{where}imports {top}; only {sorted(IO_EDGE)} do I/O"
        elif top in CLOCKS and mine not in CLOCK_EDGE:
            yield f"{where}imports {top}; time comes from Host.time()"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_row(module: str) -> None:
    assert part(module) in RANK, f"put tako/{module} into the table of this test"


@pytest.mark.parametrize("module", [m for m in MODULES if part(m) in RANK])
def test_imports_point_up_the_table_only(module: str) -> None:
    assert not "\n".join(complaints(module, TAKO / module))


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("h1/engine.py", "from tako.h2 import gate", "h1 must not import h2"),
        ("seams.py", "import tako.body", "seams must not import body"),
        ("router.py", "from tako import connection", "router must not import connect"),
        (
            "router.py",
            "from tako.connection import x",
            "router must not import connect",
        ),
        ("ws/codec.py", "from . import message", "relative import"),
        ("ws/codec.py", "from tako.wsx import y", "does not know"),
        ("tls.py", "import socket", "tako/tls/certificates.py:1: imports socket; only"),
        (
            "tls.py",
            "def f():\n    import asyncio.tasks",
            "tako/tls/certificates.py:2: imports asyn",
        ),
        ("connection.py", "from time import monotonic", "time comes from Host.time()"),
    ],
)
def test_a_wrong_import_is_seen(
    module: str, source: str, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    (found,) = complaints(module, path)
    assert complaint in found


def test_imports_inside_a_package_are_free(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from tako.h1.checks import x\nfrom tako.errors import y\nimport h2"
    )
    assert not list(complaints("h1/engine.py", path))
