"""Bytes and values as strangers send them: sound ones, damaged at random. The same seed does the same damage."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Final

ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30),
    *("", " ", "\0", "a\nb", "\ud800", "\udcff", "NaN", "é" * 50, "a" * 5_000, "%s{}[]", "../../etc/passwd", "0", "-1"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": {"c": []}}}, "2026-02-30T25:61:61Z", "9999-12-31T23:59:59-23:59"),
)
ODD_BYTES: Final = (
    *(b"", b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n", b"\\ud800", b"\\u0000", b'"'),
    *(b"NaN", b"Infinity", b"1e999", b"9" * 5_000, b"-", b"[" * 2_000, b'{"a":' * 500, b"]", b"}", b",", b":", b"\\"),
    *(b"null", b"\x80\x04\x95", b"\x1f\x8b", b"cos\nsystem\n", b"<html>", b"'", b"\t", b" " * 100),
)


def damaged_bytes(whole: bytes, chance: random.Random) -> bytes:
    """Return `whole` cut, doubled, flipped, overwritten or with something odd inside; up to four times."""
    data = whole
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randint(0, len(data)) for _ in range(2))
        match chance.randrange(6):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + data[to:]
            case 2:
                data = data[:to] + data[at:]
            case 3 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            case 4:
                data = data[:at] + chance.choice(ODD_BYTES) + data[at:]
            case _:
                data = data[:at] + chance.choice(ODD_BYTES) + data[to:]
    return data


def damaged_value(whole: Any, chance: random.Random) -> Any:
    """Return a copy of JSON value `whole` in which something odd stands in one to three places."""
    value = copy.deepcopy(whole)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return chance.choice(ODD_VALUES)
        container, key = chance.choice(places)
        match chance.randrange(4):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[chance.choice(["", "x", "id", "version", "\ud800", "type"])] = container.pop(key)
            case 2:
                container[key] = [container[key]] if chance.random() < 0.5 else {"a": container[key]}
            case _:
                container[key] = copy.deepcopy(chance.choice(ODD_VALUES))
    return value


def damaged_json(whole: Any, chance: random.Random) -> bytes:
    """Return `whole` as JSON, damaged as a value or as bytes, or as both."""
    value = damaged_value(whole, chance) if chance.random() < 0.7 else whole
    data = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return damaged_bytes(data, chance) if value is whole or chance.random() < 0.3 else data


def _places(value: Any) -> Any:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield value, key
        yield from _places(inner)
