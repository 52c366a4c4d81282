"""The state tables of tako are complete, and the READMEs show them as they are."""

import enum
from pathlib import Path

import pytest

from tests.project import states
from tests.project.architecture import TAKO
from tests.project.states import Found


TABLES = states.found()
IDS = [each.name for each in TABLES]
READMES = sorted(TAKO.glob("*/README.md"))


@pytest.mark.parametrize("found", TABLES, ids=IDS)
def test_the_readme_shows_the_table_of_the_code(found: Found) -> None:
    lines = states.table(found.enum, found.following)
    told = states.shown(found.readme).get(found.name)
    assert told == lines, "run: python -m tests.project.states"


@pytest.mark.parametrize("found", TABLES, ids=IDS)
def test_a_table_has_every_state_and_each_is_reached(found: Found) -> None:
    assert list(found.following) == list(found.enum)
    reached = {next(iter(found.enum))}
    while more := {s for old in reached for s in found.following[old]} - reached:
        reached |= more
    assert reached == set(found.enum)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_a_readme_shows_no_table_that_is_gone(readme: Path) -> None:
    ours = {each.name for each in TABLES if each.readme == readme}
    assert set(states.shown(readme)) == ours


class Light(enum.IntEnum):
    RED = 0
    """Cars wait,
    people walk."""
    GREEN = 1
    OFF = 2
    """At night."""


def test_a_table_says_what_a_state_means_and_what_may_follow() -> None:
    following = {
        Light.RED: frozenset({Light.OFF, Light.GREEN}),
        Light.GREEN: frozenset({Light.RED}),
        Light.OFF: frozenset[Light](),
    }
    assert states.table(Light, following) == [
        "| state | meaning | may be followed by |",
        "|---|---|---|",
        "| `RED` | Cars wait, people walk | `GREEN`, `OFF` |",
        "| `GREEN` |  | `RED` |",
        "| `OFF` | At night | nothing |",
    ]


def test_a_table_is_written_between_its_markers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    other = "<!-- states:Other -->\nold\n<!-- /states -->\n"
    readme.write_text(f"a\n<!-- states:Light -->\nold\n<!-- /states -->\nb\n{other}")
    following = {state: frozenset(Light) for state in Light}
    monkeypatch.setattr(states, "found", lambda: [Found(Light, following, readme)])
    states.update()
    assert states.shown(readme) == {
        "Light": states.table(Light, following),
        "Other": ["old"],
    }
    assert readme.read_text().startswith("a\n<!-- states:Light -->\n| state |")
    assert readme.read_text().endswith(f"<!-- /states -->\nb\n{other}")
