"""Certificates and credentials over real TLS: of the service, of the caller, of the control plane."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme

import trimtab
import trimtab.aio
from doors.loop import Loop
from harness.waiting import eventually
from trimtab.client.bootstrap import load
from trimtab.client.subscription import subscribe

TARGET = "xds:///orders.shop:80"
METHOD = "/trimtab.test.Tls/Ask"
ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"


def called_by_thread(endpoint, of_channel, **more):
    with trimtab.secure_channel(TARGET, of_channel, endpoints=[endpoint]) as channel:
        return channel.unary_unary(METHOD)(b"", timeout=10, **more).decode()


def called_on_loop(endpoint, of_channel, **more):
    async def call():
        async with trimtab.aio.secure_channel(TARGET, of_channel, endpoints=[endpoint]) as channel:
            return (await channel.unary_unary(METHOD)(b"", timeout=10, **more)).decode()

    loop = Loop()
    try:
        return loop.run(call())
    finally:
        loop.stop()


@pytest.fixture(params=[called_by_thread, called_on_loop])
def called(request):
    return request.param


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def serve():
    """Start a TLS server; it answers with the bearer token and the client's common name."""
    servers = []

    def start(service, handlers, certificate, client_authority=None):
        credentials = grpc.ssl_server_credentials(
            [
                (
                    certificate.private_key_pem.bytes(),
                    b"".join(map(pem, certificate.cert_chain_pems)),
                )
            ],
            client_authority and pem(client_authority.cert_pem),
            require_client_auth=client_authority is not None,
        )
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


def pem(blob):
    return blob.bytes()


@pytest.fixture
def pod(serve):
    def ask(_request, context):
        token = dict(context.invocation_metadata()).get("authorization", "")
        names = context.auth_context().get("x509_subject_alternative_name", [])
        return " ".join([token, *(name.decode() for name in names)]).strip().encode()

    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(ask)}
    return lambda *arguments: serve("trimtab.test.Tls", handlers, *arguments)


def trusting(authority, certificate=None):
    if certificate is None:
        return grpc.ssl_channel_credentials(pem(authority.cert_pem))
    return grpc.ssl_channel_credentials(
        pem(authority.cert_pem),
        certificate.private_key_pem.bytes(),
        b"".join(map(pem, certificate.cert_chain_pems)),
    )


def test_a_certificate_for_the_service_is_good_on_any_endpoint(called, pod, authority):
    endpoint = pod(authority.issue_cert("orders.shop"))
    assert called(endpoint, trusting(authority)) == ""


def test_a_certificate_for_another_name_is_refused_with_its_reason(called, pod, authority):
    endpoint = pod(authority.issue_cert("carts.shop"))
    with pytest.raises(grpc.RpcError) as caught:
        called(endpoint, trusting(authority))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    details = caught.value.details()
    assert endpoint in details
    assert "orders.shop" in details
    assert "not valid for" in details or "Hostname Verification" in details


def test_the_credentials_of_a_call_arrive(called, pod, authority):
    endpoint = pod(authority.issue_cert("orders.shop"))
    token = grpc.access_token_call_credentials("secret")
    assert called(endpoint, trusting(authority), credentials=token) == "Bearer secret"


def test_the_caller_is_known_by_its_certificate(called, pod, authority):
    endpoint = pod(authority.issue_cert("orders.shop"), authority)
    caller = authority.issue_cert("caller.shop")
    assert called(endpoint, trusting(authority, caller)) == "caller.shop"


def test_a_caller_without_the_certificate_that_is_asked_for_is_refused(called, pod, authority):
    endpoint = pod(authority.issue_cert("orders.shop"), authority)
    with pytest.raises(grpc.RpcError) as caught:
        called(endpoint, trusting(authority))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class Told:
    """Keeps why there is nothing."""

    def __init__(self):
        self.reasons = []

    def updated(self, snapshot):
        raise AssertionError(snapshot)

    def failed(self, reason):
        self.reasons.append(reason)


@pytest.mark.parametrize(
    ("name", "creds", "advice"),
    [
        ("127.0.0.1", "insecure", "if it speaks TLS, say whom to trust (TRIMTAB_CA"),
        ("127.0.0.1", "stranger", "check whom this client trusts (TRIMTAB_CA"),
        ("other.name", "authority", "a name that its certificate is issued to"),
        ("127.0.0.1", "nowhere", "check that the file is there"),
        ("127.0.0.1", "authority", "check this client's token (TRIMTAB_TOKEN_FILE"),
    ],
)
def test_a_control_plane_that_can_t_be_used_is_told_with_what_to_do(
    serve, authority, tmp_path, name, creds, advice
):
    def stream(_requests, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed")

    handlers = {"StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(stream)}
    address = serve(ADS, handlers, authority.issue_cert(name))
    for who, ca in (("authority", authority), ("stranger", trustme.CA())):
        (tmp_path / who).write_bytes(ca.cert_pem.bytes())
    server = {"server_uri": address, "channel_creds": [{"type": "insecure"}]}
    if creds != "insecure":
        config = {"ca_certificate_file": str(tmp_path / creds)}
        server["channel_creds"] = [{"type": "tls", "config": config}]
    told = Told()
    watch = subscribe(
        "orders.shop:80", told, load({"xds_servers": [server], "node": {"id": f"{creds} {name}"}})
    )
    try:
        eventually(lambda: told.reasons, within=15, what="the reason is told")
    finally:
        watch.close()
    assert advice in told.reasons[-1]


class Silent:
    def updated(self, snapshot):
        raise AssertionError(snapshot)

    def failed(self, reason):
        pass


def test_a_control_plane_is_asked_over_mutual_tls(serve, authority, tmp_path):
    asked_by = []

    def stream(requests, context):
        next(requests)
        names = context.auth_context()["x509_subject_alternative_name"]
        asked_by.extend(name.decode() for name in names)
        yield from ()
        for _ in requests:
            pass

    handlers = {"StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(stream)}
    # Of the control plane, the address itself is verified: it is named by it in the bootstrap.
    address = serve(ADS, handlers, authority.issue_cert("127.0.0.1", "localhost"), authority)
    caller = authority.issue_cert("node.shop")
    files = {
        "ca_certificate_file": [authority.cert_pem],
        "certificate_file": caller.cert_chain_pems,
        "private_key_file": [caller.private_key_pem],
    }
    config = {}
    for key, blobs in files.items():
        path = tmp_path / key
        path.write_bytes(b"".join(map(pem, blobs)))
        config[key] = str(path)
    server = {"server_uri": address, "channel_creds": [{"type": "tls", "config": config}]}
    watch = subscribe(
        "orders.shop:80", Silent(), load({"xds_servers": [server], "node": {"id": "tls"}})
    )
    try:
        eventually(lambda: asked_by, within=15, what="the control plane was asked")
    finally:
        watch.close()
    assert asked_by == ["node.shop"]
