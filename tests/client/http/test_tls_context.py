"""A TLS context whose files are replaced under load, as cert-manager does: for servers that are known by name."""

import asyncio
import itertools
import ssl
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from cryptography import x509

import trimtab
from certificates import Authority
from harness.waiting import Deadline, pause
from trimtab.client.tls_context import tls_context
from trimtab.errors import ConfigError

URL = "https://localhost:8443/"
ANSWERS = 10  # of a server, until it ends the connection that it gives one on


@pytest.fixture
def authority():
    return Authority("servers")


class Client:
    """A client's files."""

    def __init__(self, folder, authority):
        self.ca, self.certificate, self.key = (folder / n for n in ("ca.pem", "tls.pem", "tls.key"))
        self.ca.write_bytes(authority.pem)

    def write(self, authority):
        """Replace the certificate; its serial number."""
        chain, key = authority.issue(name="client")
        self.certificate.write_bytes(chain)
        self.key.write_bytes(key)
        return x509.load_pem_x509_certificate(chain).serial_number


@pytest.fixture
def client_files(tmp_path, authority):
    return Client(tmp_path, authority)


@asynccontextmanager
async def server(folder, authority, *clients):
    """The target of one that says which certificate a client showed, of these clients' authorities."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name, content in zip(("s.pem", "s.key"), authority.issue(), strict=True):
        (folder / name).write_bytes(content)
    context.load_cert_chain(folder / "s.pem", folder / "s.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata="".join(each.pem.decode() for each in clients))
    numbers = itertools.count(1)

    async def answer(request):
        shown = request.get_extra_info("peercert")["serialNumber"]
        response = web.json_response({"serial": str(int(shown, 16))})
        if next(numbers) % ANSWERS == 0:
            response.force_close()
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield "127.0.0.1:{1}".format(*runner.addresses[0])
    await runner.cleanup()


async def until(look):
    deadline = Deadline(60)
    while not look():
        assert not deadline.passed
        await asyncio.to_thread(pause)


async def test_a_certificate_is_replaced_under_load_and_no_request_fails(
    door, tmp_path, authority, client_files
):
    before, after = Authority("before"), Authority("after")
    old = client_files.write(before)
    context = tls_context(client_files.ca, client_files.certificate, client_files.key)
    served, over = Counter(), asyncio.Event()
    async with server(tmp_path, authority, before, after) as target:
        client = door(
            endpoints={"localhost:8443": [target]},
            verify=context,
            timeout=60.0,
            retry=trimtab.Retry(attempts=1),
        )

        async def work():
            while not over.is_set():
                answer = await client.send("GET", URL)
                assert answer.status == 200
                served[int(answer.seen["serial"])] += 1

        async with asyncio.TaskGroup() as workers:
            for _ in range(4):
                workers.create_task(work())
            await until(lambda: served[old] > ANSWERS)
            assert set(served) == {old}
            new = client_files.write(after)
            await until(lambda: served[new] > ANSWERS)
            # Each connection ends sooner or later, and then none is left that shows the old one.
            while served[old]:
                del served[old]
                enough = served[new] + 2 * ANSWERS
                await until(lambda enough=enough: served[new] > enough)
            over.set()
        assert set(served) <= {old, new}
        await client.close()


async def test_a_server_of_another_name_is_refused_before_and_after_the_files_change(
    tmp_path, authority, client_files
):
    client_files.write(authority)
    context = tls_context(client_files.ca, client_files.certificate, client_files.key)
    async with server(tmp_path, authority, authority) as target:
        host, port = target.split(":")
        for _ in range(2):
            with pytest.raises(ssl.SSLCertVerificationError, match="orders\\.shop"):
                await asyncio.open_connection(
                    host, port, ssl=context, server_hostname="orders.shop"
                )
            client_files.write(authority)
            await until(lambda: context.files.poll() or context.files.generation)


def test_without_files_the_system_s_authorities_are_trusted():
    usual = ssl.create_default_context()
    assert tls_context().get_ca_certs() == usual.get_ca_certs()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"certificate": "/tls/tls.crt"}, "tls_context: certificate= and key= belong together"),
        ({"ca": 5}, "tls_context: ca=5 is no path"),
        ({"ca": "/there/is/none"}, "tls_context: .*/there/is/none"),
    ],
)
def test_wrong_files_are_refused_at_once(arguments, told):
    with pytest.raises(ConfigError, match=told):
        tls_context(**arguments)
