"""``Store``: what is kept of one certificate on disk, and the lock of its authority.

In the authority's folder, which is for the owner alone::

    account.pem             the account's key
    lock                    held while the authority is talked to
    NAME/certificate.pem    key and chain, in one file
    NAME/memory.json        what was tried: see ``Memory``
    NAME/key.pem            the key of an order that has not ended
    NAME/challenge-*.pem    what answers the authority, while it looks

Each file is replaced as a whole, and may be read at any time; only the process that has
the lock writes.
"""

import contextlib
import dataclasses
import fcntl
import json
import logging
import math
import os
from collections.abc import Generator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tako.acme import proof
from tako.acme.renewal import Held, Memory
from tako.tls.acme import challenge_file
from tako.tls.replace import replace


_logger = logging.getLogger("tako.acme")

_TIMES = ("since", "renew_at", "ask_at")
_NONE = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "failures": (int,),
    "pause": (int, float),
    "order": (str, _NONE),
    "asked_for": (int, _NONE),
    **dict.fromkeys(_TIMES, (str, _NONE)),
}
"""What ``memory.json`` has, as JSON has it."""


class Store:
    """The files of one certificate.

    Attributes:
        memory_path: the file of ``Memory``.
    """

    __slots__ = ("_account", "_certificate", "_folder", "_key", "_lock", "memory_path")

    def __init__(self, folder: Path) -> None:
        """Make one for a certificate's folder, which is there already."""
        self._folder = folder
        self._account = folder.parent / "account.pem"
        self._lock = folder.parent / "lock"
        self._certificate = folder / "certificate.pem"
        self._key = folder / "key.pem"
        self.memory_path: Path = folder / "memory.json"

    @contextlib.contextmanager
    def locked(self) -> Generator[bool, None, None]:
        """Try to take the lock; yield whether this process has it.

        Raises:
            OSError: the file cannot be used.
        """
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)  # which lets go of the lock, as the process's end does

    def held(self) -> tuple[x509.Certificate, Held] | None:
        """Return the certificate that is there; ``None``: none that can be used."""
        try:
            return proof.read_held(self._certificate.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _logger.warning("%s cannot be used: %s", self._certificate, error)
            return None

    def keep(self, key: ec.EllipticCurvePrivateKey, chain: bytes) -> None:
        """Replace the certificate and its key, both at once.

        Raises:
            OSError: they cannot be written; the old ones stay.
        """
        replace(self._certificate, proof.key_pem(key) + chain, private=True)

    def memory(self) -> Memory:
        """Return what was tried so far; of a file that is broken, nothing."""
        try:
            return read_memory(self.memory_path.read_bytes())
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError) as error:
            _logger.warning("%s cannot be used: %s", self.memory_path, error)
            return Memory()

    def remember(self, memory: Memory) -> None:
        """Write what was tried.

        Raises:
            OSError: it cannot be written.
        """
        replace(self.memory_path, write_memory(memory), private=True)

    def account_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the key of the account, made where there is none.

        Raises:
            OSError: it cannot be read or written.
            ValueError: the file is broken.
        """
        return _key(self._account)

    def order_key(self, *, fresh: bool) -> ec.EllipticCurvePrivateKey:
        """Return the key of the order, made where there is none, or ``fresh``.

        Raises:
            OSError: it cannot be read or written.
            ValueError: the file is broken.
        """
        if fresh:
            self._key.unlink(missing_ok=True)
        return _key(self._key)

    def has_order_key(self) -> bool:
        """Tell whether there is a key of an order that has not ended."""
        return self._key.exists()

    def show(self, name: str, digest: bytes, now: datetime) -> None:
        """Have a challenge for ``name`` answered, by all processes.

        Raises:
            OSError: it cannot be written.
        """
        pem = proof.challenge_pem(name, digest, now)
        replace(challenge_file(self._folder, name), pem, private=True)

    def tidy(self, *, order: bool) -> None:
        """Remove what a challenge needs, and what an ``order`` that has ended does.

        Raises:
            OSError: a file cannot be removed.
        """
        for path in self._folder.glob("challenge-*.pem"):
            path.unlink(missing_ok=True)
        if order:
            self._key.unlink(missing_ok=True)


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        return proof.read_key(path.read_bytes())
    except FileNotFoundError:
        key = proof.new_key()
        replace(path, proof.key_pem(key), private=True)
        return key
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error


def write_memory(memory: Memory) -> bytes:
    """Return ``memory`` as a file has it."""
    values = dataclasses.asdict(memory)
    for name in _TIMES:
        if values[name] is not None:
            values[name] = values[name].isoformat()
    return json.dumps(values, indent=2).encode() + b"\n"


def read_memory(data: bytes) -> Memory:
    """Return what ``write_memory`` has made a file of.

    Raises:
        ValueError: it is another file.
    """
    document: object = json.loads(data)
    values = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    if {*values} != {*_KINDS}:
        msg = "it has other members than what is written"
        raise ValueError(msg)
    for name, kinds in _KINDS.items():
        if type(values[name]) not in kinds:
            msg = f"{name} is {values[name]!r}"
            raise ValueError(msg)
    if not math.isfinite(values["pause"]):
        msg = f"pause is {values['pause']}"
        raise ValueError(msg)
    for name in _TIMES:
        if values[name] is not None:
            time = values[name] = datetime.fromisoformat(values[name])
            if time.tzinfo is None:
                msg = f"{name} is in no time zone"
                raise ValueError(msg)
    return Memory(**values)
