"""A pixel that is marked in the image: the same pixel and depth as by text, and nothing else of the image changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm3data.randomness import rng_for
from vlm3data.tasks._marker import COLOUR, marked
from vlm3data.tasks.depth import DepthTask
from vlm3data.types import Camera, DepthPoints, Question, SourceFacts, UserError, View

FACTS = SourceFacts(
    name="s", licence="x", metric=True, depth_kind="z", depth_range_m=(0, 200), pixel_centre="", splits=()
)


def view(seed: int, width_px: int = 64, height_px: int = 32) -> View:
    rng = np.random.default_rng(seed)
    flat = rng.permutation(width_px * height_px)[:20]
    camera = Camera(50.0, 50.0, 32.0, 16.0, width_px, height_px)
    image = rng.integers(0, 200, (height_px, width_px, 3), np.uint8)
    points = DepthPoints(np.stack([flat % width_px, flat // width_px], 1), rng.uniform(1, 9, 20))
    return View(
        frame="f",
        image=image,
        camera=camera,
        source_camera=camera,
        scale=(1.0, 1.0),
        crop_xy_px=(0, 0),
        points=points,
    )


def task(reference: str) -> DepthTask:
    return DepthTask(DepthTask.Options.model_validate({"pixels": 1, "reference": reference}))


@pytest.mark.parametrize("seed", range(5))
def test_marker_and_text_mean_the_same_pixel(seed: int) -> None:
    shown, by_mark, by_text = view(seed), task("marker"), task("text")
    (asked,) = by_mark.ask([shown], FACTS, "z", rng_for(seed, "t"))
    (named,) = by_text.ask([shown], FACTS, "z", rng_for(seed, "t"))
    assert asked.truth == named.truth | {"reference": "marker"}
    assert not any(character.isdigit() for character in asked.question)
    size = {"width_px": 64, "height_px": 32}
    assert DepthTask.problem_with(asked, {"views": [{"camera": size}], "metric": True}) is None
    (drawn,) = by_mark.drawn([shown], [asked])
    np.testing.assert_array_equal(drawn.image, marked(shown.image, tuple(asked.truth["pixel_px"])))
    assert by_text.drawn([shown], [named])[0] is shown


@given(st.integers(0, 63), st.integers(0, 31))
def test_the_strokes_lie_on_the_pixels_axes_and_stay_clear_of_it(u: int, v: int) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    out = marked(image, (u, v))
    assert not image.any()
    rows, columns = np.nonzero((out == COLOUR).all(-1))
    assert len(rows) == (out.any(-1)).sum()
    away = np.abs(rows - v) + np.abs(columns - u)
    assert ((rows == v) | (columns == u)).all()
    assert away.min() == 2
    assert away.max() == 7
    assert (rows == v).any()
    assert (columns == u).any()
    if 7 <= u < 57 and 7 <= v < 25:
        assert rows.mean() == v
        assert columns.mean() == u


def test_one_image_has_one_mark_and_no_other_task() -> None:
    with pytest.raises(ValidationError, match="pixels: 1"):
        DepthTask.Options.model_validate({"reference": "marker"})
    by_mark, shown = task("marker"), view(0)
    questions = by_mark.ask([shown], FACTS, "z", rng_for(0, "t"))
    with pytest.raises(UserError, match="without other tasks"):
        by_mark.drawn([shown], [*questions, Question("objects", "?", "!", {})])


def test_shards_without_marks_are_the_same_build_as_before_there_were_any() -> None:
    assert "reference" not in task("text").about()
    assert task("marker").about()["reference"] == "marker"
    held = {"depth": task("marker").about()}
    assert "marks" in str(task("text").missing_from(held))
    assert task("marker").missing_from(held) is None
