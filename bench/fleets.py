"""Random fleets with random configurations, to real Envoy and native gRPC: what they rejected, and whom they called.

Runs ``tests/native/test_random_fleets.py`` and ``test_random_traffic.py`` with so many fleets and
writes down what they count. Fleet N is the same everywhere: N is its seed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from machine import publish

TESTS = Path(__file__).parents[1] / "tests" / "native"


def run(test: str, **settings: int) -> dict[str, str]:
    """What a test counts, and how long it took [s]; ends the program if it fails."""
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "record.xml"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", TESTS / test, "-q"),
                *(f"--junitxml={record}", "-o", "junit_family=xunit1"),
            ],
            env={**os.environ, **{name: str(value) for name, value in settings.items()}},
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{test} failed: no page is written")
        case = ET.parse(record).find(".//testcase")
    counted = {p.get("name"): p.get("value") for p in case.iter("property")}
    return {**counted, "seconds": f"{float(case.get('time')):,.0f}"}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=100_000)
    parser.add_argument("--traffic", type=int, default=200)
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    fed = run("test_random_fleets.py", FLEETS=args.fleets)
    called = run("test_random_traffic.py", TRAFFIC_FLEETS=args.traffic)
    rows = "\n".join(f"| {name} | {fed[name]} |" for name in fed)
    roads = "\n".join(f"| {name} | {called[name]} |" for name in called)
    publish(
        "Random fleets and configurations",
        f"Fleets 0 to {args.fleets - 1:,} (each is made from its number, `tests/support/fleets.py`: of a hundred one has "
        f"200 to 1,000 endpoints), a quarter of a thousand at a time, each batch twice: from two random "
        f"client Services. To an Envoy with state of the world, one with delta, and native gRPC for Python, "
        f"each in a zone of its own. Target: nothing rejected.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        f"Live traffic to fleets 0 to {args.traffic - 1:,} with up to 8 endpoints that are servers, from an Envoy, native gRPC "
        f"and trimtab's client in three zones: each endpoint and each locality that should get at least "
        f"a thousandth of a client's requests gets some, and nobody else gets any.\n\n"
        f"| | |\n|---|---|\n{roads}",
        args.write,
        "trimtab",
        "grpcio",
    )


if __name__ == "__main__":
    main()
