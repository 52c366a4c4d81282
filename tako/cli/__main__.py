"""``python -m tako.cli``: the same as ``tako``."""

from tako.cli import main


if __name__ == "__main__":
    main()
