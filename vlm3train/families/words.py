"""Tokens of plain text from the tokens of its words, which come again and again: ten times faster.

Only for the pre-tokenizer of Qwen2 and its successors, whose rule is known: it cuts before every single space between
two other characters, and what it makes of one side does not depend on the other. So the tokens of a text are those of
its first word and of every later one with the space before it.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

RULE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen's tokenizers cut text (tokenizer.json of Qwen2, Qwen2.5 and Qwen3, and their -VL models)."""
KEPT = 1 << 16


class Words:
    """The tokens of texts of ASCII words with single spaces between."""

    def __init__(self, backend: Any) -> None:
        self._first, self._later = _Kept(backend, ""), _Kept(backend, " ")

    @classmethod
    def of(cls, backend: Any) -> Words | None:
        """Return the words of a `tokenizers.Tokenizer`, None where it does not cut as described."""
        state = json.loads(backend.to_str())
        cut, *then = (state["pre_tokenizer"] or {}).get("pretokenizers", [None])
        known = (
            cut == {"type": "Split", "pattern": {"Regex": RULE}, "behavior": "Isolated", "invert": False}
            and [step["type"] for step in then] == ["ByteLevel"]
            and not (then[0]["use_regex"] or then[0]["add_prefix_space"])
            and state["normalizer"] in (None, {"type": "NFC"})
            and state["model"]["type"] == "BPE"
            and not state["model"]["dropout"]
        )
        return cls(backend) if known and _stand_apart(state["added_tokens"]) else None

    def __call__(self, text: str) -> list[int] | None:
        """Return the tokens of `text` as if it stood by itself; None where it is empty or not plain."""
        words = text.split()
        if not words or not text.isascii() or " ".join(words) != text:
            return None
        return [*self._first[words[0]], *chain.from_iterable(map(self._later.__getitem__, words[1:]))]


def _stand_apart(added: list[dict[str, Any]]) -> bool:
    """Tell whether added tokens take nothing from the text around them, nor can lie across the start of another."""
    contents = [token["content"] for token in added]
    return (
        not any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added)
        and all(content.split() == [content] for content in contents)
        and not any(
            other.endswith(content[:length]) or (content in other and content != other)
            for content in contents
            for other in contents
            for length in range(1, len(content))
        )
    )


class _Kept(dict[str, list[int]]):
    """Tokens by word, made when first asked for; forgotten all at once when there are too many."""

    def __init__(self, backend: Any, before: str) -> None:
        super().__init__()
        self._backend, self._before = backend, before

    def __missing__(self, word: str) -> list[int]:
        if len(self) >= KEPT:
            self.clear()
        ids = self[word] = self._backend.encode(self._before + word, add_special_tokens=False).ids
        return ids
