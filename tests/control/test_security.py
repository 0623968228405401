"""TLS, identities and tokens on real sockets. The real TokenReview is in interop/test_kube_security.py."""

import asyncio
import contextlib
import hashlib
import ssl

import grpc
import pytest
from cryptography import x509

from certificates import Authority
from identities import client_tls, tokens, with_token, write_pair
from plane import QueueSource as Source
from plane import RawClient, eventually, get, pause, running, snapshot
from token_reviewer import Reviewer, jwt
from trimtab.client.bootstrap import load
from trimtab.client.subscription import subscribe
from trimtab.control import server
from trimtab.control.authorization import Policy
from trimtab.control.config import Address, Config
from trimtab.control.last_known import StateOptions
from trimtab.control.limits import Limits
from trimtab.control.security import SecurityOptions
from trimtab.control.tls import TlsFiles
from trimtab.errors import ConfigError
from trimtab.model import Synced, Updated
from trimtab.xds import type_urls

ORDERS = "orders.shop:8080"
SHOP_WEB = "spiffe://example.org/ns/shop/sa/web"
BANK_WEB = "spiffe://example.org/ns/bank/sa/web"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def files(authority, tmp_path):
    """The control plane's certificate on disk."""
    written = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    write_pair(written, authority)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return written


def source():
    return Source(Updated(snapshot("orders", 1)), Synced())


async def asked(address, credentials, name=ORDERS):
    """The names of the Clusters that a client gets; or the status that its stream ends with."""
    async with RawClient(address, credentials) as client:
        stream = client.sotw()
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await stream.hello(type_url=type_urls.CDS, resource_names=[name])
            answer = await stream.read()
            if answer is not grpc.aio.EOF:
                return [name for item in answer.resources if name.encode() in item]
        return (await stream.status())[0]


def mutual(files, tmp_path):
    return SecurityOptions(TlsFiles(files.certificate, files.key, tmp_path / "ca.pem"))


async def test_the_limit_of_streams_is_each_identity_s_own_whatever_their_address(
    files, authority, tmp_path
):
    security = SecurityOptions(files, tokens=tokens(tmp_path))
    config = Config(limits=Limits(streams_per_identity=2))
    async with running(source(), config=config, security=security) as plane:
        await plane.store.synced.wait()
        shop, bank = (with_token(authority, token) for token in ("shop", "bank"))
        async with (
            RawClient(plane.xds_address, shop) as of_shop,
            RawClient(plane.xds_address, bank) as of_bank,
        ):
            streams = [client.sotw() for client in (of_shop, of_shop, of_bank, of_bank)]
            for stream in streams:
                await stream.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
                assert await stream.read() is not grpc.aio.EOF
            for third in (shop, bank):
                assert await asked(plane.xds_address, third) is grpc.StatusCode.RESOURCE_EXHAUSTED
        await eventually(lambda: not plane.server.streams)
        assert await asked(plane.xds_address, shop) == [ORDERS]


async def test_a_certificates_spiffe_id_says_what_its_client_sees(files, authority, tmp_path):
    async with running(source(), security=mutual(files, tmp_path)) as plane:
        await plane.store.synced.wait()
        assert await asked(plane.xds_address, client_tls(authority, SHOP_WEB)) == [ORDERS]
        assert await asked(plane.xds_address, client_tls(authority, BANK_WEB)) == []


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName(SHOP_WEB)],
        [x509.DNSName("web.shop"), x509.DNSName(SHOP_WEB)],
        # SPIFFE forbids more than one URI name: who may add one could else be anybody.
        [x509.UniformResourceIdentifier(BANK_WEB), x509.UniformResourceIdentifier(SHOP_WEB)],
        [x509.UniformResourceIdentifier(SHOP_WEB), x509.UniformResourceIdentifier(BANK_WEB)],
    ],
    ids=["a DNS name", "a second DNS name", "the second of two URIs", "the first of two URIs"],
)
async def test_only_a_certificate_s_one_uri_name_is_a_spiffe_id(files, authority, tmp_path, names):
    async with running(source(), security=mutual(files, tmp_path)) as plane:
        await plane.store.synced.wait()
        credentials = client_tls(authority, names=names)
        assert await asked(plane.xds_address, credentials) == []


async def test_a_replaced_client_authority_decides_on_new_connections_and_a_broken_one_never(
    files, authority, tmp_path
):
    second = Authority("second authority")
    chain, key = second.issue(spiffe=SHOP_WEB)
    of_second = grpc.ssl_channel_credentials(authority.pem, key, chain)
    of_first = client_tls(authority, SHOP_WEB)
    trusted = tmp_path / "ca.pem"
    async with running(source(), security=mutual(files, tmp_path)) as plane:
        await plane.store.synced.wait()

        async def known():
            """Whether a client of the first is known, and one of the second."""
            got = [await asked(plane.xds_address, c) for c in (of_first, of_second)]
            assert all(g in ([ORDERS], grpc.StatusCode.UNAVAILABLE) for g in got)
            return [g == [ORDERS] for g in got]

        assert await known() == [True, False]
        trusted.write_bytes(authority.pem + second.pem)  # as a rotation begins
        assert await known() == [True, True]
        trusted.write_bytes(second.pem)
        assert await known() == [False, True]
        for spoil in (lambda: trusted.write_text("garbage"), trusted.unlink):
            spoil()
            assert await known() == [False, True]


async def test_a_client_without_a_certificate_of_the_authority_gets_nothing(
    files, authority, tmp_path
):
    stranger = Authority("someone else")
    chain, key = stranger.issue(spiffe=SHOP_WEB)
    forged = grpc.ssl_channel_credentials(authority.pem, key, chain)
    async with running(source(), security=mutual(files, tmp_path)) as plane:
        for credentials in (client_tls(authority), forged, None):
            status = await asked(plane.xds_address, credentials)
            assert status is grpc.StatusCode.UNAVAILABLE


def client_hello():
    """How a TLS handshake begins."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(
            ssl.MemoryBIO(), sent, server_hostname="trimtab"
        ).do_handshake()
    return sent.read()


@pytest.mark.parametrize("part", ["nothing", "half", "all"])
async def test_handshakes_that_are_begun_and_not_ended_are_closed_and_cost_others_nothing(
    files, authority, tmp_path, part
):
    hello = client_hello()
    length = {"nothing": 0, "half": len(hello) // 2, "all": len(hello)}[part]
    config = Config(limits=Limits(handshake_s=2.0))
    async with running(source(), config=config, security=mutual(files, tmp_path)) as plane:
        address = plane.xds_address
        begun = [await asyncio.open_connection(address.host, address.port) for _ in range(100)]
        for _, writer in begun:
            writer.write(hello[:length])
        assert await asked(address, client_tls(authority, spiffe=SHOP_WEB)) == [ORDERS]
        async with asyncio.timeout(10):
            for reader, writer in begun:
                with contextlib.suppress(ConnectionError):
                    await reader.read()  # its answer to a whole beginning, and the end
                writer.close()


async def test_a_replaced_certificate_is_served_to_new_connections_and_a_broken_one_never(
    files, authority, tmp_path
):
    async def served(address):
        pem = await asyncio.to_thread(_peer_certificate, address)
        return hashlib.sha256(pem.encode()).hexdigest()

    async with running(source(), security=SecurityOptions(files, tokens=tokens(tmp_path))) as plane:
        first = await served(plane.xds_address)
        assert await served(plane.xds_address) == first
        files.key.write_bytes(authority.issue()[1])  # only half of the pair is there yet
        assert await served(plane.xds_address) == first
        write_pair(files, authority, "second")
        second = await served(plane.xds_address)
        assert second != first
        files.certificate.write_text("garbage")
        assert await served(plane.xds_address) == second
        files.certificate.unlink()
        assert await served(plane.xds_address) == second


def _peer_certificate(address):
    import ssl  # noqa: PLC0415 - one use

    return ssl.get_server_certificate((address.host, address.port), timeout=5)


async def test_a_static_token_says_what_its_client_sees(files, authority, tmp_path):
    security = SecurityOptions(files, tokens=tokens(tmp_path))
    async with running(source(), security=security) as plane:
        await plane.store.synced.wait()
        assert await asked(plane.xds_address, with_token(authority, "shop")) == [ORDERS]
        assert await asked(plane.xds_address, with_token(authority, "bank")) == []
        for nobody in (with_token(authority, "x"), client_tls(authority)):
            status = await asked(plane.xds_address, nobody)
            assert status is grpc.StatusCode.UNAUTHENTICATED
        refused = (await get(plane.admin_address, "/metrics"))[2]
        assert 'trimtab_streams_refused_total{reason="refused"} 1' in refused
        assert 'trimtab_streams_refused_total{reason="no_token"} 1' in refused


async def test_a_changed_file_takes_away_and_a_broken_one_changes_nothing(
    files, authority, tmp_path
):
    config = tmp_path / "config.yaml"
    config.write_text("authorization: {default: all}\n")
    async with (
        running(
            source(),
            security=SecurityOptions(files, tokens=tokens(tmp_path)),
            config=Config(authorization=Policy(default="all")),
            config_file=config,
        ) as plane,
        RawClient(plane.xds_address, with_token(authority, "bank")) as client,
    ):
        stream = client.delta()
        await stream.hello(type_url=type_urls.CDS, resource_names_subscribe=[ORDERS])
        given = await stream.read()
        assert [r.name for r in given.resources] == [ORDERS]
        config.write_text("authorization: {default: everything}\n")
        text = 'trimtab_config_reloads_total{result="rejected"} 1'
        async with asyncio.timeout(10):
            while text not in (await get(plane.admin_address, "/metrics"))[2]:
                await pause(0.05)
        config.write_text("authorization: {default: own}\n")
        taken = await stream.read(within=20)
        assert list(taken.removed_resources) == [ORDERS]


async def test_a_service_accounts_token_is_reviewed_once_for_its_audience(
    files, authority, tmp_path, caplog
):
    caplog.set_level("DEBUG")
    mine, other, foreign, node = (jwt(600, n) for n in "abcd")
    async with Reviewer() as api:
        api.known = {
            mine: ("system:serviceaccount:shop:web", ["trimtab"]),
            other: ("system:serviceaccount:bank:web", ["trimtab"]),
            foreign: ("system:serviceaccount:shop:web", ["api"]),
            node: ("system:node:a", ["trimtab"]),
        }
        security = SecurityOptions(files, audience="trimtab", reviewer=api.access)
        async with running(source(), security=security) as plane:
            await plane.store.synced.wait()
            for _ in range(3):
                assert await asked(plane.xds_address, with_token(authority, mine)) == [ORDERS]
            assert api.seen == [{"token": mine, "audiences": ["trimtab"]}]
            assert await asked(plane.xds_address, with_token(authority, other)) == []
            for bad in (foreign, node, jwt(1, "unknown")):
                status = await asked(plane.xds_address, with_token(authority, bad))
                assert status is grpc.StatusCode.UNAUTHENTICATED
            api.status = 403
            late = jwt(600, "late")
            status = await asked(plane.xds_address, with_token(authority, late))
            assert status is grpc.StatusCode.UNAUTHENTICATED
            api.status = 201
            api.known[late] = api.known[mine]
            assert await asked(plane.xds_address, with_token(authority, late)) == [ORDERS]
            pages = (await get(plane.admin_address, "/metrics"))[2]
    for token in (mine, other, foreign, late):
        assert token not in caplog.text
        assert token not in pages


async def test_a_known_client_is_served_while_strangers_garbage_hangs_at_the_api_server(
    files, authority
):
    good = jwt(600)
    async with Reviewer() as api, contextlib.AsyncExitStack() as strangers:
        api.known[good] = ("system:serviceaccount:shop:web", ["trimtab"])
        security = SecurityOptions(files, audience="trimtab", reviewer=api.access)
        async with running(source(), security=security) as plane:
            await plane.store.synced.wait()
            assert await asked(plane.xds_address, with_token(authority, good)) == [ORDERS]
            with api.hanging():
                for i in range(20):
                    garbage = with_token(authority, f"garbage-{i}")
                    client = await strangers.enter_async_context(
                        RawClient(plane.xds_address, garbage)
                    )
                    await client.sotw().hello(type_url=type_urls.CDS)
                await eventually(lambda: len(api.seen) == 5)  # four of one address at once
                assert await asked(plane.xds_address, with_token(authority, good)) == [ORDERS]


@pytest.mark.parametrize("ends_in_s", [1, -3600], ids=["in a second", "an hour ago by our clock"])
async def test_a_stream_ends_with_its_token_and_what_was_just_accepted_has_not_ended(
    files, authority, monkeypatch, ends_in_s
):
    monkeypatch.setattr(server, "_EXPIRY_GRACE_S", 0.5)
    token, now = jwt(ends_in_s), asyncio.get_running_loop().time
    ends = now() + ends_in_s
    async with Reviewer() as api:
        api.known[token] = ("system:serviceaccount:shop:web", ["trimtab"])
        security = SecurityOptions(files, audience="trimtab", reviewer=api.access)
        async with (
            running(source(), security=security) as plane,
            RawClient(plane.xds_address, with_token(authority, token)) as client,
        ):
            await plane.store.synced.wait()
            stream = client.sotw()
            begin = now()
            await stream.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
            assert (await stream.read()).resources
            code, text = await stream.status(within=20)
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "has expired" in text
            await eventually(lambda: not plane.server.streams)
            assert now() > max(begin, ends) + 0.4  # two clocks tick, so not quite the grace


async def test_after_a_restart_without_the_api_server_a_token_that_was_good_still_is(
    files, authority, tmp_path
):
    good, never = jwt(600, "good"), jwt(600, "never")
    state = StateOptions(tmp_path / "state", after_s=0.0)
    async with Reviewer() as api:
        api.known[good] = ("system:serviceaccount:shop:web", ["trimtab"])
        security = SecurityOptions(files, audience="trimtab", reviewer=api.access)
        async with running(source(), security=security, state=state) as plane:
            await plane.store.synced.wait()
            assert await asked(plane.xds_address, with_token(authority, good)) == [ORDERS]
    assert good not in state.file.read_text()
    async with running(Source(), security=security, state=state) as plane:
        await plane.store.synced.wait()
        assert await asked(plane.xds_address, with_token(authority, good)) == [ORDERS]
        status = await asked(plane.xds_address, with_token(authority, never))
        assert status is grpc.StatusCode.UNAUTHENTICATED


async def test_it_is_ready_once_it_may_have_tokens_checked_and_an_api_server_away_is_no_reason(
    files,
):
    async with Reviewer() as api:
        security = SecurityOptions(files, audience="trimtab", reviewer=api.access)
        api.status = 403
        async with running(source(), security=security) as plane:
            await plane.store.synced.wait()
            await eventually(plane.admin.not_ready)
            status, _, body = await get(plane.admin_address, "/readyz")
            assert status == 503
            assert "verbs: [create]" in body["reason"]
            assert "trimtab_ready 0" in (await get(plane.admin_address, "/metrics"))[2]
            api.status = 201
            await eventually(lambda: not plane.admin.not_ready(), within=20)
            assert "trimtab_ready 1" in (await get(plane.admin_address, "/metrics"))[2]
        api.status = 500
        async with running(source(), security=security) as plane:
            await plane.store.synced.wait()
            assert (await get(plane.admin_address, "/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("security", "named"),
    [
        (SecurityOptions(audience="a"), "--token-audience"),
        (SecurityOptions(TlsFiles("c", "k"), audience="a"), "With several .*--tls-client-ca"),
        (SecurityOptions(tokens="t"), "--tls-cert"),
        (SecurityOptions(TlsFiles("c", "k", "a"), tokens="t"), "one way"),
        (SecurityOptions(admin_tokens="t"), "--admin-tokens: tokens .* --tls-cert"),
        (
            SecurityOptions(TlsFiles("c", "k"), admin_audience="a"),
            "--admin-token-audience: .*cluster.*--admin-tokens FILE",
        ),
        (SecurityOptions(TlsFiles("c", "k"), admin_tokens="t", admin_audience="a"), "one way"),
        (SecurityOptions(open_metrics=True), "--open-metrics"),
    ],
)
async def test_security_that_cannot_work_is_refused_before_anything_starts(security, named):
    with pytest.raises(ConfigError, match=named):
        async with running(source(), security=security):
            pass


async def test_a_port_that_knows_its_clients_may_leave_loopback_and_is_not_insecure(
    files, tmp_path
):
    everywhere = Address("0.0.0.0", 0)
    async with running(source(), xds=everywhere, security=mutual(files, tmp_path)) as plane:
        text = (await get(plane.admin_address, "/metrics"))[2]
        assert 'trimtab_insecure_listener{port="xds"} 0' in text
    with pytest.raises(ConfigError, match="--tls-client-ca"):
        async with running(source(), xds=everywhere, security=SecurityOptions(files)):
            pass
    async with running(source(), xds=everywhere, insecure=True) as plane:
        text = (await get(plane.admin_address, "/metrics"))[2]
        assert 'trimtab_insecure_listener{port="xds"} 1' in text


class Told:
    """What a subscription of trimtab's own client says, on its thread."""

    def __init__(self):
        self.clusters = []
        self.reasons = []

    def updated(self, snapshot):
        self.clusters.append(snapshot.cluster)

    def failed(self, reason):
        self.reasons.append(str(reason))


async def test_our_own_client_sends_its_token_and_reads_a_replaced_one(files, authority, tmp_path):
    token = tmp_path / "token"
    token.write_text("stale\n")
    security = SecurityOptions(files, tokens=tokens(tmp_path))
    async with running(source(), security=security) as plane:
        server = {
            "server_uri": str(plane.xds_address),
            "channel_creds": [
                {"type": "tls", "config": {"ca_certificate_file": str(tmp_path / "ca.pem")}}
            ],
            "call_creds": [{"type": "jwt_token_file", "config": {"jwt_token_file": str(token)}}],
        }
        told = Told()
        bootstrap = load({"xds_servers": [server], "node": {"id": "t"}})
        watch = await asyncio.to_thread(subscribe, ORDERS, told, bootstrap)
        try:
            refused = "trimtab_streams_refused_total"
            await eventually(lambda: plane.counters.get(refused, "refused"), within=20)
            assert not told.clusters
            token.write_text("shop\n")
            await eventually(lambda: told.clusters, within=20)
        finally:
            await asyncio.to_thread(watch.close)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"channel_creds": [{"type": "insecure"}]}, "over TLS only"),
        ({"channel_creds": [{"type": "tls"}], "no_file": True}, "needs config"),
    ],
)
def test_a_bootstrap_whose_token_could_not_be_sent_safely_is_refused(server, said):
    config = {} if server.pop("no_file", False) else {"jwt_token_file": "/token"}
    server |= {"server_uri": "cp:1", "call_creds": [{"type": "jwt_token_file", "config": config}]}
    with pytest.raises(ConfigError, match=said):
        load({"xds_servers": [server]})
