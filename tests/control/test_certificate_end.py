"""A certificate that is about to end is told, and its successor ends that."""

import datetime as dt

import pytest

from certificates import Authority
from identities import write_pair
from plane import QueueSource, eventually, running, snapshot
from trimtab.control import metrics
from trimtab.control.certificate_end import CertificateEnd
from trimtab.control.security import SecurityOptions
from trimtab.control.tls import Certificate, TlsFiles
from trimtab.model import Synced, Updated
from trimtab.telemetry import Counters

DAY = 86_400


class Watched:
    """A certificate of an hour and five minutes, looked at when a test says so."""

    def __init__(self, folder):
        self.authority = Authority()
        self.files = TlsFiles(folder / "cert.pem", folder / "key.pem")
        write_pair(self.files, self.authority)
        self.certificate = Certificate(self.files)
        self.counters = Counters(metrics.METRICS)
        self.end = self.certificate.validity()[1].timestamp()
        self.now = self.end - 3600
        self.watch = CertificateEnd(self.certificate, self.counters, lambda: self.now)

    def soon(self, before_end):
        self.now = self.end - before_end
        self.watch.look()
        return self.counters.get(metrics.CERTIFICATE_ENDS_SOON)


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def test_it_is_said_when_little_of_its_life_is_left_and_again_every_day(watched, caplog):
    # A fifth of 65 minutes is 13.
    assert watched.soon(14 * 60) == 0
    assert not caplog.text
    assert watched.soon(12 * 60) == 1
    assert watched.soon(60) == 1
    assert caplog.text.count("the certificate ends on") == 1
    assert watched.soon(-DAY) == 1
    assert caplog.text.count("the certificate has ended on") == 1
    assert watched.counters.get(metrics.CERTIFICATE_END) == watched.end


def at(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def test_one_that_lives_for_a_year_is_told_14_days_before(watched):
    valid = at(watched.end - 400 * DAY), at(watched.end)
    write_pair(watched.files, watched.authority, valid=valid)
    assert watched.soon(15 * DAY) == 0
    assert watched.soon(13 * DAY) == 1


def test_its_successor_ends_that(watched):
    assert watched.soon(60) == 1
    valid = at(watched.end - 3600), at(watched.end + 3600)
    write_pair(watched.files, watched.authority, valid=valid)
    watched.watch.look()
    assert watched.counters.get(metrics.CERTIFICATE_ENDS_SOON) == 0


async def test_it_stands_in_the_metrics(watched):
    source = QueueSource(Updated(snapshot("orders", 1)), Synced())
    async with running(source, security=SecurityOptions(tls=watched.files)) as plane:
        await eventually(lambda: plane.counters.get(metrics.CERTIFICATE_END) == watched.end)
