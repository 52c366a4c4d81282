"""``python -m tako``: the same as the command ``tako``."""

from tako.cli import main


if __name__ == "__main__":
    main()
