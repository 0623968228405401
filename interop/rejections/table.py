"""The table of what was observed, its file, and the page made of it.

``python -m rejections.table`` (in ``interop/``, with ``../tests/support`` on ``PYTHONPATH``) observes
anew and writes all: after an upgrade of a client, read the difference.
"""

import sys
import tempfile
from pathlib import Path

import yaml

from harness.backends import Backends
from rejections.behaviours import KINDS, behave
from rejections.cases import CASES
from rejections.notes import NOTES
from rejections.observing import CLIENTS, observe

FILE = Path(__file__).with_name("table.yaml")
BEHAVIOURS = FILE.with_name("behaviours.yaml")
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rejections.md"
INTRODUCTION = """# What xDS clients reject

Made from `interop/rejections/table.yaml`, which the tests compare with real clients; don't edit it.
Each bad resource is served alone to a client. *Says* is the text of its NACK (with `NAME` and `PORT`
in place of the test's own; of long texts the end), or `ACK`. *New service* is what a call gets where
there was no good state before, *running service* where there was one. `hangs` is a call that ended
with its deadline. trimtab sends none of these: each has a guard, a test in
`tests/xds/test_never_sent.py` with that name, which makes random fleets and looks at all that is sent.
"""
BEHAVIOURS_INTRODUCTION = """Two services share a channel, and their endpoints a response; those of
one are bad. *First* is a call to a new service, *update* to one in use, whose good endpoints change:
*old* and *new* say which state a call meets. *Nodes again*: later requests of a stream carry the node
too. *Code* is the NACK's. *Large* is endpoints of 5 MiB for a service in use. `envoy-delta` is Envoy
over delta; no gRPC client speaks it.
"""


def load():
    return yaml.safe_load(FILE.read_text())


def load_behaviours():
    return yaml.safe_load(BEHAVIOURS.read_text())


def observe_all(clients=CLIENTS):
    """By client, by case: what it says, and its calls."""
    backends = Backends()
    try:
        port = open_both(backends)
        with tempfile.TemporaryDirectory() as directory:
            return {kind: observe(kind, port, Path(directory))[0] for kind in clients}
    finally:
        backends.stop()


def behave_all(clients=KINDS):
    """By client: what it does beyond the cases."""
    backends = Backends()
    try:
        port = open_both(backends)
        with tempfile.TemporaryDirectory() as directory:
            return {kind: behave(kind, port, Path(directory)) for kind in clients}
    finally:
        backends.stop()


def open_both(backends):
    """Servers at 127.0.0.1 and 127.0.0.2, on the port that is returned."""
    (pod,) = backends.open("a")
    backends.open_at("b", f"127.0.0.2:{pod.port}")
    return pod.port


def page(table, behaviours):
    """Both tables and the notes as Markdown."""
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
    return "\n".join([*lines, *_behaviour_lines(behaviours), *_note_lines()])


def _behaviour_lines(behaviours):
    facts = list(next(iter(behaviours.values())))
    yield "## Behaviours"
    yield ""
    yield BEHAVIOURS_INTRODUCTION
    yield "| client | " + " | ".join(f.replace("_", " ") for f in facts) + " |"
    yield "|---" * (len(facts) + 1) + "|"
    for client, seen in behaviours.items():
        yield f"| {client} | " + " | ".join(_cell(seen[f]) for f in facts) + " |"
    yield ""


def _cell(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "<br>".join(value) if isinstance(value, list) else str(value)


def _note_lines():
    for note in NOTES:
        yield f"### {note.title}"
        yield ""
        yield note.text
        yield ""
        yield from (f"- `{test}`" for test in note.tests)
        yield ""


def _record(file, observed):
    known = yaml.safe_load(file.read_text()) if file.exists() else {}
    file.write_text(yaml.safe_dump(known | observed, sort_keys=False, width=1000))


if __name__ == "__main__":
    wanted = sys.argv[1:] or KINDS
    _record(FILE, observe_all([c for c in wanted if c in CLIENTS]))
    _record(BEHAVIOURS, behave_all([c for c in wanted if c in KINDS]))
    PAGE.write_text(page(load(), load_behaviours()))
