"""Bytes of a manifest file into plain documents, within limits.

YAML by PyYAML's safe C loader with three limits of ours: aliases (the "billion laughs" need them),
nesting depth, and no key twice. JSON is read by msgspec, which is quick and strict.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import msgspec
import yaml

MAX_ALIASES = 1_000
MAX_DEPTH = 64

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _LimitedLoader(_Loader):  # type: ignore[misc]  # chosen at import
    """The safe loader, with the limits of the module."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._aliases = 0
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise yaml.MarkedYAMLError(
                    problem=f"more than {MAX_ALIASES} aliases; write the values out",
                    problem_mark=self.peek_event().start_mark,
                )
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {MAX_DEPTH} levels; flatten the object",
                problem_mark=self.peek_event().start_mark,
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice; remove one",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class BrokenFile(Exception):  # noqa: N818 - a result, not a failure of this program
    """A file that can't be read. ``line`` counts from 1, 0 if unknown."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


def documents(data: bytes, *, json: bool) -> list[object]:
    """All documents of a file, ``List`` objects opened.

    Raises:
        BrokenFile: the text breaks the format or a limit.
    """
    if json:
        try:
            return list(_opened(msgspec.json.decode(data)))
        except (msgspec.DecodeError, RecursionError) as error:
            raise BrokenFile(str(error)) from None
    found: list[object] = []
    try:
        loader = _LimitedLoader(data)
        try:
            while loader.check_data():
                found.extend(_opened(loader.get_data()))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(filter(None, (error.context, error.problem)))
        raise BrokenFile(reason, mark.line + 1 if mark else 0) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BrokenFile(" ".join(str(error).split())) from None
    return found


def _opened(document: object) -> Iterator[object]:
    if document is None:
        return
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        items = document.get("items")
        if isinstance(items, list):
            for item in items:
                # A typed list (ServiceList) leaves kind and version out of its items.
                if isinstance(item, dict) and "kind" not in item and document["kind"] != "List":
                    yield {
                        "apiVersion": document.get("apiVersion"),
                        "kind": str(document["kind"]).removesuffix("List"),
                        **item,
                    }
                else:
                    yield item
            return
    yield document
