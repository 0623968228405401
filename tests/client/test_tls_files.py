"""Certificates from files that are replaced while requests go on."""

import datetime as dt
import logging
import ssl

import grpc
import pytest
import trustme

import trimtab
from doors import loop, threads
from doors.calling import Load, connected
from doors.servers import EchoServer
from harness.waiting import Unmet, eventually
from trimtab.certificate_dates import _validity, validities
from trimtab.client.tls_files import TlsCredentials
from trimtab.control.tls import Certificate, TlsFiles
from trimtab.errors import ConfigError
from trimtab.testing import FakeClock

DOORS = {**threads.DOORS, **loop.DOORS}
SERVICE = "orders.shop"
NOW = dt.datetime(2026, 6, 1, 12, 30, tzinfo=dt.UTC)


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


def pem(*blobs):
    return b"".join(blob.bytes() for blob in blobs)


def issued(authority, name, until=None):
    """A chain and its key."""
    made = authority.issue_cert(name, not_after=until, not_before=until and until - dt.timedelta(9))
    return pem(*made.cert_chain_pems), pem(made.private_key_pem)


class Secret:
    """Files as Kubernetes mounts a secret: a link is moved, so that all change at once."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._number = 0
        for name in ("ca.crt", "tls.crt", "tls.key"):
            (folder / name).symlink_to(f"..data/{name}")

    def write(self, ca, certificate, key):
        self._number += 1
        made = self._folder / f"..{self._number}"
        made.mkdir()
        for name, content in (("ca.crt", ca), ("tls.crt", certificate), ("tls.key", key)):
            (made / name).write_bytes(content)
        link = self._folder / "..tmp"
        link.symlink_to(made.name)
        link.rename(self._folder / "..data")

    def paths(self):
        return [self._folder / name for name in ("ca.crt", "tls.crt", "tls.key")]


def served_from(secret):
    """A server's own certificates, which change as well. Each server needs its own."""
    ca, certificate, key = secret.paths()
    return Certificate(TlsFiles(certificate, key, ca)).credentials()


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_certificates_and_authorities_are_rotated_twice_under_load_and_no_request_fails(
    door, echo, tmp_path
):
    old = trustme.CA()
    secret, theirs = Secret(tmp_path / "client"), Secret(tmp_path / "servers")
    secret.write(pem(old.cert_pem), *issued(old, "caller-0.shop"))
    theirs.write(pem(old.cert_pem), *issued(old, SERVICE))
    servers = [EchoServer(echo, name, credentials=served_from(theirs)) for name in "ab"]
    channel = door.open(
        [server.target for server in servers],
        credentials=trimtab.tls_credentials(*secret.paths()),
        options=[("grpc.default_authority", SERVICE)],
    )
    connected(channel, 2)
    load = Load(channel, echo[0].Request)

    def all_connected_anew(caller):
        """Every server is called by this certificate, and by no other any more."""

        def look():
            before = [server.callers.copy() for server in servers]
            load.more(100)
            lately = [set(s.callers - was) for s, was in zip(servers, before, strict=True)]
            return lately == [{caller}] * 2 or Unmet(lately)

        eventually(look, within=40, what=f"all servers are called by {caller} only")

    try:
        load.more(50)
        for n in (1, 2):
            new = trustme.CA()
            both = pem(old.cert_pem, new.cert_pem)
            # First everybody trusts both, then everybody shows the new one, then the old one goes.
            theirs.write(both, *issued(old, SERVICE))
            secret.write(both, *issued(old, f"caller-{n}-both.shop"))
            all_connected_anew(f"caller-{n}-both.shop")
            theirs.write(both, *issued(new, SERVICE))
            secret.write(both, *issued(new, f"caller-{n}.shop"))
            all_connected_anew(f"caller-{n}.shop")
            theirs.write(pem(new.cert_pem), *issued(new, SERVICE))
            secret.write(pem(new.cert_pem), *issued(new, f"caller-{n}-only.shop"))
            all_connected_anew(f"caller-{n}-only.shop")
            old = new
    finally:
        load.stop()
        for server in servers:
            server.stop()
    assert load.errors == []


@pytest.fixture
def authority():
    return trustme.CA()


class Watched:
    """Credentials over files, by a clock of the test's."""

    def __init__(self, folder, authority, until=None):
        self.clock = FakeClock()
        self.now = NOW
        self.secret = Secret(folder)
        self.paths = self.secret.paths()
        self.good = (pem(authority.cert_pem), *issued(authority, "caller.shop", until))
        self.secret.write(*self.good)

    def open(self):
        self.credentials = TlsCredentials(
            *self.paths, None, self.clock, lambda: dt.datetime.timestamp(self.now)
        )
        return self.credentials

    def poll(self):
        self.clock.advance(1)
        self.credentials.poll()
        return self.credentials.generation


def later(days):
    return (NOW + dt.timedelta(days)).replace(tzinfo=None)


def test_new_content_is_taken_up_and_the_same_content_in_new_files_is_not(tmp_path, authority):
    watched = Watched(tmp_path, authority, later(10))
    before = watched.open()._credentials
    watched.secret.write(*watched.good)
    assert watched.poll() == 0
    watched.secret.write(watched.good[0], *issued(authority, "caller.shop", later(20)))
    assert watched.poll() == 1
    assert watched.credentials._credentials is not before


def test_the_child_of_a_process_that_forked_while_it_looked_at_the_files_looks_itself(
    tmp_path, authority
):
    watched = Watched(tmp_path, authority)
    with watched.open()._lock:  # another thread of the parent's looks
        watched.credentials.forked()
        assert watched.poll() == 0


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("broken", [b"", b"no PEM", "half", "other"])
def test_a_broken_or_half_written_or_foreign_file_leaves_the_last_good_ones_in_use_and_is_named(
    which, broken, tmp_path, authority, caplog
):
    watched = Watched(tmp_path, authority, later(10))
    before = watched.open()._credentials
    content = list(watched.good)
    if broken == "half":
        content[which] = content[which][: len(content[which]) // 2]
    elif broken == "other":  # a certificate without its key: the pair was caught half way
        content[max(which, 1)] = issued(authority, "caller.shop", later(10))[max(which, 1) - 1]
    else:
        content[which] = broken
    watched.secret.write(*content)
    with caplog.at_level(logging.ERROR, "trimtab.client"):
        assert [watched.poll(), watched.poll()] == [0, 0]
    assert watched.credentials._credentials is before
    (line,) = caplog.messages
    named = watched.paths[max(which, 1) if broken == "other" else which]
    assert str(named) in line
    assert "the last good ones stay in use" in line
    watched.secret.write(*watched.good)
    assert watched.poll() == 0
    assert watched.credentials.complaint == ""


def test_a_file_that_is_gone_leaves_the_last_good_ones_in_use(tmp_path, authority):
    watched = Watched(tmp_path, authority, later(10))
    watched.open()
    watched.paths[1].unlink()
    assert watched.poll() == 0
    assert watched.credentials.complaint == (
        f"TLS file {watched.paths[1]}: No such file or directory"
    )


def test_a_certificate_that_runs_out_is_named_with_its_date_and_its_successor_ends_that(
    tmp_path, authority, caplog
):
    watched = Watched(tmp_path, authority, later(1))
    watched.open()
    watched.now = NOW + dt.timedelta(days=2)
    with caplog.at_level(logging.ERROR, "trimtab.client"):
        watched.poll()
        watched.poll()
    text = f"TLS file {watched.paths[1]}: the certificate expired on 2026-06-02 at 12:30:00 UTC"
    assert watched.credentials.complaint == text
    assert caplog.messages == [f"{text}; replace it"]
    watched.secret.write(watched.good[0], *issued(authority, "caller.shop", later(20)))
    assert watched.poll() == 1
    assert watched.credentials.complaint == ""


def test_a_new_certificate_that_has_expired_is_not_taken(tmp_path, authority):
    watched = Watched(tmp_path, authority, later(10))
    watched.open()
    watched.secret.write(watched.good[0], *issued(authority, "caller.shop", later(-1)))
    assert watched.poll() == 0
    assert "expired on 2026-05-31" in watched.credentials.complaint


def test_to_begin_with_an_expired_certificate_is_refused_with_file_and_date(tmp_path, authority):
    watched = Watched(tmp_path, authority, later(-1))
    with pytest.raises(ConfigError, match=r"tls\.crt: the certificate expired on 2026-05-31 at 12"):
        watched.open()


def test_the_files_are_read_once_a_second_however_many_ask(tmp_path, authority):
    watched = Watched(tmp_path, authority, later(10))
    watched.open()
    watched.secret.write(watched.good[0], *issued(authority, "caller.shop", later(20)))
    for _ in range(100):
        watched.credentials.poll()
    assert watched.credentials.generation == 0
    assert watched.poll() == 1


def test_a_call_that_fails_says_that_the_own_certificate_has_expired(
    door, echo, tmp_path, authority
):
    watched = Watched(tmp_path, authority, later(1))
    credentials = watched.open()
    other = trustme.CA()
    theirs = Secret(tmp_path / "servers")
    theirs.write(pem(other.cert_pem), *issued(other, SERVICE))
    server = EchoServer(echo, "a", credentials=served_from(theirs))
    try:
        watched.now = NOW + dt.timedelta(days=2)
        watched.poll()
        channel = door.open([server.target], credentials=credentials)
        with pytest.raises(grpc.RpcError) as caught:
            channel.say(echo[0].Request(), timeout=10)
    finally:
        server.stop()
    assert "tls.crt: the certificate expired on 2026-06-02 at 12:30:00" in caught.value.details()


def test_one_of_certificate_and_key_alone_is_refused():
    with pytest.raises(ConfigError, match="certificate= and key= belong together"):
        trimtab.tls_credentials(certificate="/x")


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"TLS file .*/ca\.crt: No such file"):
        trimtab.tls_credentials(tmp_path / "ca.crt")


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2120])
def test_dates_are_read_in_both_of_their_forms(authority, year):
    end = dt.datetime(year, 12, 31, 23, 59, 58)  # noqa: DTZ001 - trustme's way
    chain = issued(authority, "caller.shop", end)[0]
    assert [until for _, until in validities(chain + chain)] == [end.replace(tzinfo=dt.UTC)] * 2


@pytest.mark.parametrize("size", [1, 40, 200])
def test_a_certificate_that_ends_too_soon_is_no_certificate(authority, size):
    der = ssl.PEM_cert_to_DER_cert(issued(authority, "caller.shop")[0].decode())
    with pytest.raises(ValueError, match="not a certificate"):
        _validity(der[:size])
