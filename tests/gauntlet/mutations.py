"""Seeded damage to bytes: what disks, networks and attackers do to a file."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

WORDS = (
    b"\xff" * 8, b"\0" * 8, b"-1", b"0", b"9" * 18, b"9" * 400, b"1e308", b"-1e308", b"1e999", b"nan", b"inf", b"-inf",
    b"null", b"true", b'"', b"'", b"[", b"]", b"{", b"}", b"[" * 200, b'{"a":' * 120, b",", b":", b"\n", b"\r\n", b"\\",
    b"\\u0000", b"\\ud800", b"\xc3\x28", b"\xef\xbb\xbf", b"../../outside", b"/etc/passwd", b"\x1b[2J\x1b]0;x\x07",
    b"%s%n", b"<script>alert(1)</script>", b"${jndi}", b"{{7*7}}", b"=1+1", b"&a", b"*a", b"!!python/object:os.system",
)  # fmt: skip
EXTREMES = (0, 1, -1, 2, 127, 128, 255, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
FLOATS = (0.0, -0.0, 1e-300, 1e308, -1e308, 1e-45, 3.4e38, float("nan"), float("inf"), -float("inf"))


def mutated(rng: np.random.Generator, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return `data` damaged once to three times; `others` are files that pieces may come from."""
    for _ in range(int(rng.integers(1, 4))):
        data = _once(rng, data, others)
    return data


def _once(rng: np.random.Generator, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return WORDS[rng.integers(len(WORDS))]
    at = _place(rng, data)
    match int(rng.integers(10)):
        case 0:
            return data[:at]
        case 1 | 2:
            return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        case 3:
            word = WORDS[rng.integers(len(WORDS))]
            return data[:at] + word + data[at + (len(word) if rng.random() < 0.5 else 0) :]
        case 4:  # a length, count or offset
            size = int(rng.choice([1, 2, 4, 8]))
            value = int(EXTREMES[rng.integers(len(EXTREMES))]) & (2 ** (8 * size) - 1)
            return data[:at] + value.to_bytes(size, "little" if rng.random() < 0.6 else "big") + data[at + size :]
        case 5:
            form = "<d" if rng.random() < 0.5 else "<f"
            value = float(FLOATS[rng.integers(len(FLOATS))])
            packed = struct.pack(form, max(-3e38, min(3e38, value)) if form == "<f" and value == value else value)
            return data[:at] + packed + data[at + len(packed) :]
        case 6:
            return data[:at] + data[at + int(rng.integers(1, 64)) :]
        case 7:  # a piece again, elsewhere
            start = _place(rng, data)
            return data[:at] + data[start : start + int(rng.integers(1, 64))] + data[at:]
        case 8 if others:
            other = others[rng.integers(len(others))]
            return data[:at] + other[_place(rng, other) :] if other else data
        case 9:
            return _number_changed(rng, data)
        case _:
            return data[:at] + rng.bytes(int(rng.integers(1, 17))) + data[at:]


def _place(rng: np.random.Generator, data: bytes) -> int:
    """Return where to strike: headers and endings, where formats keep their lengths, more often than their share."""
    if not data:
        return 0
    where = rng.random()
    if where < 0.35:
        return int(rng.integers(min(len(data), 300)))
    if where < 0.5:
        return len(data) - 1 - int(rng.integers(min(len(data), 300)))
    return int(rng.integers(len(data)))


def _number_changed(rng: np.random.Generator, data: bytes) -> bytes:
    """Return text with one of its numbers replaced by an extreme one."""
    window = data[: 1 << 16]
    digits = [at for at in range(len(window)) if window[at] in b"0123456789" and (not at or window[at - 1] in b" ,:[-")]
    if not digits:
        return data[::-1] if rng.random() < 0.1 else data + data[:16]
    start = digits[rng.integers(len(digits))]
    end = start
    while end < len(data) and data[end] in b"0123456789.eE+-":
        end += 1
    values = (*map(str, EXTREMES), *map(repr, FLOATS), "1e400", "0.5", "-5", "1" + "0" * 30, "01", "0x10")
    return data[:start] + values[rng.integers(len(values))].encode() + data[end:]
