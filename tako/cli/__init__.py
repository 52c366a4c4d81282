"""The ``tako`` command. ``import tako`` never imports this; it needs ``tako[cli]``."""

import sys


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    try:
        from tako.cli.commands import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write("tako: the command needs click: pip install 'tako[cli]'\n")
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
