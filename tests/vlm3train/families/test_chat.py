"""Filling in a template's constants is rendering it; tokens and labels are those of the whole text."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from trl.chat_template_utils import qwen3_vl_chat_template

from vlm3data.types import Sample, UserError
from vlm3train.collate import IGNORED, AskCollator, TrainCollator
from vlm3train.conversation import training_messages
from vlm3train.families.chat import CHECKED_EVERY
from vlm3train.families.qwen_vl import QwenVL
from vlm3train.families.words import RULE, Words

# fmt: off
ODD_TEXTS = [
    "", " ", "\n", "\r\n", "x\n", "\nx", " 1 ", "1  2", "\t1", "é́", "2.50 meters", "'S it's", "İx",
    "\u3000y", "\x1c z", "<think> a </think>\n\nb", "<think>", "<|im_en", "<|im_", "|>", "<", "im_end|>",
    "a<|im_start|", "\u00a05", "½ ² ٣", "(12, 34)?", "x=1,y=2.", "don't 5'11\"", "a_b--c!!!\n", "{{ x }}",
    "\ue0000\ue001",
]
# fmt: on
ODD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(ODD_TEXTS),
    st.lists(st.sampled_from(["at", "(12,", "7", "it's", "é", "", "\n", "<think>", "--", "2.5"]), max_size=6).map(
        " ".join
    ),
)
TURNS = st.lists(st.tuples(ODD, ODD), min_size=1, max_size=4)
SPECIAL = st.sampled_from(["<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|endoftext|>", "<|vision_start|>"])


def _sample(make_sample, turns, num_images: int = 1) -> Sample:
    sample = make_sample("odd", [answer for _, answer in turns], num_images=num_images)
    record = copy.deepcopy(sample.record)
    for question, (asked, _) in zip(record["questions"], turns, strict=True):
        question["question"] = asked
    return Sample.of(record, sample.images)


def _slow(processor: QwenVL, sample: Sample) -> tuple[list[int], list[int]] | None:
    """Return tokens and labels by rendering everything and looking for the answers; None where they cannot be told."""
    tokenizer = processor.tokenizer
    text = str(tokenizer.apply_chat_template(training_messages(sample), tokenize=False))
    if text.count("<|image_pad|>") != len(sample.images):
        return None
    row = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * 4), add_special_tokens=False).input_ids
    lead = tokenizer("<|im_start|>assistant\n", add_special_tokens=False).input_ids
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    labels, place, answers = [IGNORED] * len(row), 0, 0
    while place < len(row):
        if row[place : place + len(lead)] != lead:
            place += 1
            continue
        start = place + len(lead)
        place = row.index(end, start) + 1
        labels[start:place] = row[start:place]
        answers += 1
    return (row, labels) if answers == len(sample.questions) else None


def _refused(processor: QwenVL, sample: Sample) -> bool:
    try:
        TrainCollator(processor)([sample])
    except UserError as error:
        return f"sample {sample.key}" in str(error)
    return False


@settings(max_examples=300, deadline=None)
@given(turns=TURNS, num_images=st.integers(1, 2))
def test_tokens_and_labels_are_those_of_the_rendered_text(processor, make_sample, turns, num_images):
    sample = _sample(make_sample, turns, num_images)
    expected = _slow(processor, sample)
    if expected is None:
        assert _refused(processor, sample)
        return
    batch = TrainCollator(processor)([sample])
    assert batch["input_ids"][0].tolist() == expected[0]
    assert batch["labels"][0].tolist() == expected[1]
    learnt = processor.tokenizer.decode(batch["labels"][0][batch["labels"][0] != IGNORED])
    normal = processor.tokenizer.backend_tokenizer.normalizer.normalize_str
    assert learnt == "".join(f"{normal(answer)}<|im_end|>" for _, answer in turns)


@settings(max_examples=60, deadline=None)
@given(turns=TURNS, special=SPECIAL, where=st.integers(0, 1), at=st.integers(0, 20))
def test_a_text_with_special_tokens_is_always_refused(processor, make_sample, turns, special, where, at):
    text = turns[0][where]
    changed = list(turns[0])
    changed[where] = text[:at] + special + text[at:]
    with pytest.raises(UserError, match="sample odd"):
        TrainCollator(processor)([_sample(make_sample, [tuple(changed), *turns[1:]])])


def test_words_give_the_tokens_of_the_whole_and_are_used(processor):
    words = Words.of(processor.tokenizer.backend_tokenizer)
    assert words is not None
    for text in ("Depth at (1999, 7)?", "x=1,y=2. it's 5'11 --- 2 m", "1 2 3", "'s 's !a b_c <think> d</think>"):
        assert words(text) == processor.tokenizer(text).input_ids
    for text in ("", " x", "x ", "a  b", "a\nb", "é b", "a\x1cb"):
        assert words(text) is None


def test_more_words_than_are_kept_are_told_all_the_same(processor, monkeypatch):
    monkeypatch.setattr("vlm3train.families.words.KEPT", 3)
    words = Words.of(processor.tokenizer.backend_tokenizer)
    for _ in range(2):
        text = "one after another, each a word of its own"
        assert words(text) == processor.tokenizer(text).input_ids


ADDED = {
    "with a space": AddedToken("at (", normalized=False),
    "eats the space before": AddedToken("<z>", lstrip=True, normalized=False),
    "eats the space behind": AddedToken("<z>", rstrip=True, normalized=False),
    "only as a word": AddedToken("<z>", single_word=True, normalized=False),
    "inside another": AddedToken("im_end", normalized=False),
    "ends as another begins": AddedToken("z<", normalized=False),
    "ends as it begins": AddedToken("~z~", normalized=False),
}


def test_an_added_token_that_stands_apart_changes_no_words(processor):
    backend = copy.deepcopy(processor.tokenizer.backend_tokenizer)
    backend.add_tokens([AddedToken("<z>", normalized=False)])
    words = Words.of(backend)
    assert words is not None
    for text in ("a<z>b <z> c", "<z>", "<z z<z> <"):
        assert words(text) == backend.encode(text, add_special_tokens=False).ids


def pre_tokenizer(rule: str = RULE, *, use_regex: bool = False, add_prefix_space: bool = False):
    split = pre_tokenizers.Split(Regex(rule), "isolated")
    whole = pre_tokenizers.ByteLevel(use_regex=use_regex, add_prefix_space=add_prefix_space)
    return pre_tokenizers.Sequence([split, whole])


PRE_TOKENIZERS = {
    "other rule": pre_tokenizer(RULE.replace(r"\p{N}|", r"\p{N}+|")),
    "cuts once more": pre_tokenizer(use_regex=True),
    "puts a space before": pre_tokenizer(add_prefix_space=True),
    "no rule": pre_tokenizers.ByteLevel(add_prefix_space=False),
}


def test_words_are_used_where_the_tokenizer_cuts_as_known(processor):
    backend = copy.deepcopy(processor.tokenizer.backend_tokenizer)
    backend.pre_tokenizer = pre_tokenizer()
    assert Words.of(backend) is not None


@pytest.mark.parametrize("change", ["normalizer", *PRE_TOKENIZERS, *ADDED])
def test_words_are_not_used_where_the_tokenizer_cuts_otherwise(processor, change):
    backend = copy.deepcopy(processor.tokenizer.backend_tokenizer)
    if change in PRE_TOKENIZERS:
        backend.pre_tokenizer = PRE_TOKENIZERS[change]
    elif change == "normalizer":
        backend.normalizer = normalizers.Lowercase()
    else:
        backend.add_tokens([ADDED[change]])
    assert Words.of(backend) is None


def _with_template(processor: QwenVL, template: str) -> QwenVL:
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.chat_template = template
    return QwenVL(tokenizer, processor.image_processor)


def test_qwens_own_template_gives_the_same_batch(processor, make_sample, caplog):
    sample = _sample(make_sample, [("Depth at (1, 2)?", "2 m"), ("é?", "<think> x </think>\n\n3")], 2)
    with caplog.at_level(logging.WARNING):
        theirs = TrainCollator(_with_template(processor, qwen3_vl_chat_template))([sample])
    assert not caplog.records
    for name, value in TrainCollator(processor)([sample]).items():
        assert name == "meta" or torch.equal(theirs[name], value)


STRIPS = """{%- for m in messages -%}<|im_start|>{{ m.role }}
{% for part in m.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else -%}
{{ part.text | trim }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.mark.parametrize(("before", "after"), [("Q: ", ""), ("un", ""), ("", "?"), ("", " er"), ("", "ers")])
def test_a_template_with_words_of_its_own_beside_a_text_gives_the_tokens_of_the_whole(
    processor, make_sample, before, after
):
    own = "{{{{ '{}' if m.role == 'user' else '' }}}}"
    template = STRIPS.replace("{{ part.text | trim }}", own.format(before) + "{{ part.text }}" + own.format(after))
    odd = _with_template(processor, template)
    for turns in ([("Depth?", "2 m")], [("Depth?", "2 m"), ("And 2", "3 m")], [("the met", "2 m")]):
        chat = odd.chat(training_messages(_sample(make_sample, turns)), False, "odd")
        assert f">{before}{turns[0][0]}{after}<" in chat.text.replace("\n", "").replace("user", ">")
        assert odd._marks.encoded(chat).tolist() == processor.tokenizer(chat.text).input_ids


def test_a_template_that_strips_is_said_once_and_refuses_only_what_it_changes(processor, make_sample, caplog):
    with caplog.at_level(logging.WARNING):
        stripping = _with_template(processor, STRIPS)
        fine = _sample(make_sample, [("Depth?", "2 m"), ("And here?", "3 m")])
        batch = TrainCollator(stripping)([fine, fine])
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "its chat template depends on the texts or the date, so it is rendered for every sample"
    ]
    expected = TrainCollator(processor)([fine, fine])
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["labels"], expected["labels"])
    for turns in ([("Depth? ", "2 m")], [("Depth?", "2 m\n")]):
        with pytest.raises(UserError, match=r"sample odd: the chat template .* changes"):
            TrainCollator(stripping)([_sample(make_sample, turns)])


def test_a_template_that_takes_thinking_out_learns_no_other_text(processor, make_sample):
    thinking = STRIPS.replace("part.text | trim", "part.text.split('</think>')[-1]")
    sample = _sample(make_sample, [("Depth?", "<think> far </think> 2 m")])
    with pytest.raises(UserError, match="changes a question or an answer"):
        TrainCollator(_with_template(processor, thinking))([sample])


def test_a_template_with_the_date_is_rendered_each_time(processor, make_sample, monkeypatch):
    dated = _with_template(
        processor, "<|im_start|>system\n{{ strftime_now('%S%f') }}<|im_end|>\n" + STRIPS.replace(" | trim", "")
    )
    sample = _sample(make_sample, [("Depth?", "2 m")])
    days = iter("abcdef")
    render = dated.chat._render
    day = [next(days)]
    monkeypatch.setattr(
        dated.chat,
        "_render",
        lambda m, g: render(m, g)[:20] + day[0] + "<|im_end|>" + render(m, g).split("<|im_end|>", 1)[1],
    )
    texts = []
    for _ in range(2):
        batch = TrainCollator(dated)([sample])
        texts.append(processor.tokenizer.decode(batch["input_ids"][0]))
        day[0] = next(days)
    assert texts[0] != texts[1]


def test_a_template_that_strips_in_conversations_of_one_shape_only_is_looked_at_there(processor, make_sample):
    single = STRIPS.replace("part.text | trim", "part.text | trim if messages | length == 2 else part.text")
    collate = TrainCollator(_with_template(processor, single))
    collate([_sample(make_sample, [("Depth?", "2 m")])])
    collate([_sample(make_sample, [("Depth? ", "2 m")] * 2)])
    with pytest.raises(UserError, match="changes"):
        collate([_sample(make_sample, [("Depth? ", "2 m")])])


def test_an_answer_whose_start_the_tokenizer_joins_with_the_template_is_refused(processor, make_sample):
    tokenizer = copy.deepcopy(processor.tokenizer)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"]["ĊĊ"] = len(tokenizer)
    state["model"]["merges"].append(["Ċ", "Ċ"])
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    joining = QwenVL(tokenizer, processor.image_processor)
    with pytest.raises(UserError, match="sample odd: the tokenizer joins"):
        TrainCollator(joining)([_sample(make_sample, [("Depth?", "\n2 m")])])


def test_what_a_template_hides_until_later_is_found_by_looking_again(processor, make_sample):
    late = STRIPS.replace("part.text | trim", "'MAP' if part.text == 'map' else part.text")
    collate = TrainCollator(_with_template(processor, late))
    plain, hidden = (_sample(make_sample, [(text, "2 m")]) for text in ("x", "map"))
    before = collate.processor.chat._count
    for _ in range(CHECKED_EVERY - before - 1):
        collate.processor.chat(training_messages(plain), False, "odd")
    with pytest.raises(UserError, match="changes"):
        collate([hidden])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (STRIPS.replace("<|im_end|>\n", "\n"), "does not write <|im_end|> right after an answer"),
        (STRIPS.replace("part.text | trim", "'x'"), "does not show every text"),
        (STRIPS.replace("part.text | trim", "part.text + 1"), "does not take images and text"),
    ],
)
def test_a_template_that_cannot_be_used_is_a_mistake(processor, make_sample, template, said):
    with pytest.raises(UserError) as caught:
        TrainCollator(_with_template(processor, template))([_sample(make_sample, [("a", "b")])])
    assert said in str(caught.value)


def test_questions_asked_are_rendered_with_the_prompt_for_an_answer(processor, make_sample):
    sample = make_sample("a", ["1 m"])
    batch = AskCollator(processor)([(sample, sample.questions[0])])
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert text.endswith(f"{sample.questions[0].question}<|im_end|>\n<|im_start|>assistant\n")


def test_a_processor_and_a_batch_travel_between_processes(processor, make_sample):
    collate = pickle.loads(pickle.dumps(TrainCollator(processor)))  # noqa: S301
    batch = collate([make_sample("a", ["1 m", "12 m"])])
    again = pickle.loads(pickle.dumps(batch))  # noqa: S301
    assert again["meta"] == batch["meta"]
    assert again["meta"].longest() == f"a of its dataset with {batch['input_ids'].shape[1]} tokens"
    assert batch["meta"].loss_tokens == [int((batch["labels"] != IGNORED).sum())]
    assert all(value.is_contiguous() for value in batch.values() if torch.is_tensor(value))
    np.testing.assert_array_equal(again["pixel_patches"], batch["pixel_patches"])
