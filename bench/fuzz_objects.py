"""Feeds damaged Kubernetes objects to the decoder and the fold, as many as one likes.

    python bench/fuzz_objects.py --inputs 1000000

``make test`` does the same with some hundred inputs of Hypothesis; this has its own, cheaper way to
damage them, so that a million take minutes. It ends with the first input that breaks something.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from kube import endpoint_slice, service
from trimtab.discovery.kube_objects import decode
from trimtab.discovery.kubernetes.wire import SERVICES, SLICES, decode_event, decode_page
from trimtab.discovery.slices import SliceFold
from trimtab.errors import ProtocolError
from trimtab.model import Problem, Snapshot, Updated

GOOD = (
    service(),
    service(ipFamilies=["IPv6"], publishNotReadyAddresses=True, trafficDistribution="PreferClose"),
    endpoint_slice("a", "10.0.0.1", "10.0.0.2"),
    endpoint_slice("b", "fd00::1") | {"addressType": "IPv6"},
)
ANYTHING = (
    None, True, 0, -1, 2**63, 2**70, 1.5, "", "x", "10.0.0.1", "::1", "\ud83d", "\x00", "127.0.0.1",
    "x" * 300, [], {}, [None], [[]], {"": None}, "FQDN", "IPv9", "169.254.1.1", 70000, "true",
)  # fmt: skip
AGAIN = 1000  # inputs for one fold: what is there from before matters


def damaged(random: Random) -> object:
    """A good object with one to four of its parts replaced, removed, doubled or renamed."""
    good = random.choice(GOOD)
    made = copy.deepcopy(good)
    for _ in range(random.randint(1, 4)):
        at: dict | list = made
        while True:
            steps = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not steps:
                break
            step = random.choice(steps)
            if isinstance(at[step], dict | list) and random.random() < 0.7:
                at = at[step]
                continue
            match random.randrange(5):
                case 0:
                    del at[step]
                case 1 if isinstance(at, list):
                    at.append(copy.deepcopy(at[step]))
                case 2 if isinstance(at, dict):
                    at[str(step).upper()] = at.pop(step)
                case _:
                    at[step] = copy.deepcopy(random.choice(ANYTHING))
            break
    if random.random() < 0.95:  # what is of another kind is looked at no further
        made |= {"kind": good["kind"], "apiVersion": good["apiVersion"]}
    return made


def torn(raw: bytes, random: Random) -> bytes:
    """The text with some bytes changed or cut."""
    found = bytearray(raw)
    for _ in range(random.randint(1, 3)):
        found[random.randrange(len(found))] = random.randrange(256)
    return bytes(found[: random.randint(1, len(found))]) if random.random() < 0.2 else bytes(found)


class Feeding:
    """A fold that is fed."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._fold = SliceFold(self._problems.append)
        for good in (service("good"), endpoint_slice("good", "10.9.9.9", of="good")):
            self._fold.apply(decode(good))

    def feed(self, text: bytes) -> str:
        """Decode and fold one object; what became of it."""
        found = decode(text)
        outcome = "of another kind"
        if isinstance(found, Problem):
            outcome = "refused"
            self._problems.append(found)
        elif found is not None:
            outcome = "read"
            for event in self._fold.apply(found):
                if isinstance(event, Updated):
                    s = event.snapshot
                    assert Snapshot(s.cluster, s.endpoints, s.policy, s.service) == s
        assert "good.shop:8080" in {s.cluster for s in self._fold.clusters()}
        for problem in self._problems:
            assert problem.fix
            str(problem).encode()
        self._problems.clear()
        return outcome


def read_as_watch(raw: bytes) -> None:
    """Every reader of the wire; a breach of the protocol is no fault of ours."""
    for resource in (SERVICES, SLICES):
        for read in (decode_event, decode_page):
            with contextlib.suppress(ProtocolError):
                read(resource, raw)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random = Random(args.seed)
    outcomes: Counter[str] = Counter()
    feeding = Feeding()
    for turn in range(args.inputs):
        if turn % AGAIN == 0:
            feeding = Feeding()
        document = damaged(random)
        text = json.dumps(document).encode()
        try:
            outcomes[feeding.feed(text)] += 1
            read_as_watch(torn(b'{"type":"ADDED","object":%s}' % text, random))
        except Exception:
            print(f"input {turn} of seed {args.seed}: {document!r}", file=sys.stderr)
            raise
    print(f"{args.inputs:,} inputs of seed {args.seed}: {dict(outcomes)}")


if __name__ == "__main__":
    main()
