"""Objects as a question names them: a 2D box in text coordinates, and the 3D box behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlm3data.geometry import box_to_grid, invert_pose
from vlm3data.geometry.outline import project_box
from vlm3data.types import Box3D, Camera, Float64Array, View

GRID = 1000
"""Text coordinates of boxes are integers in [0, 1000]."""
MIN_SIDE_PX = 16
"""An object is not asked about where its 2D box is narrower or lower than this, as the model sees it."""
MIN_IN_VIEW = 0.5
"""Nor where less than half of its outline lies inside the image."""
MIN_VISIBILITY = 0.4
"""Nor where more than this is known to be hidden; an unknown visibility is no reason."""
ALIKE = GRID // 100
"""Two boxes whose coordinates all differ by no more than this cannot be told apart, and neither is asked about."""
_DECIMALS = 6

TextBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Region:
    """One object in one image."""

    box: TextBox
    """(x1, y1, x2, y2) on the grid."""
    label: str
    cam_from_box: Float64Array
    """(4, 4), rounded to what the record holds, so that an answer can be computed again from the record."""
    size_m: tuple[float, float, float]

    def record(self) -> dict[str, Any]:
        """Return the region as plain values; `cam_from_box` without its last row."""
        pose = [[round(value, _DECIMALS) for value in row] for row in self.cam_from_box[:3].tolist()]
        return {"box": list(self.box), "label": self.label, "cam_from_box": pose, "size_m": list(self.size_m)}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Region:
        """Return the region of a `record`."""
        x1, y1, x2, y2 = record["box"]
        a, b, c = record["size_m"]
        pose = np.array([*record["cam_from_box"], [0.0, 0.0, 0.0, 1.0]])
        return cls((x1, y1, x2, y2), record["label"], pose, (a, b, c))


def text_of(box: TextBox) -> str:
    """Return how a question names a region (the released object data's words)."""
    return f"bounding box region ({', '.join(map(str, box))})"


def text_box(box_px: tuple[float, float, float, float], view: View) -> TextBox | None:
    """Return the text coordinates of a box in source pixels; None where less than half of it stays in view."""
    return box_to_grid(
        box_px,
        view.source_camera,
        view.camera,
        scale=view.scale,
        crop_xy_px=view.crop_xy_px,
        align=view.align,
        grid=GRID,
    )


def regions_of(view: View) -> list[Region]:
    """Return the objects of a view that can be asked about, in the source's order."""
    if view.world_from_cam is None or view.boxes is None:
        return []
    cam_from_world = invert_pose(view.world_from_cam)
    found = [region for box in view.boxes() if (region := _region(box, cam_from_world, view)) is not None]
    return [region for region in found if not any(_alike(region, other) for other in found if other is not region)]


def _region(box: Box3D, cam_from_world: Float64Array, view: View) -> Region | None:
    if box.visibility is not None and box.visibility < MIN_VISIBILITY:
        return None
    pose = np.round(cam_from_world @ box.world_from_box, _DECIMALS)
    a, b, c = (round(float(side), _DECIMALS) for side in box.size_m)
    seen = project_box(pose, (a, b, c), view.source_camera)
    if seen is None or seen.in_view < MIN_IN_VIEW:
        return None
    text = text_box(seen.box_px, view)
    left = project_box(pose, (a, b, c), view.camera)
    if text is None or left is None or left.in_view < MIN_IN_VIEW or min(_sides_px(text, view.camera)) < MIN_SIDE_PX:
        return None
    return Region(text, box.label.replace("_", " "), pose, (a, b, c))


def _sides_px(box: TextBox, camera: Camera) -> tuple[float, float]:
    return (box[2] - box[0]) * camera.width_px / GRID, (box[3] - box[1]) * camera.height_px / GRID


def _alike(region: Region, other: Region) -> bool:
    return all(abs(a - b) <= ALIKE for a, b in zip(region.box, other.box, strict=True))
