"""Bytes of a manifest file into plain documents, within limits.

YAML by PyYAML's safe loader with three limits of ours: what aliases stand for (the "billion
laughs"), nesting depth, and no key twice. Timestamps stay text, as the API's types want them and as
Kubernetes' own tools read them. A ``.json`` file holds JSON values, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.composer import Composer

MAX_VALUES = 1_000_000  # of one document that has aliases, written out
MAX_DEPTH = 64

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels; flatten the object"
# libyaml (0.2.6, in PyYAML 6.0.4) has a limit of its own, met first since it reads ahead.
_LIBYAML_TOO_DEEP = "maximum nesting depth"
_JSON_SPACE = " \t\r\n"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"


class BrokenFile(Exception):  # noqa: N818 - a result, not a failure of this program
    """A file that can't be read. ``line`` counts from 1, 0 if unknown."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


class _LimitedComposer(Composer):
    """Composes a document's nodes from the parser's events, within the limits of the module.

    libyaml's own composer offers no hook, and overflows the stack on deep nesting.
    """

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._values = 0  # composed so far, aliases written out
        self._sizes: dict[str, int] = {}  # values of the finished anchors

    def compose_document(self) -> Any:
        self._values, self._sizes = 0, {}
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[attr-defined]  # the parser's
        if isinstance(event, yaml.AliasEvent):
            self._count_alias(event)
            return super().compose_node(parent, index)
        if self._depth >= MAX_DEPTH:
            raise _refused(event, _TOO_DEEP)
        before = self._values
        self._values += 1
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._values - before
        return node

    def _count_alias(self, event: yaml.AliasEvent) -> None:
        size = self._sizes.get(event.anchor or "")
        if size is None and event.anchor in self.anchors:
            raise _refused(event, f"the alias {event.anchor!r} contains itself; write it out")
        self._values += size or 1
        if size and size > 1 and self._values > MAX_VALUES:
            raise _refused(event, f"with its aliases over {MAX_VALUES:,} values; write them out")

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise _refused(key, f"the key {key.value!r} stands twice; remove one")
            seen.add((key.tag, key.value))
        return node


# libyaml's parser where PyYAML was built with it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_LimitedComposer, _SafeLoader):  # type: ignore[misc]  # chosen above
    """The safe loader within limits, without timestamps."""

    def __init__(self, data: bytes) -> None:
        _SafeLoader.__init__(self, data)
        _LimitedComposer.__init__(self)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refused(at: Any, reason: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=at.start_mark)


def documents(data: bytes, *, json: bool) -> list[object]:
    """All documents of a file, ``List`` objects opened.

    Raises:
        BrokenFile: the text breaks the format or a limit.
    """
    read = _json_documents if json else _yaml_documents
    return [item for document in read(data) for item in _opened(document)]


def _yaml_documents(data: bytes) -> list[object]:
    found: list[object] = []
    try:
        loader: Any = _Loader(data)
        try:
            while loader.check_node():
                found.append(_constructed(loader, loader.get_node()))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(filter(None, (error.context, error.problem)))
        if _LIBYAML_TOO_DEEP in reason:
            reason = _TOO_DEEP
        raise BrokenFile(reason, mark.line + 1 if mark else 0) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BrokenFile(" ".join(str(error).split())) from None
    return found


def _constructed(loader: Any, node: yaml.Node) -> object:
    try:
        return loader.construct_document(node)
    except (ValueError, ArithmeticError, LookupError, AttributeError):
        # What PyYAML's constructors let through for a text that its explicit tag does not fit.
        raise _refused(node, "a value does not fit its !!tag; remove the tag") from None


def _json_documents(data: bytes) -> list[object]:
    found: list[object] = []
    try:
        text = data.decode("utf-8-sig")
        decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
        at = _next_value(text, 0)
        while at < len(text):
            document, at = decoder.raw_decode(text, at)
            found.append(document)
            at = _next_value(text, at)
        if "\\ud" in text.lower():  # perhaps half a surrogate pair, which no UTF-8 can carry on
            json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise BrokenFile(error.msg, error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise BrokenFile(str(error)) from None
    return found


def _next_value(text: str, at: int) -> int:
    while at < len(text) and text[at] in _JSON_SPACE:
        at += 1
    return at


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; remove one")
    return found


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON; give a number")


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
