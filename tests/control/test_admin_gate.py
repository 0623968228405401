"""Admin pages that need a token, on real sockets. The real TokenReview: interop/test_kube_deployment.py."""

import asyncio
import hashlib
import ssl

import aiohttp
import pytest

from certificates import Authority
from plane import QueueSource, eventually, get, pause, running, updated
from token_reviewer import Reviewer
from trimtab.control.admin_client import AdminServer, ask
from trimtab.control.config import Address, Config
from trimtab.control.security import SecurityOptions
from trimtab.control.tls import TlsFiles
from trimtab.errors import ConfigError, TransportError, TrimtabError
from trimtab.model import Synced

PAGES = ("/", "/api/v1/clusters", "/api/v1/clients", "/api/v1/why", "/api/v1/load", "/nothing")
READER = "system:serviceaccount:ops:reader"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def trusting(authority):
    return ssl.create_default_context(cadata=authority.pem.decode())


@pytest.fixture
def files(authority, tmp_path):
    """The control plane's certificate on disk."""
    written = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    write(written, *authority.issue())
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return written


def write(files, chain, key):
    files.certificate.write_bytes(chain)
    files.key.write_bytes(key)


@pytest.fixture
def static(files, tmp_path):
    """Static tokens: the words "alice" and "bob" are the tokens of these two."""
    path = tmp_path / "tokens.yaml"
    names = ("alice", "bob")
    path.write_text(
        "".join(
            f"- {{name: {n}, sha256: {hashlib.sha256(n.encode()).hexdigest()}}}\n" for n in names
        )
    )
    return SecurityOptions(files, admin_tokens=path)


def source():
    return QueueSource(updated("orders", 1, 2), Synced())


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def test_every_page_but_the_probes_needs_a_token(static, trusting):
    async with running(source(), security=static) as plane:
        await plane.store.synced.wait()

        async def status(path, **headers):
            return (await get(plane.admin_address, path, headers=headers, tls=trusting))[0]

        for path in ("/healthz", "/readyz"):
            assert await status(path) == 200
        for path in (*PAGES, "/metrics", "/healthz/../metrics", "//metrics"):
            assert await status(path) == 401, path
            assert await status(path, Authorization="Basic YWxpY2U6") == 401
            assert await status(path, **bearer("mallory")) == 401
        for path in (*PAGES[:3], "/metrics"):
            assert await status(path, **bearer("alice")) == 200, path
        answer = await get(plane.admin_address, "/api/v1/clusters", tls=trusting)
        assert answer[1]["WWW-Authenticate"] == "Bearer"
        assert "--token-file" in answer[2]["error"]
        assert plane.counters.get("trimtab_admin_refused_total", "no_token") > 0
        assert plane.counters.get("trimtab_admin_refused_total", "refused") > 0


async def test_a_token_whose_bytes_are_no_text_is_none(static, trusting):
    async with running(source(), security=static) as plane:
        address = plane.admin_address
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=trusting, server_hostname="localhost"
        )
        writer.write(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer m\xff\r\n\r\n"
        )
        assert (await reader.readline()).split()[1] == b"401"
        writer.close()


async def test_a_guarded_port_speaks_tls_only(static):
    async with running(source(), security=static) as plane:
        with pytest.raises(aiohttp.ClientConnectionError):
            await get(plane.admin_address, "/healthz")


async def test_metrics_are_open_on_request_and_nothing_else_is(static, trusting, files):
    opened = SecurityOptions(files, admin_tokens=static.admin_tokens, open_metrics=True)
    async with running(source(), security=opened) as plane:
        assert (await get(plane.admin_address, "/metrics", tls=trusting))[0] == 200
        for path in PAGES:
            assert (await get(plane.admin_address, path, tls=trusting))[0] == 401


async def test_only_readers_that_are_named_get_in_and_a_changed_file_takes_it_away(
    static, trusting, tmp_path
):
    file = tmp_path / "config.yaml"
    file.write_text("admin_readers: ['static:al*']\n")
    config = Config(admin_readers=("static:al*",))
    async with running(source(), security=static, config=config, config_file=file) as plane:

        async def status(token):
            page = get(plane.admin_address, "/api/v1/load", headers=bearer(token), tls=trusting)
            return (await page)[0]

        assert await status("alice") == 200
        assert await status("bob") == 403
        assert plane.counters.get("trimtab_admin_refused_total", "forbidden") == 1
        file.write_text("admin_readers: ['static:bob']\n")
        async with asyncio.timeout(10):
            while await status("alice") != 403:
                await pause(0.05)
        assert await status("bob") == 200


async def test_a_service_account_that_is_named_gets_in_with_a_token_for_the_audience(
    files, trusting
):
    async with Reviewer() as api:
        api.known = {
            "good": (READER, ["trimtab"]),
            "other": ("system:serviceaccount:shop:web", ["trimtab"]),
            "foreign": (READER, ["api"]),
            "human": ("jane@example.org", ["trimtab"]),
        }
        security = SecurityOptions(files, admin_audience="trimtab", reviewer=api.access)
        config = Config(admin_readers=(READER,))
        async with running(source(), security=security, config=config) as plane:

            async def page(token):
                headers = bearer(token)
                return await get(plane.admin_address, "/metrics", headers=headers, tls=trusting)

            assert [(await page("good"))[0] for _ in range(3)] == [200] * 3
            assert api.seen == [{"token": "good", "audiences": ["trimtab"]}]
            for token, status in (("other", 403), ("foreign", 401), ("human", 401), ("x", 401)):
                assert (await page(token))[0] == status, token
            api.status = 500
            assert (await page("late"))[0] == 503
            assert (await get(plane.admin_address, "/readyz", tls=trusting))[0] in (200, 503)


async def test_guarded_pages_follow_the_certificate_and_pass_over_a_broken_one(
    static, files, authority
):
    async with running(source(), security=static) as plane:

        async def served(name):
            address = plane.admin_address
            trust = ssl.create_default_context(cadata=authority.pem.decode())
            _, writer = await asyncio.open_connection(
                address.host, address.port, ssl=trust, server_hostname=name
            )
            with_tls = writer.get_extra_info("ssl_object")
            found = with_tls.getpeercert(binary_form=True)
            writer.close()
            await writer.wait_closed()
            return found

        first = await served("127.0.0.1")  # an address: no server name is sent
        assert await served("localhost") == first
        files.key.write_bytes(authority.issue()[1])  # only half of the pair is there yet
        assert await served("localhost") == first
        write(files, *authority.issue(name="second"))
        second = await served("localhost")
        assert second != first
        assert await served("127.0.0.1") == second
        files.certificate.write_text("garbage")
        assert await served("127.0.0.1") == second


async def test_a_guarded_port_may_leave_loopback_and_is_not_insecure(static, trusting):
    everywhere = Address("0.0.0.0", 0)
    async with running(source(), admin=everywhere, security=static) as plane:
        local = Address("127.0.0.1", plane.admin_address.port)
        text = (await get(local, "/metrics", headers=bearer("bob"), tls=trusting))[2]
        assert 'trimtab_insecure_listener{port="admin"} 0' in text
    with pytest.raises(ConfigError, match="--admin-token-audience"):
        async with running(source(), admin=everywhere):
            pass


async def test_service_account_tokens_without_a_reader_are_refused_before_anything_starts(files):
    async with Reviewer() as api:
        security = SecurityOptions(files, admin_audience="trimtab", reviewer=api.access)
        with pytest.raises(ConfigError, match="admin_readers"):
            async with running(source(), security=security):
                pass


async def test_the_command_line_asks_with_a_token_and_trusts_the_authority_that_it_is_given(
    static, tmp_path
):
    token, ca = tmp_path / "token", tmp_path / "ca.pem"
    token.write_text("alice\n")
    async with running(source(), security=static) as plane:
        await plane.store.synced.wait()
        await eventually(plane.store.catalog.clusters)
        address = f"https://{plane.admin_address}"

        async def asked(*how):
            return await asyncio.to_thread(ask, AdminServer(*how), "/api/v1/clusters")

        assert (await asked(address, token, ca))["clusters"][0]["name"] == "orders.shop:8080"
        with pytest.raises(TrimtabError, match="--token-file"):
            await asked(address, None, ca)
        with pytest.raises(TransportError, match=r"not trusted.*--ca"):
            await asked(address, token)
        with pytest.raises(TransportError, match="https://"):
            await asked(str(plane.admin_address))
        with pytest.raises(ConfigError, match="https only"):
            await asked(str(plane.admin_address), token)
        with pytest.raises(ConfigError, match=r"--ca .*give a PEM file"):
            await asked(address, token, token)
        wrong = tmp_path / "wrong"
        wrong.write_text("wrong")
        with pytest.raises(
            TrimtabError, match=r"refuses the token of --token-file .*wrong: the token"
        ):
            await asked(address, wrong, ca)
        with pytest.raises(ConfigError, match=r"--token-file .*: cannot be read: No such file"):
            await asked(address, tmp_path / "nowhere", ca)
        token.write_text("two\nlines")
        with pytest.raises(ConfigError, match="one line"):
            await asked(address, token, ca)


async def test_the_command_line_takes_certificates_without_key_identifiers(files, static, tmp_path):
    authority = Authority(bare=True)
    write(files, *authority.issue())
    (tmp_path / "token").write_text("alice")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    async with running(source(), security=static) as plane:
        server = AdminServer(
            f"https://{plane.admin_address}", tmp_path / "token", tmp_path / "ca.pem"
        )
        assert "clusters" in await asyncio.to_thread(ask, server, "/api/v1/clusters")
