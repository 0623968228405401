"""Reading untrusted messages: the parts that all resources need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError, Message

from trimtab.errors import ProtocolError
from trimtab.model import MAX_WEIGHT
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire

M = TypeVar("M", bound=Message)


def parsed(kind: type[M], body: bytes) -> M:
    """Read a message.

    Raises:
        ProtocolError: the bytes are no such message.
    """
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise ProtocolError(f"not a {kind.DESCRIPTOR.name}: {error}") from error


def own_metadata(metadata: wire.Metadata) -> Mapping[str, struct_pb2.Value]:
    """The fields that trimtab's control plane adds, empty if another one sent this."""
    ours = metadata.filter_metadata
    # A protobuf map makes what is looked up, so ask first.
    return ours[type_urls.METADATA].fields if type_urls.METADATA in ours else {}


def whole_number(value: struct_pb2.Value, where: str) -> int:
    """A number without a fraction, of at most 32 bits.

    Raises:
        ProtocolError: it is another one.
    """
    if not value.number_value.is_integer() or not 0 <= value.number_value <= MAX_WEIGHT:
        raise ProtocolError(f"{where}: {value.number_value} is not a whole number of 32 bits")
    return int(value.number_value)


def text_of(fields: Mapping[str, struct_pb2.Value], key: str) -> str:
    """A text field, "" if it is absent."""
    value = fields.get(key)
    return "" if value is None else value.string_value
