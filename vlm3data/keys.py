"""Sample keys that every tar reader understands."""

from __future__ import annotations

import re

import xxhash

MAX_CHARS = 80
"""ustar holds 100 bytes of name; the suffix of a member needs a few."""


def key_for_frame(*parts: str) -> str:
    """Return a key for a sample named by `parts`, unique where they are.

    WebDataset cuts names at the first dot, and directories in a tar only confuse: other characters than
    letters, digits, `_` and `-` are replaced. Where that or the length loses something, a hash of the
    original makes up for it.
    """
    name = "--".join(parts)
    clean = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    if name and clean == name and len(name) <= MAX_CHARS:
        return name
    return f"{clean[: MAX_CHARS - 17]}-{xxhash.xxh3_64_hexdigest(name.encode())}"
