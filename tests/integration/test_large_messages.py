"""What large messages cost the process of a server."""

import platform

import pytest

from tests.support.peer import Wire
from tests.support.server import Credentials, RuntimeName
from tests.support.victim_process import VictimProcess


MESSAGES = 200


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc's malloc")
def test_memory_goes_from_message_to_message(
    runtime: RuntimeName, wire: Wire, credentials: Credentials
) -> None:
    # Given back and asked for again it would cost 2 (h1) to 12 (h2) page faults each.
    with (
        VictimProcess(credentials, runtime, wire) as victim,
        victim.connect(wire) as peer,
    ):
        socket = peer.websocket("/ws")
        for _ in range(MESSAGES):
            socket.echo(bytes(65_536))
        before = victim.page_faults
        for _ in range(MESSAGES):
            socket.echo(bytes(65_536))
        assert victim.page_faults - before < MESSAGES / 2
