"""``Role``: which end of a connection this one is."""

import enum


class Role(enum.Enum):
    """A peer has the other one."""

    CLIENT = "client"
    SERVER = "server"
