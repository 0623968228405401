"""Looks installed packages up for known vulnerabilities, with pip-audit; says so where that can't be done.

pip-audit takes a service that answers "never heard of it" for one that knows nothing bad. So it is asked
about a release first that is known to be vulnerable: a service that doesn't say so is none to rely on.

Exit codes: 0 nothing known; 1 a package is vulnerable, or could not be looked up; 2 wrong use. With
--where-possible it is 0, too, where the service as a whole can't be relied on, after saying so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VULNERABLE = "idna==3.6"  # PYSEC-2024-60, CVE-2024-3651


def looked_up(*arguments: str) -> list[dict[str, Any]]:
    """What pip-audit says of each package; nothing if it could not ask."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "audit.json"
        command = [sys.executable, "-m", "pip_audit", "--format", "json", "--output", str(output)]
        subprocess.run(  # noqa: S603 - our own arguments
            [*command, "--progress-spinner", "off", *arguments],
            check=False,
            stderr=subprocess.DEVNULL,
        )
        text = output.read_text() if output.exists() else ""
    return json.loads(text)["dependencies"] if text else []


def knows_vulnerabilities() -> bool:
    """Whether the service says of a vulnerable release that it is."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(VULNERABLE)
        requirements.flush()
        found = looked_up("--no-deps", "--disable-pip", "--requirement", requirements.name)
    return any(package.get("vulns") for package in found)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", required=True, help="where the packages are installed")
    parser.add_argument("--where-possible", action="store_true", help="no service: say so, exit 0")
    options = parser.parse_args()
    if not knows_vulnerabilities():
        print(
            f"audit: NOT DONE: the advisory service can't be reached, or doesn't know that "
            f"{VULNERABLE} is vulnerable. Nothing is known about the installed packages. Run "
            f"`make audit` where it can be reached, before a release.",
            file=sys.stderr,
        )
        return 0 if options.where_possible else 1
    packages = looked_up("--skip-editable", "--path", options.path)
    bad = [
        f"{p['name']} {p['version']}: {', '.join(v['id'] for v in p['vulns'])}"
        for p in packages
        if p.get("vulns")
    ]
    bad += [
        f"{p['name']}: not looked up: {reason}"
        for p in packages
        if (reason := p.get("skip_reason")) and "editable" not in reason
    ]
    for line in bad:
        print(f"audit: {line}", file=sys.stderr)
    if not packages:
        print(f"audit: no package found in {options.path}", file=sys.stderr)
        return 1
    if not bad:
        print(f"audit: nothing known against {len(packages)} packages")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
