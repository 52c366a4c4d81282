"""``--inspect``: with which token, over what, and how workers find each other."""

import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from tako.cli import certs
from tako.cli.listeners import Bound
from tako.cli.plan import Plan
from tako.inspect.inspector import Among, inspecting, new_token, url_of
from tako.server.serve import Server
from tako.tls.certificates import ReloadableResolver, TlsCert


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the inspectors of all workers have in common, and the place of this one.

    Attributes:
        token: who has it may look.
        folder: has a socket of each worker; ``None``: there is one process.
        place: of those that workers have, from 1 on.
    """

    token: str
    folder: Path | None = None
    place: int = 1

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return what a supervisor has ``written``; ``None``: it inspects nothing."""
        if not text:
            return None
        place, token, folder = text.split(":", 2)
        return cls(token, Path(folder), int(place))

    def written(self, place: int) -> str:
        """Return this for the worker of a place, as text."""
        return f"{place}:{self.token}:{self.folder}"

    def url(self, plan: Plan, bound: Bound) -> str | None:
        """Return what to open; ``None``: nothing listens for it.

        Raises:
            ConfigError: it could be reached from elsewhere.
        """
        if bound.inspect is None:
            return None
        secure = _certificate(plan) is not None
        return url_of(bound.inspect, self.token, secure=secure)

    @asynccontextmanager
    async def around(
        self,
        server: Server,
        plan: Plan,
        bound: Bound,
        resolvers: Sequence[ReloadableResolver],
    ) -> AsyncGenerator[None, None]:
        """Show ``server`` for the length of a block, if something listens for that.

        Cancel safety: as ``serve``.
        """
        if bound.inspect is None:
            yield
            return
        among = None
        if self.folder is not None:
            among = Among(folder=self.folder, place=self.place)
        number = _certificate(plan)
        tls = None if number is None else TlsCert.resolver(resolvers[number])
        async with inspecting(
            server, bound.inspect, tls=tls, token=self.token, among=among
        ):
            yield


def alone() -> Inspection:
    """Return what inspects one process."""
    return Inspection(new_token())


@contextmanager
def shared() -> Generator[Inspection, None, None]:
    """Provide what inspects several workers: a folder that only this user can enter."""
    folder = tempfile.mkdtemp(prefix="tako-")
    try:
        yield replace(alone(), folder=Path(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _certificate(plan: Plan) -> int | None:
    """Return which certificate a browser of this machine takes; ``None``: none.

    Without one the page goes over HTTP/1.1: it never leaves this machine.
    """
    for number, (path, _) in enumerate(plan.certs):
        if "localhost" in certs.host_names(path):
            return number
    return None
