"""Many TLS handshakes at once, by real processes: a fault in gRPC's core ends the whole process."""

import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from certificates import Authority
from harness.control_plane import ControlPlane, free_addresses
from harness.ports import free_port
from harness.process import Process
from identities import tokens, write_pair
from trimtab.control.tls import TlsFiles, _Handover

pytestmark = pytest.mark.processes

AT_ONCE = 50


class Burst:
    """Connections to one address, fifty at once; each is closed as soon as TLS is up."""

    def __init__(self, address, context):
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._context = context
        self.certificates = set()
        self._failed = 0

    def rounds(self, number):
        """How many handshakes failed."""
        self._failed = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._once, range(AT_ONCE * number)):
                pass
        return self._failed

    def _once(self, _):
        try:
            with (
                socket.create_connection(self._address, 20) as plain,
                self._context.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                self.certificates.add(connection.getpeercert(binary_form=True))
        except OSError:
            self._failed += 1


def context_of(authority):
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def files(authority, tmp_path):
    written = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    write_pair(written, authority)
    written.client_ca.write_bytes(authority.pem)
    return written


@pytest.fixture
def started(tmp_path, files):
    """Starts a control plane with these options, and the end of it is seen to."""
    planes = []

    def start(*options):
        (tmp_path / "manifests").mkdir()
        tls = ["--tls-cert", files.certificate, "--tls-key", files.key]
        plane = ControlPlane(free_addresses(), tmp_path / "manifests", options=[*tls, *options])
        planes.append(plane)
        plane.start()
        return plane

    yield start
    for plane in planes:
        plane.stop()


def test_ten_thousand_handshakes_fifty_at_once_end_no_process(started, authority, tmp_path):
    plane = started("--tokens", tokens(tmp_path))
    assert Burst(plane.address, context_of(authority)).rounds(200) == 0
    assert plane.running


def test_handshakes_with_client_certificates_fifty_at_once_end_no_process(
    started, authority, files, tmp_path
):
    plane = started("--tls-client-ca", files.client_ca)
    mine = TlsFiles(tmp_path / "mine.pem", tmp_path / "mine.key")
    write_pair(mine, authority, "client")
    context = context_of(authority)
    context.load_cert_chain(mine.certificate, mine.key)
    assert Burst(plane.address, context).rounds(40) == 0
    assert plane.running


def test_certificates_replaced_amid_handshakes_are_served_and_end_no_process(
    started, authority, files, tmp_path
):
    plane = started("--tokens", tokens(tmp_path))
    burst = Burst(plane.address, context_of(authority))
    rotations = 10
    for number in range(rotations):
        assert burst.rounds(2) == 0
        write_pair(files, authority, f"pair {number}")
        assert burst.rounds(1) == 0
    assert plane.running
    assert len(burst.certificates) == 1 + rotations


HANDS_OVER_AT_EVERY_HANDSHAKE = """
import sys, threading
import grpc
from trimtab.control.tls import _Handover

port, certificate, key, share = sys.argv[1:]
pem = (open(key, "rb").read(), open(certificate, "rb").read())
made = lambda: grpc.ssl_server_certificate_configuration([pem])
wait = threading.Event().wait
handover = _Handover(None, made, lambda seconds: wait(seconds * float(share)))
server = grpc.server(None)
server.add_secure_port(f"127.0.0.1:{port}", grpc.dynamic_ssl_server_credentials(made(), handover))
server.start()
print("listening", flush=True)
sys.stdin.read()
"""


def test_a_pair_handed_over_at_every_handshake_ends_no_process(authority, files):
    # A fifth of the pauses, for five times the handovers. Without any, every second run dies.
    port = free_port()
    program = [sys.executable, "-c", HANDS_OVER_AT_EVERY_HANDSHAKE]
    server = Process("server", [*program, port, files.certificate, files.key, 0.2])
    try:
        server.expect("listening", within=20)
        burst = Burst(f"127.0.0.1:{port}", context_of(authority))
        assert burst.rounds(8) == 0
        assert server.running
    finally:
        server.kill()


def test_a_pair_is_given_once_and_after_the_whole_pause():
    pairs, paused = ["first"], []
    handover = _Handover(pairs[-1], lambda: pairs[-1], paused.append)
    assert handover() is None
    pairs.append("second")
    assert not paused
    assert [handover() for _ in range(3)] == ["second", None, None]
    assert sum(paused) == pytest.approx(0.1)
    assert len(paused) > 1
