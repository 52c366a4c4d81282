"""Memory that a process and those that it starts have in common."""

import os
import tempfile


def shared_memory(name: str, size: int) -> int:
    """Return a descriptor of ``size`` bytes of memory, all of them 0.

    Args:
        name: what ``/proc`` calls it, on Linux; elsewhere it is a file without one.
        size: in bytes; a page is real once it was written to.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
