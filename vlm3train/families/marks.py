"""Tokens of a filled-in chat template, and which of them are answers.

A tokenizer cuts at special tokens before anything else. So the answers lie between special tokens that are known from
the template's constants, provided that the texts hold none themselves, which is looked at in every sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.types import UserError
from vlm3train.families.chat import CHECKED_EVERY, Filled, Shape
from vlm3train.families.contract import IGNORED
from vlm3train.families.rows import Tokens
from vlm3train.families.words import Words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class _Known(NamedTuple):
    """What is known of the tokens of a shape before its texts are."""

    constants: list[str]
    ids: list[list[int]]
    """The tokens of each constant by itself."""
    specials: Tokens
    """All special tokens, in order."""
    answers: list[tuple[int, list[int]]]
    """For each answer: which special token comes before it, and the tokens in between (`assistant` and a new line)."""
    plain: bool
    """Whether a text's tokens are the same here as by itself."""


class Marks:
    """The special tokens of a tokenizer, and answers by their places among them; `end` follows every answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end: int) -> None:
        self._tokenizer, self._end = tokenizer, end
        self._backend: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
        self._backend.no_padding()
        self._backend.no_truncation()
        self._words = Words.of(self._backend)
        self._count = 0
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        self._is_special: npt.NDArray[np.bool_] = np.zeros(max([len(tokenizer) - 1, *added]) + 1, bool)
        self._is_special[[number for number, token in added.items() if token.special]] = True
        self._known: dict[Shape, _Known] = {}

    def encoded(self, chat: Filled) -> Tokens:
        """Return the tokens of a conversation, one for each image."""
        ids = self._by_words(chat, self._words) if self._words else None
        if ids is None:
            return np.array(self._whole(chat.text))
        self._count += 1
        if self._count % CHECKED_EVERY == 1 and ids != self._whole(chat.text):
            raise AssertionError(
                f"token by token, {chat.text!r} becomes other tokens than as a whole; please report it"
            )
        return np.array(ids)

    def labels(self, ids: Tokens, chat: Filled, sample: str) -> Tokens:
        """Return `ids` with everything but the answers and the end after each replaced by -100."""
        known = self._of(chat)
        places = self.checked(ids, chat, sample)
        labels = np.full_like(ids, IGNORED)
        for before, lead in known.answers:
            start, end = int(places[before]) + 1 + len(lead), int(places[before + 1]) + 1
            if ids[start - len(lead) : start].tolist() != lead:
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

    def _whole(self, text: str) -> list[int]:
        # What the tokenizer's own call does, without the offsets and masks that it makes on the way.
        return self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def _by_words(self, chat: Filled, words: Words) -> list[int] | None:
        """Return the tokens of a conversation of plain texts; None where they are not, or the template is not."""
        known = self._of(chat)
        if not known.plain:
            return None
        ids = known.ids[0].copy()
        for text, after in zip(chat.texts, known.ids[1:], strict=True):
            tokens = words(text)
            if tokens is None:
                return None
            ids += tokens
            ids += after
        return ids

    def _of(self, chat: Filled) -> _Known:
        known = self._known.get(chat.shape)
        if known is None or known.constants is not chat.constants:
            known = self._known[chat.shape] = self._found(chat)
        return known

    def _found(self, chat: Filled) -> _Known:
        each = [self._whole(constant) for constant in chat.constants]
        specials: list[int] = []
        answers = []
        for role, ids in zip((*chat.shape.roles, ""), each, strict=True):
            places = np.flatnonzero(self._is_special[ids])
            specials += np.array(ids, np.int64)[places].tolist()
            if role == "assistant":
                answers.append((len(specials) - 1, ids[int(places[-1]) + 1 :]))
        for role, after in zip(chat.shape.roles, each[1:], strict=True):
            if role == "assistant" and after[:1] != [self._end]:
                raise UserError(
                    f"{self._tokenizer.name_or_path}: its chat template does not write "
                    f"{self._tokenizer.convert_ids_to_tokens(self._end)} right after an answer, so a model would not "
                    "learn to stop there"
                )
        return _Known(chat.constants, each, np.array(specials, np.int64), answers, self._cuts(chat, each))

    def _cuts(self, chat: Filled, each: list[list[int]]) -> bool:
        """Tell whether no text can be joined with the constants around it: a special token or a new line is between."""
        begins = all(self._is_special[ids[0]] for ids in each[1:] if ids)
        return begins and all(
            ids and (self._is_special[ids[-1]] or constant.endswith("\n"))
            for constant, ids in zip(chat.constants[:-1], each[:-1], strict=True)
        )
