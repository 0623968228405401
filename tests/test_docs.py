"""What the README and the guides say, run as written.

The examples' fixed ports, 50051 and for HTTP 50080, are replaced by free ones: another program may have
them.
"""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from grpc_tools import protoc

import trimtab
from command_line import in_process
from harness.control_plane import ControlPlane, free_addresses

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
PORT, HTTP_PORT = "50051", "50080"
PROTO = """
syntax = "proto3";
message OrderRequest { string id = 1; }
message Order { string text = 1; }
service Orders { rpc Get(OrderRequest) returns (Order); }
"""


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    for i, code in enumerate(blocks(page, "python"))
]


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """The examples' generated modules, as grpcio-tools writes them."""
    place = tmp_path_factory.mktemp("stubs")
    (place / "orders.proto").write_text(PROTO)
    arguments = [f"-I{place}", f"--python_out={place}", f"--grpc_python_out={place}"]
    assert protoc.main(["protoc", *arguments, str(place / "orders.proto")]) == 0
    return place


@pytest.fixture(scope="module")
def port():
    """A server for the examples; it needs no stubs to send the bytes of Order{text: ...}."""
    answer = b"\x0a\x05order"
    handler = grpc.method_handlers_generic_handler(
        "Orders", {"Get": grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)}
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield str(port)
    server.stop(None).wait()


@pytest.fixture(scope="module")
def http_port():
    """The same over HTTP."""

    class Orders(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"order")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Orders)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield str(server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def manifests(tmp_path_factory, port):
    """The README's manifests, in the directory that its commands name."""
    place = tmp_path_factory.mktemp("shop")
    (place / "manifests").mkdir()
    text = blocks(ROOT / "README.md", "yaml")[0]
    (place / "manifests" / "orders.yaml").write_text(text.replace(PORT, port))
    return place / "manifests"


@pytest.fixture(scope="module")
def control_plane(manifests):
    running = ControlPlane(free_addresses(), str(manifests))
    running.start()
    yield running
    running.stop()


@pytest.mark.processes
@pytest.mark.parametrize("code", EXAMPLES)
def test_every_python_example_runs(code, stubs, port, http_port, control_plane):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GRPC_XDS", "TRIMTAB_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            code.replace(PORT, port).replace(HTTP_PORT, http_port),
        ],
        env=clean | {"PYTHONPATH": str(stubs), "TRIMTAB_CONTROL_PLANE": control_plane.address},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "order\n"
    assert done.stderr == ""


@pytest.mark.processes
def test_the_readme_s_manifests_pass_the_check_that_it_names(manifests):
    done = subprocess.run(
        [sys.executable, "-m", "trimtab", "check", "manifests/"],
        cwd=manifests.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


COMMANDS = sorted(
    {
        line.strip().removeprefix(".venv/bin/")
        for page in PAGES
        for code in blocks(page, "(?:bash|sh)")
        for line in code.splitlines()
        if line.strip().removeprefix(".venv/bin/").startswith("trimtab ")
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_docs_takes_the_options_that_they_show(command):
    words = command.partition(">")[0].replace('"$HOSTNAME"', "host").split()[1:]
    code, out, errors = in_process(*words, "--help")
    assert code == 0, errors
    for option in (word for word in words if word.startswith("--")):
        assert option in out


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text())  # a client's words may look like a link
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def headings(page):
    """What a link may name after ``#``, as GitHub makes it."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", "\n".join(re.findall(r"(?m)^#+ (.*)$", text)))
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in plain.split("\n")}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_heading_finds_it(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text())
    for target, heading in re.findall(r"\]\(([^):#]*)#([^)]+)\)", text):
        named = page.parent / target if target else page
        assert heading in headings(named), f"{target}#{heading}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_metric_that_a_page_names_is_exported(page):
    known = (ROOT / "docs" / "metrics.md").read_text()  # compared with the code elsewhere
    for name in re.findall(r"`(trimtab_[a-z_]+)`", page.read_text()):
        assert f"`{name}`" in known, name


RESULTS = ROOT / "docs" / "results"
ROWS = [
    pytest.param(row, id=row.split(" | ")[0].removeprefix("| "))
    for row in (RESULTS / "README.md").read_text().splitlines()
    if "**" in row and ".md)" in row
]


@pytest.mark.parametrize("row", ROWS)
def test_every_figure_of_the_index_of_results_is_in_a_page_of_its_row(row):
    pages = "\n".join(
        (RESULTS / name).read_text() for name in re.findall(r"\(([a-z-]+\.md)\)", row)
    )
    for figure in re.findall(r"\*\*(.+?)\*\*", row):
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d.,]*\d)", pages), figure


def test_every_result_is_in_the_index():
    listed = (RESULTS / "README.md").read_text()
    for page in RESULTS.glob("[a-z]*.md"):
        assert f"({page.name})" in listed, page.name


def test_the_changelog_knows_the_version():
    assert re.search(
        rf"## \[(Unreleased|{trimtab.__version__})\]", (ROOT / "CHANGELOG.md").read_text()
    )
