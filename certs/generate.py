"""Make certificates for development: an authority, a server's and perhaps a client's.

Run it as ``python certs/generate.py``; ``--help`` tells the rest. Needs ``trustme``.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from tako.tls import dev


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = ArgumentParser(description="Make an authority and certificates it signs.")
    others = f"host names and IP addresses besides {', '.join(dev.NAMES)}"
    parser.add_argument("names", nargs="*", help=others)
    parser.add_argument("--dir", type=Path, help="default: the folder of this file")
    parser.add_argument("--client", metavar="NAME", help="also one for a client NAME")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    options = parser.parse_args(arguments)
    names = list(dict.fromkeys([*dev.NAMES, *options.names]))
    folder = options.dir or Path(__file__).parent
    if dev.has_set(folder) and not options.force:
        problems = list(dev.find_problems(folder, names, options.client))
        for line in problems or [f"{folder} has a valid set"]:
            sys.stdout.write(f"{line}; --force makes a new one\n")
        return 1 if problems else 0
    for path in dev.write_set(folder, names, options.client):
        sys.stdout.write(f"wrote {path}\n")
    sys.stdout.write(
        f"for {', '.join(names)}, valid for {dev.LIFETIME.days} days; trust it with\n"
        f"  SSL_CERT_FILE={folder / 'ca.pem'} or curl --cacert {folder / 'ca.pem'}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
