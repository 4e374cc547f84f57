"""Point correspondence: the question names a pixel of the first image, the answer the same point's in the second."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from vlm3data.answers import find_tuples
from vlm3data.config import Config
from vlm3data.geometry import from_grid, project, rays, to_grid
from vlm3data.geometry.match import CENTRED_PX, match, shared_tracks
from vlm3data.labels import in_sight
from vlm3data.metrics import mean_of_each
from vlm3data.randomness import split_off
from vlm3data.types import (
    Answered,
    Cut,
    DepthKind,
    Float64Array,
    Held,
    Int64Array,
    Move,
    Question,
    SourceFacts,
    UserError,
    View,
)
from vlm3data.wording import Wording, WordingPack, pack_path

FIELDS = (("x", 1023), ("y", 7), ("grid", 2000), ("x2", 640), ("y2", 12))
"""What a wording may use, with an example each."""
CANDIDATES_XY = (64, 48)
"""The image is cut into so many columns and rows of cells, with one candidate pixel each."""
SPREAD_XY = (8, 6)
"""As long as there are matches in other cells of this many columns and rows, no cell gives a second one."""
MIN_FOUND = 8
"""Views in which fewer candidates match show hardly the same."""
ROUNDING_PX = 1e-3
"""Matches are stored to this; one that lies so near a pixel's border that it decides the pixel is not used."""
WITHIN_PX = (1, 3, 5)

Point = tuple[float, float]


class CorrespondenceTask:
    """Truth: `pixel_px` [u, v] in the first stored image and `pixel2_px` [x, y], continuous, in the second.

    In a shard with the source's own images also `xy_px`, where exactly the first place lies.
    `grid_xy` and `grid2_xy` are the text coordinates of the two, on `grid`; `sizes_px` the two images' sizes
    [[width, height], [width, height]]. No length is in any of them.
    """

    name = "correspondence"
    num_views = 2

    class Options(Config):
        """What a user may set for this task."""

        pixels: Annotated[int, Field(gt=0)] = 10
        """Points asked about per pair of images."""
        grid: Annotated[int, Field(gt=1)] = 2000
        """Text coordinates are integers in [0, grid) (the paper: 2000; the released correspondence data: 1000)."""
        wordings: str = ""
        """Wording pack in place of our own, for instance the one a released checkpoint was trained with."""

    def __init__(self, options: Options) -> None:
        self.options = options
        path = pack_path(options.wordings, "correspondence")
        self.pack = WordingPack.open(path, FIELDS, ())
        for number, wording in enumerate(self.pack.wordings):
            answer = wording.answer.format_map(dict(FIELDS))
            if _named(answer, None) != (640.0, 12.0):
                raise UserError(f"{path}: wordings.{number}.answer: {answer!r} does not say (640, 12)")

    def about(self) -> dict[str, Any]:
        """Return what shapes the questions: the options, with the wordings' digest in place of their path."""
        return self.options.model_dump() | {"wordings": self.pack.digest}

    def ask(
        self, views: Sequence[View], facts: SourceFacts, depth_kind: str, rng: np.random.Generator
    ) -> list[Question]:
        """Return up to `pixels` questions about two views, spread over the first one.

        Raises Cut: no_pose, no_depth, no_correspondence.
        """
        for view in views:
            if view.world_from_cam is None:
                raise Cut("no_pose", view.frame)
        sizes = [(view.camera.width_px, view.camera.height_px) for view in views]
        wording_rng = split_off(rng)
        candidates, found, there_px = _matches(views, facts, rng)
        found &= (np.abs(there_px - np.rint(there_px)) > ROUNDING_PX).all(axis=1)
        chosen = _spread(candidates, found, sizes[0], self.options.pixels, rng)
        if found.sum() < MIN_FOUND:
            raise Cut("no_correspondence", ", ".join(view.frame for view in views))
        return self._questions(candidates[chosen], np.round(there_px[chosen], 3), sizes, wording_rng)

    def missing_from(self, held: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return what is missing of these options in shards with the tasks `held`; None where they hold enough."""
        if self.name not in held:
            return "matches take depth maps or tracks, which no shard holds"
        if self.options.pixels > held[self.name]["pixels"]:
            return f"{self.options.pixels} pixels a pair are more than the {held[self.name]['pixels']} that they hold"
        return None

    def ask_again(self, held: Held, depth_kind: DepthKind, rng: np.random.Generator) -> list[Question]:
        """Return the questions about the first `pixels` of the stored matches, in their order."""
        truths = held.truths(self.name)[: self.options.pixels]
        here_px = np.array([truth["pixel_px"] for truth in truths], np.int64).reshape(-1, 2)
        there_px = np.array([truth["pixel2_px"] for truth in truths], np.float64).reshape(-1, 2)
        sizes = [(camera.width_px, camera.height_px) for camera in held.cameras]
        asked = self._questions(here_px, there_px, sizes, split_off(rng))
        if truths and "xy_px" in truths[0]:  # of images that are unified when they are read
            return [
                replace(question, truth={**question.truth, "xy_px": truth["xy_px"]})
                for question, truth in zip(asked, truths, strict=True)
            ]
        return asked

    def why_not_moved(self) -> str | None:
        """Return None: matches lie between pixels, and move with any image."""
        return None

    def to_source(self, asked: Sequence[Question], views: Sequence[View]) -> list[Question]:
        """Return the questions in the source images' pixels; `xy_px` is where the named pixel has its centre."""
        sizes = [(view.source_camera.width_px, view.source_camera.height_px) for view in views]
        here, there = (
            project(view.source_camera, rays(view.camera, xy)) for view, xy in zip(views, _places(asked), strict=True)
        )
        with np.errstate(invalid="ignore"):
            inside = np.all(
                [(xy >= 0) & (xy < size) for xy, size in zip((here, there), sizes, strict=True)], axis=(0, 2)
            )
        return [
            _between(asked[i], np.floor(here[i]).astype(np.int64), there[i], {"xy_px": here[i].tolist()})
            for i in np.flatnonzero(inside).tolist()
        ]

    def to_view(self, stored: Sequence[Question], moves: Sequence[Move], cut: Counter[str]) -> list[Question]:
        """Return the questions in the moved images' pixels.

        Left out are matches that were cropped away, and those whose first place lies beside its pixel's centre: the
        question names the pixel, and what its centre shows would lie as far from the match.
        """
        here, there = (
            project(move.camera, rays(move.source_camera, xy)) for move, xy in zip(moves, _places(stored), strict=True)
        )
        inside = in_sight(here, moves[0]) & in_sight(there, moves[1])
        pixel_px = np.floor(np.nan_to_num(here)).astype(np.int64)
        centred = (np.abs(here - pixel_px - 0.5) <= CENTRED_PX).all(axis=1)
        # As in the build: not where rounding would decide the pixel.
        centred &= (np.abs(there - np.rint(there)) > ROUNDING_PX / 2).all(axis=1)
        for reason, left_out in (("cropped", ~inside), ("off_centre", inside & ~centred)):
            if left_out.any():
                cut[reason] += int(left_out.sum())
        kept = np.flatnonzero(inside & centred).tolist()
        return [_between(stored[i], pixel_px[i], np.round(there[i], 3), {}) for i in kept]

    def _questions(
        self, here_px: Int64Array, there_px: Float64Array, sizes: list[tuple[int, int]], rng: np.random.Generator
    ) -> list[Question]:
        # Every part of the image has its wording, so that one match more or less changes no other's.
        wordings = rng.integers(len(self.pack.wordings), size=CANDIDATES_XY)
        cells = here_px * CANDIDATES_XY // sizes[0]
        return [
            self._question(self.pack.wordings[wordings[column, row]], here, there, sizes)
            for (column, row), here, there in zip(cells.tolist(), here_px, there_px, strict=True)
        ]

    def _question(
        self, wording: Wording, pixel_px: Int64Array, there_px: Float64Array, sizes: list[tuple[int, int]]
    ) -> Question:
        grid = self.options.grid
        here, there = to_grid(pixel_px, sizes[0], grid).tolist(), to_grid(there_px, sizes[1], grid).tolist()
        values = {"x": here[0], "y": here[1], "grid": grid, "x2": there[0], "y2": there[1]}
        truth = {
            "pixel_px": pixel_px.tolist(),
            "grid_xy": here,
            "pixel2_px": there_px.tolist(),
            "grid2_xy": there,
            "grid": grid,
            "sizes_px": [list(size) for size in sizes],
        }
        return Question(self.name, wording.question.format_map(values), wording.answer.format_map(values), truth)

    @classmethod
    def problem_with(cls, question: Question, record: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a stored question, or None: truth must fit the images, and answer truth."""
        truth = question.truth
        sizes = [[view["camera"]["width_px"], view["camera"]["height_px"]] for view in record["views"]]
        if truth["sizes_px"] != sizes:
            return f"sizes_px {truth['sizes_px']} are not the images' {sizes}"
        for pixel, grid, size in (("pixel_px", "grid_xy", sizes[0]), ("pixel2_px", "grid2_xy", sizes[1])):
            if not all(0 <= value < bound for value, bound in zip(truth[pixel], size, strict=True)):
                return f"{pixel} {truth[pixel]} is outside the image {size}"
            if to_grid(truth[pixel], (size[0], size[1]), truth["grid"]).tolist() != truth[grid]:
                return f"{grid} {truth[grid]} is not where {pixel} {truth[pixel]} lies"
        x, y = truth["grid_xy"]
        if not re.search(rf"\b{x}\b.*?\b{y}\b", question.question, re.DOTALL):
            return f"the question does not name grid_xy {truth['grid_xy']} in this order"
        if _named(question.answer, None) != tuple(truth["grid2_xy"]):
            return f"answer {question.answer!r} does not say {truth['grid2_xy']}"
        return None

    def parse(self, answer: str, truth: Mapping[str, Any]) -> Point | None:
        """Return the one point (x, y) on the grid that `answer` names, or None.

        The question's own point may be repeated; of several others none is taken, a guess would be scored as if
        it were an answer.
        """
        return _named(answer, tuple(truth["grid_xy"]))

    def score(self, prediction: Point | None, truth: Mapping[str, Any]) -> dict[str, float]:
        """Return the distances `epe_grid` and `epe_px`, NaN of no answer, and `within_1px`, `within_3px`, `within_5px`.

        `epe_grid` is between the text coordinates; `epe_px` from the centre of the pixel that the answer names to
        the exact match, in pixels of the second image: half a pixel's diagonal, 0.71, at most for the right pixel.
        Where the grid is coarser than the pixels its best answer can be farther off; it is right all the same.
        """
        if prediction is None:
            return {"epe_grid": np.nan, "epe_px": np.nan} | {_within(px): 0.0 for px in WITHIN_PX}
        size = (truth["sizes_px"][1][0], truth["sizes_px"][1][1])
        off_grid = float(np.linalg.norm(np.subtract(prediction, truth["grid2_xy"])))
        named_px = from_grid(prediction, size, truth["grid"]) + 0.5
        off_px = float(np.linalg.norm(named_px - truth["pixel2_px"]))
        shares = {_within(px): float(off_px <= px or not off_grid) for px in WITHIN_PX}
        return {"epe_grid": off_grid, "epe_px": off_px} | shares

    def summary(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Return the mean distances of the answers that parsed, and the shares of all that are near enough."""
        return mean_of_each(self.score(prediction, truth) for _, truth, prediction in answered)


def _places(questions: Sequence[Question]) -> tuple[Float64Array, Float64Array]:
    """Return where the matches lie in the first image (n, 2), continuous, and in the second."""
    here = [question.truth.get("xy_px") or np.add(question.truth["pixel_px"], 0.5) for question in questions]
    return np.array(here, np.float64), np.array([question.truth["pixel2_px"] for question in questions], np.float64)


def _between(question: Question, here_px: Int64Array, there_px: Float64Array, more: dict[str, Any]) -> Question:
    truth = {key: value for key, value in question.truth.items() if key != "xy_px"}
    return Question(
        question.task, "", "", truth | {"pixel_px": here_px.tolist(), "pixel2_px": there_px.tolist()} | more
    )


def _within(px: int) -> str:
    return f"within_{px}px"


def _named(answer: str, asked: tuple[float, ...] | None) -> Point | None:
    """Return the one point in `answer`, apart from the one that was `asked` about."""
    points = find_tuples(answer, 2)
    others = [point for point in points if point != asked] or points
    return (others[0][0], others[0][1]) if len(others) == 1 else None


def _matches(
    views: Sequence[View], facts: SourceFacts, rng: np.random.Generator
) -> tuple[Int64Array, npt.NDArray[np.bool_], Float64Array]:
    """Return pixels of the first view (n, 2), which of them the second one shows (n,), and where (n, 2).

    Through depth maps where both views have one, else from the points of a sparse reconstruction.
    """
    one, other = views
    if all(view.depth_m is not None and view.depth_camera is not None for view in views):
        candidates = _candidates((one.camera.width_px, one.camera.height_px), rng)
        return candidates, *match(one, other, candidates, facts.depth_noise)
    if all(view.tracks is not None for view in views):
        candidates, there_px = shared_tracks(one, other)
        return candidates, np.ones(len(candidates), bool), there_px
    raise Cut("no_depth", f"{one.frame}, {other.frame}: neither depth maps nor tracks")


def _candidates(size_px: tuple[int, int], rng: np.random.Generator) -> Int64Array:
    """Return pixels (n, 2) of an image, one at random from each cell; a small image's few pixels only once."""
    cells = np.indices(CANDIDATES_XY).reshape(2, -1).T
    pixel_px = np.floor((cells + rng.random(cells.shape)) / CANDIDATES_XY * size_px).astype(np.int64)
    return np.unique(pixel_px, axis=0)


def _spread(
    pixel_px: Int64Array, found: npt.NDArray[np.bool_], size_px: tuple[int, int], count: int, rng: np.random.Generator
) -> Int64Array:
    """Return the numbers of up to `count` of the pixels that are `found`, from as many parts of the image as may be.

    Each pixel has its own random place in the queue, so that one pixel more or less changes no other's.
    """
    queue = rng.random(len(pixel_px))
    cell_xy = pixel_px * SPREAD_XY // size_px
    cell = np.where(found, cell_xy[:, 1] * SPREAD_XY[0] + cell_xy[:, 0], -1)
    by_cell = np.lexsort((queue, cell))
    first = np.searchsorted(cell[by_cell], cell[by_cell])  # where each one's cell begins
    turn = np.empty(len(cell), np.int64)
    turn[by_cell] = np.arange(len(cell)) - first
    order = np.lexsort((queue, turn, ~found))
    return order[: min(count, int(found.sum()))]
