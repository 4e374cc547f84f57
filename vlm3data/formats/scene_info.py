"""MegaDepth's `scene_info` files: which photographs of a place have a pose and a depth map, and what they share.

D2-Net's preparation (`preprocess_scene.py`) writes a zip of arrays, LoFTR's a pickled dict of the same arrays under
the same ending. Poses are camera from world, a photograph without a usable depth map is None in every list.
D2-Net's `overlap_matrix[i, j]` is the share of the reconstructed points in i that j shows too, -1 where that is
unknown; LoFTR's `pair_infos` lists ((i, j), overlap, central matches) for the pairs of one range of overlap.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from fsspec import AbstractFileSystem

from vlm3data.formats.safe_npz import read_npz
from vlm3data.geometry import invert_pose
from vlm3data.geometry.rigid import as_rigid
from vlm3data.types import Cut, Drop, Float32Array, Float64Array, UserError

LISTS = ("image_paths", "depth_paths", "intrinsics", "poses")
EARLY = "fact_x"
"""What only the first version of D2-Net's preparation wrote: its intrinsics are not those of the images it names."""


class Photo(NamedTuple):
    """A photograph that can be used; paths are relative to the dataset's root."""

    image: str
    depth: str
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    """As stored: COLMAP's pixels, whose first centre is at (0.5, 0.5)."""
    world_from_cam: Float64Array
    """In the reconstruction's own unit of length."""


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """What one file holds."""

    photos: list[Photo | Drop]
    """In the file's order; what is wrong with an entry in its place."""
    overlap: Float32Array
    """(n, n) the share of the row's photograph that the column's shows; NaN where it is unknown."""


def read_scene_info(fs: AbstractFileSystem, path: str) -> SceneInfo:
    """Return what a file of either form holds; raises UserError where the file as a whole cannot be used."""
    found = read_npz(fs, path, (*LISTS, "overlap_matrix", "pair_infos", EARLY))
    if EARLY in found:
        raise UserError(
            f"{path}: made by the first version of D2-Net's preparation, whose intrinsics are not those of the "
            "images it names; run the present preprocess_scene.py"
        )
    if missing := [name for name in LISTS if name not in found]:
        raise UserError(f"{path}: holds no {missing[0]}; it is not a scene_info file of D2-Net or LoFTR")
    lists = [_items(found[name], name, path) for name in LISTS]
    if len({len(items) for items in lists}) > 1:
        raise UserError(f"{path}: its lists are of different lengths: {[len(items) for items in lists]}")
    photos = [_photo(number, *entry) for number, entry in enumerate(zip(*lists, strict=True))]
    if "overlap_matrix" in found:
        overlap = _matrix(found["overlap_matrix"], len(photos), path)
    elif "pair_infos" in found:
        overlap = _from_pairs(_items(found["pair_infos"], "pair_infos", path), len(photos), path)
    else:
        raise UserError(f"{path}: holds neither overlap_matrix (D2-Net) nor pair_infos (LoFTR)")
    return SceneInfo(photos, overlap)


def _items(value: Any, name: str, path: str) -> list[Any]:
    if not isinstance(value, list | tuple | np.ndarray) or (isinstance(value, np.ndarray) and not value.ndim):
        raise UserError(f"{path}: {name} is not a list")
    return list(value)


def _photo(number: int, image: Any, depth: Any, intrinsics: Any, pose: Any) -> Photo | Drop:
    where = f"photograph {number}"
    if any(entry is None for entry in (image, depth, intrinsics, pose)):
        return Cut("not_prepared", f"{where}: no depth map or no pose")
    if not isinstance(image, str) or not isinstance(depth, str):
        return Drop("bad_record", f"{where}: its paths are not text")
    k, cam_from_world = _numbers(intrinsics, (3, 3)), _numbers(pose, (4, 4))
    if k is None or not _is_upper(k):
        return Drop("bad_intrinsics", f"{where}: {intrinsics!r:.200}")
    rigid = None if cam_from_world is None else as_rigid(cam_from_world)
    if rigid is None:
        return Drop("pose_not_rigid", f"{where}: {pose!r:.200}")
    focal, centre = (float(k[0, 0]), float(k[1, 1])), (float(k[0, 2]), float(k[1, 2]))
    return Photo(str(image), str(depth), focal, centre, invert_pose(rigid))


def _numbers(value: Any, shape: tuple[int, int]) -> Float64Array | None:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in "fiu":
        return None
    return value.astype(np.float64) if np.isfinite(value).all() else None


def _is_upper(k: Float64Array) -> bool:
    """Tell whether K is [fx 0 cx; 0 fy cy; 0 0 1]."""
    zeros = (k[0, 1], k[1, 0], k[2, 0], k[2, 1])
    return k[0, 0] > 0 and k[1, 1] > 0 and k[2, 2] == 1 and not any(zeros)


def _matrix(value: Any, count: int, path: str) -> Float32Array:
    if not isinstance(value, np.ndarray) or value.shape != (count, count) or value.dtype.kind != "f":
        raise UserError(f"{path}: overlap_matrix is not one number for each two of its {count} photographs")
    with np.errstate(invalid="ignore"):
        return np.where((value >= 0) & (value <= 1), value, np.nan).astype(np.float32)


def _from_pairs(pairs: Sequence[Any], count: int, path: str) -> Float32Array:
    overlap = np.full((count, count), np.nan, np.float32)
    for number, pair in enumerate(pairs):
        try:
            (i, j), share = pair[0], pair[1]
            both = (int(i), int(j)) if float(i) == int(i) and float(j) == int(j) else (-1, -1)
            known = min(both) >= 0 and max(both) < count and 0 <= float(share) <= 1
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise UserError(f"{path}: pair_infos[{number}] is not ((i, j), overlap, ...)") from error
        if not known:
            raise UserError(f"{path}: pair_infos[{number}] names {i}, {j} with {share} of {count} photographs")
        overlap[both] = overlap[both[::-1]] = float(share)
    return overlap


def encode_d2net(photos: Iterable[Photo | None], overlap: Float64Array) -> bytes:
    """Return D2-Net's form: a zip of arrays; `overlap` (n, n) as it is stored, -1 unknown."""
    file = io.BytesIO()
    np.savez(file, **_lists(list(photos)), overlap_matrix=overlap)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def encode_loftr(photos: Iterable[Photo | None], pairs: Sequence[tuple[tuple[int, int], float, Any]]) -> bytes:
    """Return LoFTR's form: a pickled dict."""
    infos = np.empty((len(pairs), 3), object)
    for row, pair in zip(infos, pairs, strict=True):
        row[:] = pair
    return pickle.dumps({**_lists(list(photos)), "pair_infos": infos}, protocol=4)


def _lists(photos: list[Photo | None]) -> dict[str, npt.NDArray[Any]]:
    def listed(values: list[Any]) -> npt.NDArray[Any]:
        array = np.empty(len(values), object)
        array[:] = values
        return array

    matrices = [
        None
        if photo is None
        else np.array(
            [[photo.focal_px[0], 0, photo.centre_px[0]], [0, photo.focal_px[1], photo.centre_px[1]], [0, 0, 1.0]]
        )
        for photo in photos
    ]
    return {
        "image_paths": listed([photo and photo.image for photo in photos]),
        "depth_paths": listed([photo and photo.depth for photo in photos]),
        "intrinsics": listed(matrices),
        "poses": listed([None if photo is None else invert_pose(photo.world_from_cam) for photo in photos]),
    }
