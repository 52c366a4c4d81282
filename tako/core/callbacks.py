"""What stands in for something that would be called: ``nothing``, ``Uncancelled``.

Parts of a connection call each other, and so refer to each other. One that is over puts
``nothing`` in the place of its callbacks: then reference counts free them all. It still
has every method; what it would have called is no more.
"""


def nothing(*_: object) -> None:
    """Do nothing."""


class Uncancelled:
    """Stands in for the task of an exchange that is not to be cancelled."""

    def cancel(self) -> None:
        """Do nothing."""
