"""``Role``: which end of a connection this one is."""

import enum


class Role(enum.Enum):
    """The role of this end of a connection; the peer has the other one."""

    CLIENT = "client"
    SERVER = "server"
