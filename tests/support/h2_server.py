"""A server of HTTP/2 on the ``h2`` library whose limits a test moves: it echoes.

It speaks HTTP/2 with prior knowledge, in threads of its own, and takes every extended
CONNECT (RFC 8441); a message is one DATA frame of fewer than 126 bytes.
"""

import contextlib
import socket
import threading
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes

from tests.support.patience import TIMEOUT


class Scripted:
    """A connection that a client has made."""

    def __init__(self, sock: socket.socket, limit: int) -> None:
        self.sock = sock
        self.open: set[int] = set()
        self.asked = 0
        self._lock = threading.Lock()
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.state = h2.connection.H2Connection(config)
        self.state.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self.state.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limit
        self.state.local_settings.acknowledge()
        with self._lock:
            self.state.initiate_connection()
            self._flush()

    def serve(self) -> None:
        """Answer until the client has gone."""
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError), self.sock:
            while data := self.sock.recv(65_536):
                with self._lock:
                    for event in self.state.receive_data(data):
                        self._answer(event)
                    self._flush()

    def allow(self, limit: int) -> None:
        """Send another MAX_CONCURRENT_STREAMS."""
        with self._lock:
            changed: Any = {SettingCodes.MAX_CONCURRENT_STREAMS: limit}
            self.state.update_settings(changed)
            self._flush()

    def goaway(self) -> None:
        """Send GOAWAY, naming the last stream, and go on."""
        with self._lock:
            last = self.state.highest_inbound_stream_id
            payload = last.to_bytes(4) + bytes(4)
            self.sock.sendall(b"\0\0\x08\x07\0\0\0\0\0" + payload)

    def _flush(self) -> None:
        self.sock.sendall(self.state.data_to_send())

    def _answer(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.asked += 1
            self.open.add(event.stream_id)
            self.state.send_headers(event.stream_id, [(":status", "200")])
        elif isinstance(event, h2.events.DataReceived):
            size = event.flow_controlled_length
            self.state.acknowledge_received_data(size, event.stream_id)
            if event.data:
                last = event.data[0] == 0x88  # RFC 6455 §7.1.1: the server ends first
                reply = unmasked(event.data)
                self.state.send_data(event.stream_id, reply, end_stream=last)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            self.open.discard(event.stream_id)


def unmasked(frame: bytes) -> bytes:
    """Return a small masked frame as a server sends it (RFC 6455 §5.3)."""
    key, payload = frame[2:6], frame[6:]
    plain = bytes(byte ^ key[at & 3] for at, byte in enumerate(payload))
    return bytes([frame[0], len(payload)]) + plain


class ScriptedServer:
    """Listens within ``with``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.connections: list[Scripted] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self.connections:
            with contextlib.suppress(OSError):
                each.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                connection = Scripted(sock, self._limit)
                self.connections.append(connection)
                thread = threading.Thread(target=connection.serve, daemon=True)
                self._threads.append(thread)
                thread.start()
