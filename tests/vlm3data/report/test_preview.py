"""The preview page as bytes: what it holds, and that nothing in it can become markup."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

import orjson
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_shards import depth_question, every_kind, sample, write_dataset
from vlm3data.report.preview import SCRIPTS, STYLES, json_block, write_preview
from vlm3data.report.target import Target
from vlm3data.shards import ShardTally

HOSTILE = (
    "</script><img src=x onerror=alert(1)>", "<!-- <script>", "]]>", "${alert(1)}", "$script", "{{7*7}}",
    "\u2028\u2029", "\"'><svg/onload=alert(1)>", "\u202egnp.exe", "&lt;b&gt;", "a\x00b\x1b[31m", "مرحبا", "\\u003cb",
)  # fmt: skip


def page_of(url: str, out: Path, limit: int = 100, image_px: int = 640) -> str:
    write_preview(Target.open(url), str(out), limit, image_px, lambda done, total: None)
    return out.read_text("utf-8")


def block(page: str, name: str) -> str:
    (found,) = re.findall(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', page, re.DOTALL)
    return found


@given(st.text() | st.sampled_from(HOSTILE))
def test_json_in_the_page_is_the_same_json_without_markup(text):
    written = json_block({text: [text]})
    assert orjson.loads(written) == {text: [text]}
    assert not re.search(rb"[<>&]|\xe2\x80[\xa8\xa9]", written)


def test_the_page_holds_the_samples_as_they_are(tmp_path):
    url = write_dataset(tmp_path / "toy", [every_kind()])
    page, target = page_of(url, tmp_path / "page.html"), Target.open(url)
    for number, seen in enumerate(target.seen(None)):
        held = orjson.loads(block(page, f"sample-{number}"))
        assert held["questions"] == seen.sample.record["questions"]
        for view, image in enumerate(seen.sample.images):
            assert base64.b64decode(block(page, f"image-{number}-{view}")) == image  # small enough: as stored
    about = orjson.loads(block(page, "about"))
    assert [row["key"] for row in about["samples"]] == ["sample-0000", "sample-0001"]
    assert about["samples"][0]["tasks"] == {"depth": 2, "objects": 1}
    assert about["bytes"] == pytest.approx(len(page.encode()), rel=0.02)


def test_images_are_made_smaller_and_keep_their_shape(tmp_path):
    page = page_of(write_dataset(tmp_path / "toy", [every_kind()]), tmp_path / "page.html", image_px=64)
    height, width, *_ = simplejpeg.decode_jpeg_header(base64.b64decode(block(page, "image-0-0")))
    assert (width, height) == (64, 48)


def test_the_same_shards_give_the_same_page(tmp_path):
    url = write_dataset(tmp_path / "toy", [every_kind()])
    assert page_of(url, tmp_path / "a.html") == page_of(url, tmp_path / "b.html")


def test_reasons_come_from_the_manifests_of_the_shards_that_are_shown(tmp_path):
    tallies = [ShardTally(), ShardTally()]
    tallies[1].drops["image_missing"] = 4
    shards = [[sample(0, [depth_question((1, 1), 2.0)])], [sample(1, [depth_question((1, 1), 2.0)])]]
    url = write_dataset(tmp_path / "toy", shards, tallies)
    about = orjson.loads(block(page_of(url, tmp_path / "page.html"), "about"))
    (shown,) = about["shards"]
    assert {shard: held["left_out"]["samples dropped"] for shard, held in shown.items()} == {
        "0": {},
        "1": {"image_missing": 4},
    }
    assert about["statistics"]["datasets"][0]["left_out"]["samples dropped"] == {"image_missing": 4}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_add_no_markup(tmp_path, text):
    question = depth_question((5, 5), 2.0, question=f"At (62, 83)? {text}", answer=text, task=text)
    hostile = sample(0, [question], scene=text, split=text, licence=text, key=text)
    plain = page_of(
        write_dataset(tmp_path / "plain", [[sample(0, [depth_question((5, 5), 2.0)])]]), tmp_path / "p.html"
    )
    page = page_of(write_dataset(tmp_path / "toy", [[hostile]], digest=text), tmp_path / "h.html")
    assert orjson.loads(block(page, "sample-0"))["scene"] == text
    for sign in "<>&":
        assert page.count(sign) == plain.count(sign)


def test_the_policy_allows_this_script_and_style_and_no_network(tmp_path):
    page = page_of(write_dataset(tmp_path / "toy", [every_kind()]), tmp_path / "page.html")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert set(rules) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page)


def test_no_file_of_the_page_makes_markup_from_strings():
    folder = files("vlm3data.report") / "page"
    names = {path.name for path in folder.iterdir()}
    assert names >= {*SCRIPTS, *STYLES, "page.html"}
    sinks = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\(['\"`]|\.on[a-z]+ ="
    )
    for name in names:
        text = (folder / name).read_text("utf-8")
        assert not re.search(sinks, text), name
        if not name.endswith(".html"):
            assert "</" not in text, name
