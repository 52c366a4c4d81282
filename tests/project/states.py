"""The state tables of tako: found in the code, shown in the READMEs of their folders.

A table is a dict at the top of a module; its name begins with ``_NEXT``; its keys are
the members of an enum, its values what may follow (see ``tako/core/states.py``). The
README of the folder shows it between ``<!-- states:Name -->`` and ``<!-- /states -->``,
``Name`` being the enum's. ``python -m tests.project.states`` fills in what is between.
"""

import ast
import enum
import importlib
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from tests.project.architecture import ROOT, TAKO


Next: TypeAlias = Mapping[Any, frozenset[Any]]

_NAMED = re.compile(r"^(_NEXT\w*)\b", re.MULTILINE)
_BLOCK = re.compile(r"<!-- states:(\w+) -->\n(.*?)<!-- /states -->", re.DOTALL)
_END = "<!-- /states -->"


@dataclass(frozen=True)
class Found:
    """A table in the code."""

    enum: type[enum.Enum]
    following: Next
    readme: Path

    @property
    def name(self) -> str:
        return self.enum.__name__


def found() -> list[Found]:
    """Return all state tables of tako."""
    tables: list[Found] = []
    for path in sorted(TAKO.rglob("*.py")):
        names = _NAMED.findall(path.read_text())
        if not names:
            continue
        dotted = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        module = vars(importlib.import_module(dotted))
        readme = TAKO / path.relative_to(TAKO).parts[0] / "README.md"
        for name in names:
            if isinstance(module[name], dict):
                following = cast("Next", module[name])
                first: enum.Enum = next(iter(following))
                tables.append(Found(type(first), following, readme))
    return tables


def table(kind: type[enum.Enum], following: Next) -> list[str]:
    """Return the lines of a Markdown table: states, what they mean, what may follow."""
    meanings = _meanings(kind)
    lines = ["| state | meaning | may be followed by |", "|---|---|---|"]
    for state in kind:
        after = [f"`{other.name}`" for other in kind if other in following[state]]
        meaning = meanings.get(state.name, "")
        lines.append(
            f"| `{state.name}` | {meaning} | {', '.join(after) or 'nothing'} |"
        )
    return lines


def _meanings(kind: type[enum.Enum]) -> dict[str, str]:
    """Return the docstrings that stand below the members of ``kind``."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    meanings: dict[str, str] = {}
    for member, below in zip(tree.body, tree.body[1:], strict=False):
        text: Any = below.value if isinstance(below, ast.Expr) else None
        if isinstance(member, ast.Assign) and isinstance(text, ast.Constant):
            (target,) = member.targets
            assert isinstance(target, ast.Name)
            meanings[target.id] = " ".join(str(text.value).split()).removesuffix(".")
    return meanings


def shown(readme: Path) -> dict[str, list[str]]:
    """Return the blocks of a README: the lines of each, by the enum's name."""
    return {
        name: lines.splitlines() for name, lines in _BLOCK.findall(readme.read_text())
    }


def update() -> None:
    """Write the tables between the markers that the READMEs have."""
    for each in found():
        lines = "\n".join(table(each.enum, each.following))
        begin = f"<!-- states:{each.name} -->\n"
        head, mark, tail = each.readme.read_text().partition(begin)
        if mark:
            _, end, tail = tail.partition(_END)
            each.readme.write_text(f"{head}{mark}{lines}\n{end}{tail}")


if __name__ == "__main__":
    update()
