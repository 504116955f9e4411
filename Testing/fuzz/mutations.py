"""Ways to damage bytes and JSON values. Each is a function of a random generator, so that a case can be made again."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

_MOST_EDITS = 6
_NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1)
_WORDS = [
    b"-3",
    b"0",
    b"-1",
    b"1e309",
    b"nan",
    b"inf",
    b"99999999999",
    b"0.0000001",
    b"1e-300",
    b"",
    b"LOCAL",
    b"../x",
    b"\xff\xfe",
    b"\0",
    "ü".encode(),
    b"true",
    b"null",
    b"{}",
    b"[]",
    b"A" * 300,
]
_ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../etc/passwd",
    "\ud800",
    "\0",
    "A" * 5000,
    "-",
    "ü",
    [],
    {},
    [[]],
    [None],
    {"": 0},
    ["x"] * 40,
    [0, 0, 0],
    [-1, 2, 3],
    [1e9, 1e9, 1e9],
    {"step": "resample"},
    {"class_name": "Lambda", "config": {}},
]

#: An edit gets the bytes and a generator and gives other bytes.
Edit = Callable[[bytes, random.Random], bytes]


def damaged_bytes(data: bytes, seed: str, keep: frozenset[int] | None = None) -> bytes:
    """``data`` with 1 to 6 edits drawn by ``seed``; ``keep``: only the edits of these numbers are made."""
    for number, (edit, own_seed) in enumerate(_edits(seed, _BYTE_EDITS)):
        if keep is None or number in keep:
            data = edit(data, random.Random(own_seed))
    return data


def damaged_json(text: bytes, seed: str, keep: frozenset[int] | None = None) -> bytes:
    """A JSON text with 1 to 6 of its values changed, removed, renamed or moved; now and then its bytes are damaged."""
    if random.Random(f"{seed} bytes").random() < 0.15:
        return damaged_bytes(text, seed, keep)
    value = json.loads(text)
    for number, (edit, own_seed) in enumerate(_edits(seed, [_change_value])):
        if keep is None or number in keep:
            value = edit(value, random.Random(own_seed))
    return json.dumps(value).encode()


def edits_of(seed: str) -> int:
    """How many edits the case ``seed`` has."""
    return len(_edits(seed, [None]))


def _edits(seed: str, kinds: list[Any]) -> list[tuple[Any, str]]:
    rng = random.Random(seed)
    count = min(_MOST_EDITS, 1 + int(rng.expovariate(0.8)))
    return [(rng.choice(kinds), f"{seed} {n}") for n in range(count)]


# -- bytes --------------------------------------------------------------------------------------------------


def _place(data: bytes, rng: random.Random) -> int:
    """Headers decide: half of all edits hit the first 600 bytes."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 600)
    return rng.randrange(max(end, 1))


def _flip_bit(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :] if data else data


def _set_byte(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) + data[at + 1 :]


def _set_number(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((2, 4, 8))
    number = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    return data[:at] + number.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


def _cut_end(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 4, rng.randrange(1, 64))) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.randrange(1, 64)
    return data[: at + size] + data[at : at + size] * rng.choice((1, 1, 20)) + data[at + size :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.choice(_WORDS) + data[at:]


def _move(data: bytes, rng: random.Random) -> bytes:
    here, there, size = _place(data, rng), _place(data, rng), rng.randrange(1, 32)
    return data[:there] + data[here : here + size] + data[there + size :]


def _change_number_text(data: bytes, rng: random.Random) -> bytes:
    """One of the numbers written as text in the first 4000 bytes."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[:4000]))
    if not found:
        return _set_byte(data, rng)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(_WORDS) + data[one.end() :]


def _change_line(data: bytes, rng: random.Random) -> bytes:
    """A line of the header removed, repeated, emptied or swapped with another."""
    head, rest = data[:4000].split(b"\n"), data[4000:]
    at, other = rng.randrange(len(head)), rng.randrange(len(head))
    what = rng.randrange(4)
    if what == 0:
        del head[at]
    elif what == 1:
        head.insert(other, head[at])
    elif what == 2:
        head[at] = head[at].split(b"=")[0] + rng.choice((b"=", b":", b"")) + rng.choice(_WORDS)
    else:
        head[at], head[other] = head[other], head[at]
    return b"\n".join(head) + rest


_BYTE_EDITS: list[Edit] = [
    _flip_bit,
    _flip_bit,
    _set_byte,
    _set_number,
    _cut_end,
    _remove,
    _repeat,
    _insert,
    _move,
    _change_number_text,
    _change_line,
]


# -- JSON ---------------------------------------------------------------------------------------------------


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each (container, key) in ``value``."""
    found: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        one = stack.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            stack.append(one[key])
    return found


def _change_value(value: Any, rng: random.Random) -> Any:
    places = _places(value)
    if not places or rng.random() < 0.01:
        return rng.choice(_ODD)
    container, key = rng.choice(places)
    what = rng.randrange(8)
    if what == 0:
        del container[key]
    elif what == 1 and isinstance(container, dict):
        container[rng.choice(("", "x", "step", "name", "\ud800", "-1", str(key) + "x"))] = container.pop(key)
    elif what == 1:
        container.insert(key, container[key])
    elif what == 2:
        other, name = rng.choice(places)
        if (isinstance(other, dict) and name in other) or (isinstance(other, list) and name < len(other)):
            container[key] = json.loads(json.dumps(other[name]))
    elif what == 3:
        container[key] = rng.choice(([container[key]], {"value": container[key]}, str(container[key])))
    elif what == 4 and isinstance(container[key], (int, float)) and not isinstance(container[key], bool):
        container[key] = rng.choice(_NUMBERS) * rng.choice((1, 1, 0.5, 1e30))
    elif what == 5 and rng.random() < 0.05:
        for _ in range(rng.choice((50, 400))):
            container[key] = [container[key]]
    else:
        container[key] = json.loads(json.dumps(rng.choice(_ODD)))
    return value
