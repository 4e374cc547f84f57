"""The dataset card: complete, the same every time, and nothing in the data becomes markup."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from tests.tiny_shards import FACTS, depth_question, every_kind, sample, write_dataset
from vlm3data.build import BuildConfig, build
from vlm3data.report.card import write_card
from vlm3data.report.target import Target
from vlm3data.shards import ShardTally
from vlm3data.types import UserError


def card_of(url: str) -> str:
    return write_card(Target.open(url), lambda done, total: None)


def test_it_says_what_there_is(tmp_path):
    tally = ShardTally()
    tally.drops["image_missing"] = 3
    text = card_of(write_dataset(tmp_path / "toy", [every_kind()], [tally]))
    assert text.startswith("# toy\n")
    rows = (
        "| samples | 2 |", "| questions | 7 |", "| samples of split `train` | 2 |",
        "| focal length, px | `150.0` |", "| samples dropped | `image_missing` | 3 |", "| Depth of the labels (m) |",
        "**Licence of the source:** CC0",
    )  # fmt: skip
    for row in rows:
        assert row in text
    for task in ("correspondence", "depth", "objects, length", "pose, rotation\\_angle"):
        assert f"**{task}**" in text
    assert "- How deep is it at (500, 500)?<br>2.00 meters" in text
    assert "up is not known" in text
    assert card_of(str(tmp_path / "toy")) == text


def test_it_says_whose_images_the_shards_hold(tmp_path):
    small = {"options": {"width_px": 96, "height_px": 96}, "focal_px": 80.0, "limit": 2, "source": "synthetic"}
    for store, said in (("unified", "unified as below"), ("original", "the source's own; unified whenever they are")):
        build(BuildConfig.check(small | {"store": store}, "test"), str(tmp_path / store), workers=1)
        text = card_of(str(tmp_path / store))
        assert f"| images | {said}" in text
        assert "| focal length, px | `80.0` |" in text


def test_a_source_without_scale_promises_no_metre(tmp_path):
    url = write_dataset(tmp_path / "toy", [every_kind()], facts=FACTS | {"metric": False})
    assert "no answer holds a metre" in card_of(url)
    assert "A depth is good to" not in card_of(url)


def test_licences_of_samples_are_listed(tmp_path):
    samples = [sample(0, [depth_question((1, 1), 2.0)]), sample(1, [depth_question((1, 1), 2.0)], licence="CC BY 4.0")]
    assert "## Licences of samples\n\n- CC BY 4.0" in card_of(write_dataset(tmp_path / "toy", [samples]))


@pytest.mark.parametrize(
    "text",
    [
        "</td><script>alert(1)</script>",
        "a|b\n# c",
        "![x](http://e.example/x.png)",
        "`<b>`|",
        "<img onerror=x>",
        "&lt;b&gt;&copy;",
        "# c",
        "1. x",
        "- x",
        "+ x",
        "~~~ x",
    ],
)
def test_hostile_names_stay_text(tmp_path, text):
    question = depth_question((5, 5), 2.0, question=text, answer=text)
    facts = FACTS | {"licence": text, "pixel_centre": text, "name": text}
    card = card_of(
        write_dataset(tmp_path / "toy", [[sample(0, [question], split=text, licence=text)]], facts=facts, digest=text)
    )
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(card)
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= {
        "h1", "h2", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "br"
    }  # fmt: skip
    assert {row.count("<td>") for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)} <= {0, 2, 3, 6}
    assert html.count("<h1>") == 1
    assert html.count("<li>") == len(re.findall("(?m)^- ", card))
    assert "©" not in html


def test_a_mixture_has_no_card(tmp_path):
    write_dataset(tmp_path / "toy", [every_kind()])
    spec = tmp_path / "mix.yaml"
    spec.write_text(f"datasets:\n  toy: {{shards: {tmp_path}/toy, weight: 1}}\n")
    with pytest.raises(UserError, match="not of a mixture"):
        card_of(str(spec))
