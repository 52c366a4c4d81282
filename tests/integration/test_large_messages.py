"""What large messages cost the process of a server."""

import platform

import pytest

from tako.testing.peer import Wire
from tests.support.server import Credentials, RuntimeName
from tests.support.victim_process import VictimProcess


@pytest.mark.parametrize(("size", "messages"), [(65_536, 100), (1_000_000, 20)])
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc's malloc")
def test_memory_goes_from_message_to_message(
    runtime: RuntimeName,
    wire: Wire,
    credentials: Credentials,
    size: int,
    messages: int,
) -> None:
    # Given back and asked for again it would cost up to 14 page faults each,
    # and more than 45 for a megabyte.
    with (
        VictimProcess(credentials, runtime, wire) as victim,
        victim.connect(wire) as peer,
    ):
        socket = peer.websocket("/ws")
        faults: list[int] = []
        for _ in range(5):  # at first the heap grows
            before = victim.page_faults
            for _ in range(messages):
                socket.echo(bytes(size))
            faults.append(victim.page_faults - before)
        assert min(faults) < 4 * messages
