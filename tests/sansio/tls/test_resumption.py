"""Resumed sessions (RFC 8446 §2.2, RFC 5077): what they do, and what they must not."""

import contextlib
import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tako.tls.certificates import ClientAuth, TlsCert, TlsSettings
from tako.tls.server_pipe import ServerTlsPipe


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def client(request: pytest.FixtureRequest, ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    context.maximum_version = request.param
    return context


class Dialled(NamedTuple):
    """A handshake: the server's side, whether it was resumed, and what may be next."""

    server: ServerTlsPipe
    resumed: bool
    session: ssl.SSLSession | None


def dial(
    client: ssl.SSLContext,
    tls: TlsSettings,
    session: ssl.SSLSession | None = None,
    host: str = "a.test",
) -> Dialled:
    """Shake hands for ``host``, with ``session`` if there is one."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(incoming, outgoing, server_hostname=host, session=session)
    server = ServerTlsPipe(tls)
    while not (server.established or server.failed):
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.do_handshake()
        server.receive_data(outgoing.read())
        incoming.write(server.data_to_send())
    with contextlib.suppress(ssl.SSLError):
        peer.do_handshake()  # TLS 1.2: the server's Finished
        incoming.write(server.data_to_send(b"x"))
        assert peer.read() == b"x"  # behind the tickets of TLS 1.3
    return Dialled(server, bool(peer.session_reused), peer.session)


def test_a_session_is_resumed(ca: trustme.CA, client: ssl.SSLContext) -> None:
    tls = TlsSettings(TlsCert.leaf(ca.issue_cert("a.test")))
    first = dial(client, tls)
    again = dial(client, tls, first.session)
    assert (first.resumed, again.resumed) == (False, True)
    assert again.server.info == first.server.info


def test_a_listener_of_another_process_shakes_hands_in_full(
    ca: trustme.CA, client: ssl.SSLContext
) -> None:
    leaf = ca.issue_cert("a.test")
    one, other = (TlsSettings(TlsCert.leaf(leaf)) for _ in range(2))
    there = dial(client, other, dial(client, one).session)
    assert there.server.established
    assert not there.resumed


def test_a_session_is_worth_nothing_for_a_name_with_another_certificate(
    ca: trustme.CA, client: ssl.SSLContext
) -> None:
    names = {host: TlsCert.leaf(ca.issue_cert(host)) for host in ("a.test", "b.test")}
    tls = TlsSettings(TlsCert.sni(names))
    session = dial(client, tls).session
    there = dial(client, tls, session, "b.test")
    assert there.server.established
    assert not there.resumed
    assert tls.authority_allowed(there.server.info, "b.test")
    assert not tls.authority_allowed(there.server.info, "a.test")


def test_a_session_without_a_client_certificate_opens_no_name_that_demands_one(
    ca: trustme.CA, client: ssl.SSLContext
) -> None:
    leaf = ca.issue_cert("open.test", "closed.test")
    auth = ClientAuth.required(ca)
    names = {
        "open.test": TlsCert.leaf(leaf),
        "closed.test": TlsCert.leaf(leaf, client_auth=auth),
    }
    tls = TlsSettings(TlsCert.sni(names))
    session = dial(client, tls, host="open.test").session
    there = dial(client, tls, session, "closed.test")
    assert there.server.failed
    assert not there.server.established


def test_a_resumed_connection_knows_the_certificate_of_the_client(
    ca: trustme.CA, client: ssl.SSLContext
) -> None:
    ca.issue_cert("c@a.test").configure_cert(client)
    auth = ClientAuth.required(ca)
    tls = TlsSettings(TlsCert.leaf(ca.issue_cert("a.test"), client_auth=auth))
    first = dial(client, tls)
    again = dial(client, tls, first.session)
    assert again.resumed
    assert first.server.info is not None
    assert first.server.info.peer_cert
    assert again.server.info == first.server.info


def test_a_session_does_not_outlive_the_authority_of_its_client(
    ca: trustme.CA, client: ssl.SSLContext, tmp_path: Path
) -> None:
    old, new = trustme.CA(), trustme.CA()
    old.issue_cert("c@a.test").configure_cert(client)
    roots = tmp_path / "clients.pem"
    roots.write_bytes(old.cert_pem.bytes())
    auth = ClientAuth.required([roots])
    tls = TlsSettings(TlsCert.leaf(ca.issue_cert("a.test"), client_auth=auth))
    session = dial(client, tls).session
    assert dial(client, tls, session).resumed
    roots.write_bytes(new.cert_pem.bytes())
    for each in tls.reloadables():
        each.reload_from_pem()
    there = dial(client, tls, session)
    assert there.server.failed
    assert not there.resumed
