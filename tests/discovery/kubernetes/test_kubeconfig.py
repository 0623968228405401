"""Kubeconfig files, as kubectl reads them."""

import asyncio
import base64
import json
import os
import signal
import ssl
import sys
from datetime import date
from pathlib import Path

import pytest
import trustme
import yaml
from aiohttp import web

from certificates import Authority
from fake_api import FakeApi, View
from fake_api.view import until
from kube import endpoint_slice, service
from trimtab.discovery.kubernetes.exec_credential import ExecCommand, ExecCredential
from trimtab.discovery.kubernetes.in_cluster import in_cluster, is_in_cluster
from trimtab.discovery.kubernetes.kubeconfig import load
from trimtab.errors import ConfigError, DiscoveryError

SECRET = "do-not-show-this"


def written(path, *, user=None, cluster=None, context=None, name="dev", **top):
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u", **(context or {})}}],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}
        ],
        "users": [{"name": "u", "user": user or {}}],
        **top,
    }
    path.write_text(yaml.safe_dump(content))
    return path


async def authorization(access, **how):
    return (await access.headers(**how)).get("Authorization")


async def test_the_current_context_names_server_namespace_and_user(tmp_path):
    file = written(tmp_path / "config", user={"token": "t"}, context={"namespace": "shop"})
    access = load(file)
    assert (access.name, access.server, access.namespace) == (
        "dev",
        "https://10.0.0.1:6443",
        "shop",
    )
    assert str(file) in access.origin
    assert await authorization(access) == "Bearer t"


def test_files_of_the_environment_are_merged_and_the_first_counts(tmp_path):
    first = written(tmp_path / "a", cluster={"server": "https://first"}, name="one")
    second = written(tmp_path / "b", cluster={"server": "https://second"}, name="two")
    environ = {"KUBECONFIG": f"{tmp_path}/missing:{first}:{second}"}
    assert load(environ=environ).name == "one"
    assert load(context="two", environ=environ).server == "https://first"


def test_without_an_environment_the_file_in_the_home_is_read(tmp_path):
    (tmp_path / ".kube").mkdir()
    written(tmp_path / ".kube" / "config")
    assert load(environ={"HOME": str(tmp_path)}).name == "dev"


async def test_a_token_file_beside_the_config_is_read_for_each_request(tmp_path):
    (tmp_path / "..data").symlink_to("one")
    for name, token in (("one", "first\n"), ("two", "second\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(token)
    access = load(written(tmp_path / "config", user={"tokenFile": "..data/token", "token": "old"}))
    assert await authorization(access) == "Bearer first"
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert await authorization(access) == "Bearer second"
    (tmp_path / "two" / "token").write_text("")
    with pytest.raises(DiscoveryError, match=r"users\[0\].user.tokenFile: .* is empty"):
        await access.headers()


async def test_name_and_password_and_impersonation(tmp_path):
    user = {"username": "me", "password": "pw", "as": "other", "as-groups": ["g"], "as-uid": "7"}
    headers = await load(written(tmp_path / "config", user=user)).headers()
    assert headers == {
        "Authorization": f"Basic {base64.b64encode(b'me:pw').decode()}",
        "Impersonate-User": "other",
        "Impersonate-Group": "g",
        "Impersonate-Uid": "7",
    }


async def test_no_credentials_go_over_plain_http(tmp_path, caplog):
    user = {"token": SECRET, "as": "other"}
    server = {"server": "http://10.0.0.1:8080"}
    access = load(written(tmp_path / "config", user=user, cluster=server))
    assert await access.headers() == {}
    assert "clusters[0].cluster.server" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("token", [f"{SECRET}\nX: y", f"{SECRET} x", f"{SECRET}\u00e9"])
async def test_a_token_that_no_header_may_hold_is_named_and_not_shown(tmp_path, token):
    (tmp_path / "token").write_text(token)
    with pytest.raises(ConfigError, match=r"users\[0\].user.token: holds a space") as error:
        load(written(tmp_path / "config", user={"token": token}))
    assert SECRET not in str(error.value)
    access = load(written(tmp_path / "config", user={"tokenFile": "token"}))
    with pytest.raises(DiscoveryError, match=r"user.tokenFile: .*token: holds a space") as error:
        await access.headers()
    assert SECRET not in str(error.value)


async def test_a_field_that_is_null_is_not_there(tmp_path):
    user = program(tmp_path, installHint=None, provideClusterInfo=None)
    user["exec"]["env"].append({"name": "EMPTY", "value": None})
    user |= {"token": None, "as": None}
    access = load(written(tmp_path / "config", user=user, context={"namespace": None}))
    assert access.namespace == "default"
    assert await authorization(access) == "Bearer t1-e"


async def test_an_authority_may_stand_on_several_lines(tmp_path):
    pem = trustme.CA().cert_pem.bytes()
    data = base64.encodebytes(pem).decode()
    assert "\n" in data.strip()
    access = load(written(tmp_path / "config", cluster={"certificate-authority-data": data}))
    assert len((await access.tls()).get_ca_certs()) == 1


async def test_where_there_is_a_token_no_program_is_asked(tmp_path):
    user = {"token": "t", **program(tmp_path, command="./not-there")}
    assert await authorization(load(written(tmp_path / "config", user=user))) == "Bearer t"


WRONG = [
    (
        {"users": [{"name": "u", "user": {"token": SECRET}}, {"name": "u"}]},
        "users[1].name: 'u' is there twice",
    ),
    ({"cluster": {"server": "10.0.0.1"}}, "clusters[0].cluster.server: '10.0.0.1': give a URL"),
    (
        {"cluster": {"server": "https://[::1"}},
        "clusters[0].cluster.server: 'https://[::1': give a URL",
    ),
    ({"cluster": {"server": "https://h:99999"}}, "server: 'https://h:99999': give a URL"),
    (
        {"cluster": {"server": f"https://me:p@{SECRET}@h"}},
        "server: 'https://...@h': has credentials",
    ),
    ({"cluster": {"server": f"https://me:{SECRET}@h:x"}}, "server: 'https://...@h:x': give a URL"),
    ({"cluster": {"proxy-url": f"http://me:{SECRET}@[::1"}}, "proxy-url: 'http://...@[::1': give"),
    ({"cluster": {"proxy-url": "proxy"}}, "proxy-url: 'proxy': give a URL"),
    ({"cluster": {"proxy-url": "socks5://x"}}, "proxy-url: socks5:// proxies are not supported"),
    ({"cluster": {"certificate-authority-data": "%"}}, "certificate-authority-data: is not base64"),
    (
        {"cluster": {"insecure-skip-tls-verify": True, "certificate-authority": "x"}},
        "insecure-skip-tls-verify: with a certificate-authority",
    ),
    ({"context": {"cluster": "x"}}, "contexts[0].context.cluster: 'x' is not there"),
    ({"context": {"user": "x"}}, "contexts[0].context.user: 'x' is not there"),
    ({"user": {"auth-provider": {"name": "gcp"}}}, "auth-provider: is gone"),
    ({"user": {"client-certificate": "x"}}, "client-key: is missing"),
    ({"user": {"as-groups": ["a"]}}, "user.as: is missing"),
    ({"user": {"as": "x", "as-groups": ["a", "b"]}}, "one group at most"),
    ({"user": {"exec": {"command": "x"}}}, "exec.apiVersion: ''"),
    (
        {"user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}},
        "exec.command: is missing",
    ),
    (
        {
            "user": {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "x",
                    "interactiveMode": "Always",
                }
            }
        },
        "interactiveMode: 'Always'",
    ),
    ({"current-context": "nowhere"}, "'nowhere' is not there; --context could be: dev"),
    ({"current-context": ""}, "has no current-context; name one of these with --context: dev"),
    ({"users": [{"name": "u", "user": {"token": [SECRET]}}]}, "users[0].user.token: expected"),
    ({"users": [{"name": "u", "user": {"exec": {"env": SECRET}}}]}, "users[0].user.exec.env"),
]


@pytest.mark.parametrize(("how", "text"), WRONG)
def test_a_mistake_is_named_with_its_field_and_no_secret(tmp_path, how, text):
    file = written(tmp_path / "config", **how)
    with pytest.raises(ConfigError) as error:
        load(file)
    assert text in str(error.value)
    assert str(file) in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"a: [", "is not valid YAML"), (b"[]", "the file: expected"), (b"\xff", "is not valid YAML")],
)
def test_a_file_that_is_no_kubeconfig_is_an_error(tmp_path, raw, text):
    (tmp_path / "config").write_bytes(raw)
    with pytest.raises(ConfigError, match=text):
        load(tmp_path / "config")


def test_an_empty_file_has_no_context(tmp_path):
    (tmp_path / "config").write_text("")
    with pytest.raises(ConfigError, match="has no current-context"):
        load(tmp_path / "config")


# ---- programs that hand out credentials ----

PROGRAM = """\
import json, os, sys
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
runs = open(sys.argv[1], "a"); runs.write("x"); runs.close()
number = os.path.getsize(sys.argv[1])
assert sys.stdin.read() == ""
status = {"token": f"t{number}-{os.environ['EXTRA']}"}
if len(sys.argv) > 2:
    status["expirationTimestamp"] = sys.argv[2]
if "cluster" in asked["spec"]:
    status["token"] += "-" + asked["spec"]["cluster"]["server"]
print(json.dumps({"kind": "ExecCredential", "apiVersion": asked["apiVersion"], "status": status}))
"""


def program(tmp_path, *arguments, text=PROGRAM, version="v1", **more):
    (tmp_path / "login.py").write_text(text)
    return {
        "exec": {
            "apiVersion": f"client.authentication.k8s.io/{version}",
            "command": sys.executable,
            "args": [str(tmp_path / "login.py"), str(tmp_path / "runs"), *arguments],
            "env": [{"name": "EXTRA", "value": "e"}],
            **more,
        }
    }


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_program_is_run_once_until_its_token_is_refused(tmp_path, version):
    access = load(written(tmp_path / "config", user=program(tmp_path, version=version)))
    both = await asyncio.gather(authorization(access), authorization(access))
    assert both == ["Bearer t1-e"] * 2
    assert await authorization(access, refused=True) == "Bearer t2-e"
    assert await authorization(access) == "Bearer t2-e"


async def test_a_token_that_ends_is_asked_for_anew_before_it_does(tmp_path):
    now = [1_000_000_000.0]
    user = program(tmp_path, "2001-09-09T01:47:40Z", provideClusterInfo=True)
    access = load(written(tmp_path / "config", user=user), wall=lambda: now[0])
    assert await authorization(access) == "Bearer t1-e-https://10.0.0.1:6443"
    now[0] += 50  # it ends at 1,000,000,060
    assert (await authorization(access)).startswith("Bearer t2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import sys; sys.exit('please log in')", "ended with 1: please log in"),
        ("print('{')", "is no JSON"),
        ("print('{}')", "is no ExecCredential"),
        (
            'print(\'{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1"}\')',
            "has no status",
        ),
        (PROGRAM.replace('f"t{', 'f"t {'), "status.token: holds a space"),
    ],
)
async def test_a_program_that_fails_is_quoted(tmp_path, text, expected):
    access = load(written(tmp_path / "config", user=program(tmp_path, text=text)))
    with pytest.raises(DiscoveryError, match=expected):
        await access.headers()


async def test_a_program_that_is_not_there_is_named_with_its_hint(tmp_path):
    user = program(tmp_path, command="./no-login", installHint="install no-login")
    access = load(written(tmp_path / "config", user=user))
    with pytest.raises(DiscoveryError, match=r"no-login. cannot be run: .*; install no-login"):
        await access.headers()


ANSWER = """
import json, os
print(json.dumps({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
                  "status": {"token": "t"}}), flush=True)
"""


async def asked_of(tmp_path, text, timeout_s=20.0):
    command = program(tmp_path, text=text)["exec"]
    credential = ExecCredential(
        ExecCommand(
            "users[0].user.exec", command["command"], command["apiVersion"], tuple(command["args"])
        ),
        lambda: 0.0,
        timeout_s=timeout_s,
    )
    async with asyncio.timeout(15.0):
        return await credential.headers(refused=False)


async def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    text = f"""
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path({str(tmp_path / "child")!r}).write_text(str(child.pid))
child.wait()
"""
    with pytest.raises(DiscoveryError, match="gave no answer within 2 s"):
        await asked_of(tmp_path, text, timeout_s=2.0)
    child = Path(f"/proc/{(tmp_path / 'child').read_text()}/status")
    await until(lambda: not child.exists() or "State:\tZ" in child.read_text(), "the child's end")


async def test_a_program_that_fails_is_run_once_for_all_that_wait_for_it(tmp_path):
    runs = tmp_path / "runs"
    text = f"""
import pathlib, sys, time
with open({str(runs)!r}, "a") as log:
    log.write("x")
gate = pathlib.Path({str(tmp_path / "gate")!r})
while not gate.exists():
    time.sleep(0.01)
sys.exit("the login is over")
"""
    command = program(tmp_path, text=text)["exec"]
    credential = ExecCredential(
        ExecCommand(
            "users[0].user.exec", command["command"], command["apiVersion"], tuple(command["args"])
        ),
        lambda: 0.0,
    )
    asking = [asyncio.create_task(credential.headers(refused=n % 2 == 0)) for n in range(6)]
    asking += [asyncio.create_task(credential.pair()) for _ in range(2)]
    await until(runs.exists, "the first run")
    (tmp_path / "gate").touch()
    for answer in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(answer, DiscoveryError)
        assert "the login is over" in str(answer)
    assert runs.read_text() == "x"
    with pytest.raises(DiscoveryError, match="the login is over"):
        await credential.headers(refused=False)  # who comes later has it tried again
    assert runs.read_text() == "xx"


async def test_a_program_may_leave_another_one_behind_that_keeps_its_output_open(tmp_path):
    text = f"""
import pathlib, subprocess, sys
{ANSWER}
left = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path({str(tmp_path / "left")!r}).write_text(str(left.pid))
"""
    try:
        assert await asked_of(tmp_path, text) == {"Authorization": "Bearer t"}
    finally:
        os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


async def test_a_program_that_prints_without_end_is_ended(tmp_path):
    text = "while True: print('rubbish' * 10_000)"
    with pytest.raises(DiscoveryError, match="printed more than 1048576 bytes"):
        await asked_of(tmp_path, text)


async def test_a_program_has_no_terminal_to_ask_a_person_at(tmp_path):
    text = f"import os; assert os.getsid(0) == os.getpid()\n{ANSWER}"
    assert await asked_of(tmp_path, text) == {"Authorization": "Bearer t"}


@pytest.mark.parametrize("more", [{"command": "a\0b"}, {"env": [{"name": "A=B", "value": "c"}]}])
async def test_a_program_that_no_system_would_run_is_an_error_of_its_own(tmp_path, more):
    access = load(written(tmp_path / "config", user=program(tmp_path, **more)))
    with pytest.raises(DiscoveryError, match=r"users\[0\].user.exec.command: .* cannot be run"):
        await access.headers()


async def test_a_program_may_be_told_of_a_date(tmp_path):
    extension = {
        "name": "client.authentication.k8s.io/exec",
        "extension": {"since": date(2026, 1, 2)},
    }
    text = PROGRAM.replace('["server"]', '["config"]["since"]')
    user = program(tmp_path, text=text, provideClusterInfo=True)
    access = load(written(tmp_path / "config", user=user, cluster={"extensions": [extension]}))
    assert await authorization(access) == "Bearer t1-e-2026-01-02"


# ---- TLS, with a real server ----


class Certificates:
    def __init__(self, folder):
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(folder / "ca.crt")
        self.server = self.authority.issue_cert("127.0.0.1", "api.example")
        self.show("client")

    def show(self, name):
        made = self.authority.issue_cert(f"{name}@example.com", common_name=name)
        (self.folder / "client.crt").write_bytes(made.cert_chain_pems[0].bytes())
        (self.folder / "client.key").write_bytes(made.private_key_pem.bytes())

    def context(self, *, demand=False):
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.configure_cert(made)
        if demand:
            self.authority.configure_trust(made)
            made.verify_mode = ssl.CERT_REQUIRED
        return made


class TlsApi(FakeApi):
    """The fake server behind TLS; it notes who its clients are."""

    def __init__(self, context):
        super().__init__()
        self.names = set()
        self._context = context

    async def start(self):
        app = web.Application()
        app.router.add_get("/api/v1/{plural}", self._handle)
        app.router.add_get("/apis/discovery.k8s.io/v1/{plural}", self._handle)
        # Zero would be no limit.
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.address = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _handle(self, request):
        shown = request.transport.get_extra_info("peercert") or {}
        self.names |= {value for part in shown.get("subject", ()) for _, value in part}
        return await super()._handle(request)


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


@pytest.fixture
async def reading():
    """Starts a TLS server and a view of it by a kubeconfig."""
    ends = []

    async def start(context, path, **how):
        api = TlsApi(context)
        await api.start()
        api.put(service(), endpoint_slice("a", "10.0.0.1"))
        how.setdefault("cluster", {})["server"] = api.address
        view = View(api, access=load(written(path / "config", **how)))
        task = asyncio.create_task(view.read())
        ends.append((api, task))
        return api, view

    yield start
    for api, task in ends:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.stop()


@pytest.mark.parametrize("inline", [True, False])
async def test_a_certificate_of_the_named_authority_is_trusted(
    certificates, reading, tmp_path, inline
):
    pem = (tmp_path / "ca.crt").read_bytes()
    cluster = (
        {"certificate-authority-data": base64.b64encode(pem).decode()}
        if inline
        else {"certificate-authority": "ca.crt"}
    )
    _, view = await reading(certificates.context(), tmp_path, cluster=cluster)
    await until(lambda: view.synced, lambda: view.reason)


async def test_certificates_without_key_identifiers_are_trusted_as_kubectl_trusts_them(
    reading, tmp_path
):
    authority = Authority(bare=True)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    (tmp_path / "server.pem").write_bytes(b"".join(authority.issue()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    _, view = await reading(context, tmp_path, cluster={"certificate-authority": "ca.crt"})
    await until(lambda: view.synced, lambda: view.reason)


async def test_another_certificate_is_refused_and_the_field_named(certificates, reading, tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.crt")
    cluster = {"certificate-authority": "other.crt"}
    _, view = await reading(certificates.context(), tmp_path, cluster=cluster)
    await until(lambda: "TLS with https" in view.reason)
    assert "context 'dev'" in view.reason
    assert not view.synced
    (tmp_path / "other.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    await until(lambda: view.synced, lambda: view.reason)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
async def test_an_authority_that_is_empty_is_an_error_and_not_the_systems(tmp_path, content):
    (tmp_path / "ca.crt").write_bytes(content)
    access = load(written(tmp_path / "config", cluster={"certificate-authority": "ca.crt"}))
    with pytest.raises(DiscoveryError, match="certificate-authority: is no PEM certificate: it is"):
        await access.tls()


async def test_only_an_explicit_wish_turns_the_check_off(certificates, reading, tmp_path, caplog):
    cluster = {"insecure-skip-tls-verify": True}
    _, view = await reading(certificates.context(), tmp_path, cluster=cluster)
    await until(lambda: view.synced, lambda: view.reason)
    assert "insecure-skip-tls-verify" in caplog.text


async def test_the_name_in_the_certificate_may_be_another(certificates, reading, tmp_path):
    cluster = {"certificate-authority": "ca.crt", "tls-server-name": "api.example"}
    _, view = await reading(certificates.context(), tmp_path, cluster=cluster)
    await until(lambda: view.synced, lambda: view.reason)


async def test_and_a_wrong_name_is_refused(certificates, reading, tmp_path):
    cluster = {"certificate-authority": "ca.crt", "tls-server-name": "wrong.example"}
    _, view = await reading(certificates.context(), tmp_path, cluster=cluster)
    await until(lambda: "wrong.example" in view.reason)
    assert not view.synced


async def test_a_client_certificate_is_shown_and_a_new_one_after_it_changed(
    certificates, reading, tmp_path
):
    api, view = await reading(
        certificates.context(demand=True),
        tmp_path,
        cluster={"certificate-authority": "ca.crt"},
        user={"client-certificate": "client.crt", "client-key": "client.key"},
    )
    await until(lambda: view.synced, lambda: view.reason)
    assert api.names >= {"client"}
    certificates.show("renewed")
    api.cut_watches()
    await until(lambda: "renewed" in api.names)


async def test_a_program_may_hand_out_a_client_certificate(certificates, reading, tmp_path):
    text = f"""
import json, pathlib
folder = pathlib.Path({str(tmp_path)!r})
print(json.dumps({{
    "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
    "status": {{"clientCertificateData": (folder / "client.crt").read_text(),
               "clientKeyData": (folder / "client.key").read_text()}},
}}))
"""
    api, view = await reading(
        certificates.context(demand=True),
        tmp_path,
        cluster={"certificate-authority": "ca.crt"},
        user=program(tmp_path, text=text),
    )
    await until(lambda: view.synced, lambda: view.reason)
    assert api.names >= {"client"}


@pytest.mark.parametrize("broken", ["client.crt", "client.key", "ca.crt"])
async def test_a_broken_file_is_named_and_no_key_shown(certificates, tmp_path, broken):
    file = written(
        tmp_path / "config",
        cluster={"certificate-authority": "ca.crt"},
        user={"client-certificate": "client.crt", "client-key": "client.key"},
    )
    (tmp_path / broken).write_text(SECRET)
    with pytest.raises(DiscoveryError) as error:
        await load(file).tls()
    assert "client-certificate" in str(error.value) or "certificate-authority" in str(error.value)
    assert SECRET not in str(error.value)


# ---- in a pod ----


@pytest.fixture
def mounted(tmp_path):
    (tmp_path / "token").write_text("pod-token")
    (tmp_path / "namespace").write_text("trimtab-system")
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    return tmp_path


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
async def test_a_pod_finds_its_own_cluster(mounted, host, server):
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    assert is_in_cluster(environ, mounted)
    access = in_cluster(environ, mounted)
    assert (access.server, access.namespace) == (server, "trimtab-system")
    assert await authorization(access) == "Bearer pod-token"
    assert isinstance(await access.tls(), ssl.SSLContext)
    (mounted / "token").write_text("rotated")
    assert await authorization(access) == "Bearer rotated"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_pod_without_its_account_is_told_what_to_set(mounted, missing):
    (mounted / missing).unlink()
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        in_cluster(environ, mounted)


def test_elsewhere_is_no_pod(tmp_path):
    assert not is_in_cluster({}, tmp_path)
    with pytest.raises(ConfigError, match="this is no pod"):
        in_cluster({}, tmp_path)


def test_nothing_secret_is_in_a_repr(tmp_path):
    user = {"token": SECRET, "client-key-data": base64.b64encode(SECRET.encode()).decode()}
    user["client-certificate-data"] = user["client-key-data"]
    access = load(written(tmp_path / "config", user=user))
    assert SECRET not in json.dumps([repr(value) for value in vars(access).values()])
