"""A griffe extension: the examples of docstrings are Python."""

import re
import textwrap
from typing import Any

import griffe


_EXAMPLE = re.compile(r"^Example::\n\n((?:    .*\n?|\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Shows ``Example::`` and the block below it as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_code, obj.docstring.value)


def _code(found: re.Match[str]) -> str:
    return f"```python\n{textwrap.dedent(found[1]).strip()}\n```\n\n"
