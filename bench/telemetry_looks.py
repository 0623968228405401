"""What a call does for telemetry where nobody watches: found in the product's own code, and timed.

A production call is made under a line tracer. Every line that it ran in trimtab, and that reads who watches (``observer``,
``WANTED``), is taken out of its function as it stands there, compiled with the values that it had, and timed in a
loop. So another look, or a dearer one, wherever on the way of a call, is in the figure.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import timeit
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Self

import trimtab

_PACKAGE = trimtab.__path__[0]
_NAMES = frozenset({"observer", "_observer", "WANTED"})
_LOOPS = 100_000


@dataclass
class _Ran:
    """A function that a call ran: its lines, and what its names stood for at the end."""

    lines: set[int] = field(default_factory=set)
    names: dict[str, Any] = field(default_factory=dict)
    globals: dict[str, Any] = field(default_factory=dict)


class Traced:
    """A context in whose thread trimtab's functions are traced."""

    def __init__(self) -> None:
        self._ran: dict[CodeType, _Ran] = {}

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._note if frame.f_code.co_filename.startswith(_PACKAGE) else None

    def _note(self, frame: FrameType, event: str, _argument: Any) -> Any:
        ran = self._ran.setdefault(frame.f_code, _Ran())
        if event == "line":
            ran.lines.add(frame.f_lineno)
        elif event == "return":
            ran.names, ran.globals = dict(frame.f_locals), frame.f_globals
        return self._note

    def looks(self) -> list[Look]:
        """All that was run and reads who watches, in the order of the source."""
        return [
            Look(code.co_qualname, statement, ran.names, ran.globals)
            for code, ran in self._ran.items()
            for statement in _statements(code)
            if statement.lineno in ran.lines and (_reads(statement))
        ]


class Look:
    """A line of the product that looks who watches.

    Attributes:
        text: function and line.
    """

    def __init__(
        self, function: str, statement: ast.stmt, names: dict[str, Any], known: dict[str, Any]
    ) -> None:
        self.text = f"{function}: {ast.unparse(statement).splitlines()[0]}"
        self._names = names
        self._known = known
        self._statement = statement

    def ns(self) -> float:
        """What it takes [ns], the least of many tries."""
        return (self._best(self._statement) - self._best(ast.Pass())) / _LOOPS * 1e9

    def _best(self, statement: ast.stmt) -> float:
        loop = ast.parse(f"def timed({', '.join(self._names)}):\n for _ in range({_LOOPS}): pass")
        loop.body[0].body[0].body = [statement]  # type: ignore[attr-defined]
        made: dict[str, Any] = {}
        exec(compile(ast.fix_missing_locations(loop), "<look>", "exec"), self._known, made)
        timed = made["timed"]
        return min(timeit.repeat(lambda: timed(**self._names), number=1, repeat=50))


def _statements(code: CodeType) -> Iterator[ast.stmt]:
    """Each statement of a function that reads who watches; of a compound one its head."""
    lines, first = inspect.getsourcelines(code)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            yield ast.copy_location(ast.If(node.test, [ast.Pass()], []), node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return | ast.Assert):
            yield node


def _reads(statement: ast.stmt) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id in _NAMES and isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Attribute) and node.attr in _NAMES)
        for node in ast.walk(statement)
    )
