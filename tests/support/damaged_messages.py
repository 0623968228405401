"""Messages with anything in them that their types can hold, and bytes that were torn."""

from google.protobuf.descriptor import FieldDescriptor

from trimtab.xds import type_urls

ORDERS = "orders.shop:8080"
TEXTS = (
    ORDERS, "orders.shop:grpc", "nobody.shop:80", "*", "", "x" * 500, "\x00", "\n\x1b[31m", "☃",
    "xdstp://a/b/c", "z1", "1", "envoy", "grpc", "trimtab", "orders.shop", "nonce",
    *type_urls.ORDER, "type.googleapis.com/", "type.googleapis.com/unknown",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**32, 2**64 - 1)
REALS = (0.0, -0.0, 1.5, -1.0, 1e300, float("inf"), float("-inf"), float("nan"))
DEEPEST = 5


def fill(message, random, depth=0):
    """Set about half of the fields, to anything that its type can hold."""
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.5 + 0.1 * depth:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(getattr(message, field.name), field.message_type, random, depth)
        elif field.is_repeated:
            for _ in range(random.randrange(4)):
                if field.message_type is not None:
                    fill(getattr(message, field.name).add(), random, depth + 1)
                else:
                    getattr(message, field.name).append(_value(field, random))
        elif field.message_type is not None:
            if depth < DEEPEST:
                fill(getattr(message, field.name), random, depth + 1)
        else:
            setattr(message, field.name, _value(field, random))


def _fill_map(found, entry, random, depth):
    of = entry.fields_by_name["value"]
    for _ in range(random.randrange(3)):
        key = _value(entry.fields_by_name["key"], random)
        if of.message_type is None:
            found[key] = _value(of, random)
        elif depth < DEEPEST:
            fill(found[key], random, depth + 1)


def _value(field, random):
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = random.choice(TEXTS)
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return random.choice(REALS)
        case FieldDescriptor.CPPTYPE_ENUM:
            return random.choice(field.enum_type.values).number
        case FieldDescriptor.CPPTYPE_INT32:
            return random.choice([n for n in NUMBERS if -(2**31) <= n < 2**31])
        case FieldDescriptor.CPPTYPE_UINT32:
            return random.choice([n for n in NUMBERS if 0 <= n < 2**32])
        case FieldDescriptor.CPPTYPE_INT64:
            return random.choice([n for n in NUMBERS if -(2**63) <= n < 2**63])
        case _:
            return random.choice([n for n in NUMBERS if n >= 0])


def torn(raw, random):
    """The bytes with some changed, doubled or cut."""
    found = bytearray(raw or b"\x00")
    for _ in range(random.randint(1, 3)):
        found[random.randrange(len(found))] = random.randrange(256)
    if random.random() < 0.3:
        found = found[: random.randint(0, len(found))]
    if random.random() < 0.1:
        found += raw
    return bytes(found)
