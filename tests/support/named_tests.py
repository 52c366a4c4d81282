"""The names of the tests in a file, for pages and tables that name tests."""

import ast
from pathlib import Path


def named_tests(path: Path) -> set[str]:
    """Return the names of the functions and methods in a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_bytes())
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
