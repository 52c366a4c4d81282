"""A shared message is, on each wire, byte for byte what ``send`` sends; or nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.errors import Disconnected
from tako.h1 import H1Exchange, H1Tunnel
from tako.ws.conversation import Conversation
from tako.ws.options import DeflateParams, WsOptions
from tako.ws.relay import ConversationRelay
from tako.ws.shared import Shared
from tests.support.h1_peer import H1Peer
from tests.support.h2wire import CONNECT, Peer, settings, window_update
from tests.support.topics import Bench


if TYPE_CHECKING:
    from tako.h2 import H2Exchange
    from tako.ws.websocket import WebSocket


UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
    b"upgrade: websocket\r\n\r\n"
)
SIZES = (0, 1, 125, 126, 4_000, 4_096, 16_380, 65_535, 65_536)
TAKEOVER = DeflateParams(threshold=100)
FRESH = DeflateParams(our_no_context_takeover=True, threshold=100)
DEFLATE = (None, TAKEOVER, FRESH)
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 4, 5


class End:
    """The server's end of a WebSocket, and what leaves it."""

    def __init__(
        self, wire: str, deflate: DeflateParams | None = None, window: int = 1 << 24
    ) -> None:
        peer: H1Peer | Peer
        tunnel: H1Tunnel | H2Exchange
        if wire == "h1":
            peer = H1Peer()
            (exchange,) = peer.engine.receive_data(UPGRADE) or ()
            assert isinstance(exchange, H1Exchange)
            tunnel = exchange.open_tunnel(101, [])
        else:
            peer = Peer(config=ServerConfig())
            peer.send(
                settings((INITIAL_WINDOW_SIZE, window)), window_update(0, 1 << 24)
            )
            tunnel = peer.request(1, CONNECT, end=False).open_tunnel(200, [])
        self.peer = peer
        self.connection = peer.connection
        self.tunnel = tunnel
        self.ws = Conversation(tunnel, WsOptions(deflate=deflate))
        tunnel.receive_into(self.ws, self.ws.inbox)
        self.connection.take()

    def plain(self, data: str | bytes) -> bytes:
        """Send as a session does; return what leaves."""
        first_byte = 0x81 if isinstance(data, str) else 0x82
        self.ws.send_message(first_byte, data)
        return self.connection.take()

    def shared(self, message: Shared, *, soon: bool = False) -> bytes:
        assert self.ws.send_shared(message, soon)
        return self.connection.take()


MakeEnd: TypeAlias = Callable[..., End]


@pytest.fixture(params=["h1", "h2"])
def make_end(request: pytest.FixtureRequest) -> MakeEnd:
    return lambda *args, **options: End(request.param, *args, **options)


@pytest.mark.parametrize("deflate", DEFLATE)
@pytest.mark.parametrize("soon", [False, True])
def test_it_is_what_send_sends(
    make_end: MakeEnd, deflate: DeflateParams | None, soon: bool
) -> None:
    # A window that is kept is each end's own: then it is sent as without compression
    other = None if deflate is TAKEOVER else deflate
    ends, model = [make_end(deflate) for _ in range(3)], make_end(other)
    for size in SIZES:
        for data in ("ab" * (size // 2) + "c" * (size % 2), b"\xfe" * size):
            message = Shared(data)
            expected = model.plain(data)
            assert [end.shared(message, soon=soon) for end in ends] == [expected] * 3


def test_it_is_compressed_once_for_equal_parameters(make_end: MakeEnd) -> None:
    message = Shared("x" * 1000)
    other = DeflateParams(our_window_bits=9, our_no_context_takeover=True)
    frames = [
        message.deflated(FRESH),
        message.deflated(DeflateParams(our_no_context_takeover=True)),
        message.deflated(other),
    ]
    assert frames[0] is frames[1] is not frames[2]
    assert make_end(other).shared(message) == make_end(other).plain("x" * 1000)


def test_it_does_not_disturb_a_window_that_is_kept(make_end: MakeEnd) -> None:
    end, model = make_end(TAKEOVER), make_end(TAKEOVER)
    text = "the same words again and again " * 10
    assert end.plain(text) == model.plain(text)
    end.shared(Shared("something else " * 20))
    assert end.plain(text) == model.plain(text)


@pytest.mark.parametrize("frame_size", [16_384, 30_000])
@pytest.mark.parametrize("window", [10, 5_000, 70_000])
def test_a_small_window_cuts_it_as_it_cuts_others(window: int, frame_size: int) -> None:
    ends = [End("h2", window=window) for _ in range(2)]
    message = b"y" * 60_000
    for end in ends:
        end.peer.send(settings((MAX_FRAME_SIZE, frame_size)))
        end.connection.take()
    sent = [ends[0].plain(message), ends[1].shared(Shared(message))]
    for _ in range(7):
        for index, end in enumerate(ends):
            end.peer.send(window_update(1, 10_000))
            sent[index] += end.connection.take()
    assert sent[0] == sent[1]
    assert len(sent[0]) > 60_000


def test_it_does_not_overtake_what_waits(make_end: MakeEnd) -> None:
    end, model = make_end(), make_end()
    for each in (end, model):
        each.tunnel.send_data(b"raw")
    model.ws.send_message(0x81, "x")
    assert end.ws.send_shared(Shared("x"), False)
    assert end.connection.take() == model.connection.take()


def test_nothing_is_sent_where_there_is_no_room(make_end: MakeEnd) -> None:
    end, message = make_end(), Shared("x")
    end.connection.writable = False
    assert not end.ws.send_shared(message, False)
    assert end.connection.take() == b""
    end.connection.writable = True
    assert end.ws.send_shared(message, False)


def test_nothing_is_sent_behind_a_full_window() -> None:
    end = End("h2", window=0)
    sent = 0
    while end.ws.send_shared(Shared(bytes(10_000)), True):
        sent += 1
    assert 1 <= sent <= 10
    woken = []

    class Waiter:
        def wake(self) -> None:
            woken.append(end.ws.send_shared(Shared("more"), True))

    end.ws.relays = (Waiter(),)  # type: ignore[assignment]
    end.peer.send(window_update(1, 1 << 20))
    assert woken == [True]


@pytest.mark.parametrize("deflate", DEFLATE)
def test_nothing_follows_a_close(
    make_end: MakeEnd, deflate: DeflateParams | None
) -> None:
    end = make_end(deflate)
    end.ws.send_close(1000)
    end.connection.take()
    assert not end.ws.send_shared(Shared("x" * 200), False)
    assert end.connection.take() == b""


@pytest.mark.parametrize("deflate", DEFLATE)
def test_a_relay_sends_until_closing_begins(
    make_end: MakeEnd, deflate: DeflateParams | None
) -> None:
    end, topics = make_end(deflate), Bench()
    feed = topics.subscribe("a")
    socket = cast("WebSocket", None)  # which a relay that is entered has no need of
    relay = ConversationRelay(socket, end.ws, feed, None, None)
    end.connection.runtime.run(relay.__aenter__)
    topics.publish("a", "x")
    assert end.connection.take().endswith(b"\x81\x01x")
    end.ws.send_close(1000)
    assert end.connection.take().endswith(b"\x88\x02\x03\xe8")
    topics.publish("a", "y")
    assert end.connection.take() == b""
    assert topics.tally.queued_bytes == 0


def test_nothing_is_sent_to_a_peer_that_is_gone(make_end: MakeEnd) -> None:
    end = make_end()
    end.ws.deliver_eof(Disconnected())
    assert not end.ws.send_shared(Shared("x"), False)
    other = make_end()
    other.tunnel.reset(ErrorCode.CANCEL)
    other.connection.take()
    assert not other.tunnel.send_shared(Shared("x"), False)
    assert other.connection.take() == b""


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        Shared("\ud800")
