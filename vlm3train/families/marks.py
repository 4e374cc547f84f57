"""Tokens of a filled-in chat template, and which of them are answers.

A tokenizer cuts at special tokens before anything else. So the answers lie between special tokens that are known from
the template's constants, provided that the texts hold none themselves, which is looked at in every sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.types import UserError
from vlm3train.families.chat import Filled, Shape
from vlm3train.families.contract import IGNORED
from vlm3train.families.rows import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class _Known(NamedTuple):
    """What is known of the tokens of a shape before its texts are."""

    specials: Tokens
    """All special tokens, in order."""
    answers: list[tuple[int, Tokens]]
    """For each answer: which special token comes before it, and the tokens in between (`assistant` and a new line)."""


class Marks:
    """The special tokens of a tokenizer, and answers by their places among them; `end` follows every answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end: int) -> None:
        self._tokenizer, self._end = tokenizer, end
        backend: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        self._is_special: npt.NDArray[np.bool_] = np.zeros(max([len(tokenizer) - 1, *added]) + 1, bool)
        self._is_special[[number for number, token in added.items() if token.special]] = True
        self._known: dict[Shape, tuple[list[str], _Known]] = {}

    def encoded(self, filled: Sequence[Filled]) -> list[Tokens]:
        """Return the tokens of each text."""
        # What the tokenizer's own call does, without the offsets and masks that it makes on the way.
        encodings = self._backend.encode_batch_fast([chat.text for chat in filled], add_special_tokens=False)
        return [np.array(encoding.ids) for encoding in encodings]

    def labels(self, ids: Tokens, chat: Filled, sample: str) -> Tokens:
        """Return `ids` with everything but the answers and the end after each replaced by -100."""
        known = self._of(chat)
        places = self.checked(ids, chat, sample)
        labels = np.full_like(ids, IGNORED)
        for before, lead in known.answers:
            start, end = int(places[before]) + 1 + len(lead), int(places[before + 1]) + 1
            if not np.array_equal(ids[start - len(lead) : start], lead):
                raise UserError(
                    f"sample {sample}: the tokenizer joins the start of an answer with what the chat template writes "
                    "before it; an answer must not begin with white space"
                )
            labels[start:end] = ids[start:end]
        return labels

    def checked(self, ids: Tokens, chat: Filled, sample: str) -> Tokens:
        """Return the places of the special tokens in `ids`; any that the template did not write is refused."""
        places = np.flatnonzero(self._is_special[ids])
        if not np.array_equal(ids[places], self._of(chat).specials):
            raise UserError(
                f"sample {sample}: a question or an answer holds one of the tokenizer's special tokens, so the "
                "conversation would end there; answer with another wording"
            )
        return places

    def _of(self, chat: Filled) -> _Known:
        constants, known = self._known.get(chat.shape, (None, None))
        if known is None or constants is not chat.constants:
            known = self._found(chat)
            self._known[chat.shape] = chat.constants, known
        return known

    def _found(self, chat: Filled) -> _Known:
        specials: list[int] = []
        answers = []
        wants_end = False
        for role, constant in zip((*chat.shape.roles, ""), chat.constants, strict=True):
            ids = np.array(self._tokenizer(constant, add_special_tokens=False).input_ids, np.int64)
            if wants_end and (not len(ids) or ids[0] != self._end):
                raise UserError(
                    f"{self._tokenizer.name_or_path}: its chat template does not write "
                    f"{self._tokenizer.convert_ids_to_tokens(self._end)} right after an answer, so a model would not "
                    "learn to stop there"
                )
            places = np.flatnonzero(self._is_special[ids])
            specials += ids[places].tolist()
            wants_end = role == "assistant"
            if wants_end:
                answers.append((len(specials) - 1, ids[places[-1] + 1 :]))
        return _Known(np.array(specials, np.int64), answers)
