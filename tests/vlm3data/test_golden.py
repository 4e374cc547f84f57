"""Golden: the record of one sample, number by number. A change here changes what every dataset says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import jsonl_line, write_jsonl
from vlm3data.build import BuildConfig, samples

GOLDEN = Path(__file__).parents[1] / "golden" / "depth_record.json"


def record_of_now(tmp_path: Path) -> dict:
    root = write_jsonl(tmp_path / "toy", [jsonl_line(0, intrinsics=[123.4, 122.1, 81.3, 59.8, 160, 120])])
    config = BuildConfig(source="jsonl", root=str(root), focal_px=200.0, seed=11, tasks={"depth": {"pixels": 6}})
    (sample,) = samples(config)
    return json.loads(sample.record_json)


def test_the_record_is_what_it_was(tmp_path):
    expected = json.loads(GOLDEN.read_text())
    now = record_of_now(tmp_path)
    assert now["questions"] == expected["questions"]
    for view, expected_view in zip(now["views"], expected["views"], strict=True):
        assert view["camera"].pop("distortion") is expected_view["camera"].pop("distortion") is None
        assert view["camera"] == pytest.approx(expected_view["camera"], rel=1e-12)
        assert view["scale"] == pytest.approx(expected_view["scale"], rel=1e-12)
        assert view["crop_xy_px"] == expected_view["crop_xy_px"]
    assert {k: v for k, v in now.items() if k not in ("questions", "views", "config")} == {
        k: v for k, v in expected.items() if k not in ("questions", "views", "config")
    }
