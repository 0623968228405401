"""The page of names lists the environment variables that the code reads."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "names.md"
VARIABLE = re.compile(r"(TRIMTAB|POD|NODE|GRPC_XDS)_[A-Z_]+")
# Options of one command, which its --help names.
OF_A_COMMAND = re.compile(r"TRIMTAB_(SERVE|SIMULATE|DEMO|CHECK|CLIENTS|BOOTSTRAP)_")


def named_in_code():
    texts = {
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts if VARIABLE.fullmatch(text) and not OF_A_COMMAND.match(text)}


def test_the_page_lists_exactly_the_variables_of_the_code():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert listed == named_in_code()
