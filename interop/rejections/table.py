"""The table of what was observed, its file, and the page made of it.

``python -m rejections.table`` (in ``interop/``, with ``../tests/support`` on ``PYTHONPATH``) observes
anew and writes both: after an upgrade of a client, read the difference.
"""

import sys
import tempfile
from pathlib import Path

import yaml

from harness.backends import Backends
from rejections.cases import CASES
from rejections.observing import CLIENTS, observe

FILE = Path(__file__).with_name("table.yaml")
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rejections.md"
INTRODUCTION = """# What xDS clients reject

Made from `interop/rejections/table.yaml`, which the tests compare with real clients; don't edit it.
Each bad resource is served alone to a client. *Says* is the text of its NACK (with `NAME` and `PORT`
in place of the test's own; of long texts the end), or `ACK`. *New service* is what a call gets where
there was no good state before, *running service* where there was one. `hangs` is a call that ended
with its deadline. trimtab sends none of these: each has a guard, a test in
`tests/xds/test_never_sent.py` with that name, which makes random fleets and looks at all that is sent.
"""


def load():
    return yaml.safe_load(FILE.read_text())


def observe_all(clients=CLIENTS):
    """By client, by case: what it says, and its calls."""
    backends = Backends()
    try:
        port = open_both(backends)
        with tempfile.TemporaryDirectory() as directory:
            return {kind: observe(kind, port, Path(directory))[0] for kind in clients}
    finally:
        backends.stop()


def open_both(backends):
    """Servers at 127.0.0.1 and 127.0.0.2, on the port that is returned."""
    (pod,) = backends.open("a")
    backends.open_at("b", f"127.0.0.2:{pod.port}")
    return pod.port


def page(table):
    """The table as Markdown."""
    lines = [INTRODUCTION]
    for case in CASES:
        rows = {kind: table[kind][case.name] for kind in table if case.name in table[kind]}
        kind = case.type_url.rpartition(".")[2]
        guard = case.guard.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        lines += [f"## {case.title.capitalize()}", "", f"Bad: {kind}. Guard: {guard}.", ""]
        lines += ["| client | says | new service | running service |", "|---|---|---|---|"]
        for client, seen in rows.items():
            says = seen["says"].replace("|", "\\|")
            lines.append(f"| {client} | `{says}` | {seen['new']} | {seen['running']} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    known = load() if FILE.exists() else {}
    known.update(observe_all(sys.argv[1:] or CLIENTS))
    FILE.write_text(yaml.safe_dump(known, sort_keys=False, width=1000))
    PAGE.write_text(page(known))
