"""The ``tako`` command, which ``import tako`` never imports; ``tako-server[cli]``."""

import sys


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    try:
        from tako.cli.commands import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        hint = "the command needs click: pip install 'tako-server[cli]'"
        sys.stderr.write(f"tako: {hint}\n")
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
