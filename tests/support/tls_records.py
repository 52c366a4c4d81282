"""A TLS 1.3 client that seals its own records: empty ones, tiny ones, new keys.

OpenSSL's client cannot be made to send a record without data, or one KeyUpdate after
the other (RFC 8446 sections 4.6.3 and 5).
"""

import hashlib
import hmac
import ssl
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305


_KEY_UPDATE = b"\x18\0\0\1\0"  # update_not_requested
_HANDSHAKE, DATA = 22, 23


class TlsRecords:
    """Seals records for a server."""

    def __init__(self, send: Callable[[bytes], bytes], alpn: str = "http/1.1") -> None:
        """Shake hands; ``send`` delivers bytes and returns what the server answers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([alpn])
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "keys"
            context.keylog_filename = str(log)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            done = False
            while not done:
                try:
                    client.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    pass
                incoming.write(send(outgoing.read()))
            lines = [line.split() for line in log.read_text().splitlines()]
        secrets = {line[0]: line[-1] for line in lines}
        cipher = client.cipher()
        assert cipher is not None
        name = cipher[0]
        self._hash = hashlib.sha384 if "384" in name else hashlib.sha256
        self._key_size = 16 if "128" in name else 32
        self._aead = ChaCha20Poly1305 if "CHACHA" in name else AESGCM
        self._secret = bytes.fromhex(secrets["CLIENT_TRAFFIC_SECRET_0"])
        self._rekey()

    def record(self, data: bytes = b"", kind: int = DATA) -> bytes:
        """Return one record."""
        inner = data + bytes([kind])
        head = b"\x17\x03\x03" + struct.pack(">H", len(inner) + 16)
        nonce = (self._iv ^ self._count).to_bytes(12)
        self._count += 1
        return head + self._cipher.encrypt(nonce, inner, head)

    def key_update(self) -> bytes:
        """Return a KeyUpdate and use the new keys from then on."""
        record = self.record(_KEY_UPDATE, _HANDSHAKE)
        self._secret = self._expand(b"traffic upd", self._hash().digest_size)
        self._rekey()
        return record

    def _rekey(self) -> None:
        self._cipher = self._aead(self._expand(b"key", self._key_size))
        self._iv = int.from_bytes(self._expand(b"iv", 12))
        self._count = 0

    def _expand(self, name: bytes, size: int) -> bytes:
        """Return HKDF-Expand-Label (RFC 8446 section 7.1)."""
        head = struct.pack(">HB", size, 6 + len(name)) + b"tls13 " + name
        block = hmac.new(self._secret, head + b"\0\1", self._hash).digest()
        return block[:size]
