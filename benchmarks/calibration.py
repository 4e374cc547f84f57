"""How wrong a focal length each calibrator finds where the true one is known, and what that does to metric depth.

After unification an image with a focal length wrong by a factor k shows the world k times too near or too far. An
oracle that knows the true depth and scales it by k is right (delta1) where k is below 1.25: no model can do better on
such images without seeing that they are wrong.

Run: python -m benchmarks.calibration [folder of real samples]
Real sets are used where the folder has them: ibims1, nuscenes, colmap_lund.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.bench import one_core, report
from benchmarks.inputs import REALDATA
from vlm3data import registry
from vlm3data.build import BuildConfig, open_source
from vlm3data.calibrators.exif import FILM_DIAGONAL_MM
from vlm3data.exif import EXIF_IFD, FOCAL_LENGTH_35MM
from vlm3data.images import decode_rgb
from vlm3data.types import Camera, Drop, UInt8Array

SYNTHETIC = ("room", "street", "hall", "yard")
REAL = {"ibims1": "jsonl", "nuscenes": "nuscenes", "colmap_lund": "colmap"}
PER_SET = 36
WIDTH_PX, HEIGHT_PX = 640, 480
METHODS = {"exif": {}, "fov": {"hfov_deg": 65.0}, "vanishing": {}}
"""The field of view is a guess, of the kind that a user without knowledge would make."""


def main() -> None:
    one_core()
    real = Path(sys.argv[1]) if len(sys.argv) > 1 else REALDATA
    sets = {name: list(_synthetic(name)) for name in SYNTHETIC}
    sets |= {name: list(_real(kind, real / name)) for name, kind in REAL.items() if (real / name).exists()}
    rows = [_row(method, options, name, images) for method, options in METHODS.items() for name, images in sets.items()]
    report("calibration", rows, f"up to {PER_SET} images a set; the same on any machine; fov is a guess of 65 degrees")


def _row(
    method: str, options: dict[str, float], name: str, images: list[tuple[UInt8Array, Camera]]
) -> dict[str, object]:
    kind = registry.load("calibrator", method)
    calibrator = kind(kind.Options(**options))
    factors, in_sigmas = [], []
    for rgb, truth in images:
        try:
            made = calibrator.calibrate(rgb, _as_phone(rgb, truth) if method == "exif" else None)
        except Drop:
            continue
        factors.append(made.camera.fx_px / truth.fx_px)
        if made.focal_sigma_rel is not None:
            in_sigmas.append(abs(factors[-1] - 1) / made.focal_sigma_rel)
    error = np.abs(np.array(factors) - 1)
    right = [max(factor, 1 / factor) < 1.25 for factor in factors]
    return {
        "method": method,
        "images": name,
        "of": len(images),
        "answered": len(factors) / len(images),
        "median error": float(np.median(error)) if len(error) else None,
        "90 % below": float(np.quantile(error, 0.9)) if len(error) else None,
        "oracle delta1": float(np.mean(right)) if right else None,
        "within 2 sigma": float(np.mean(np.array(in_sigmas) < 2)) if in_sigmas else None,
    }


def _synthetic(domain: str) -> Iterator[tuple[UInt8Array, Camera]]:
    """Yield rendered places; focal lengths at random, principal points up to 2 % beside the middle."""
    options = {"domains": (domain,), "scenes": PER_SET, "views": 1, "width_px": WIDTH_PX, "height_px": HEIGHT_PX}
    yield from _known("synthetic", "", options)


def _real(kind: str, root: Path) -> Iterator[tuple[UInt8Array, Camera]]:
    yield from _known(kind, str(root), {})


def _known(kind: str, root: str, options: dict[str, object]) -> Iterator[tuple[UInt8Array, Camera]]:
    source = open_source(BuildConfig(source=kind, root=root, options=options))
    frames = (frame for scene in source.scenes(None) for frame in source.frames(scene))
    for _, frame in zip(range(PER_SET), frames, strict=False):
        image = frame.image()
        if frame.camera is not None:
            yield decode_rgb(image) if isinstance(image, bytes) else image, frame.camera


def _as_phone(rgb: UInt8Array, camera: Camera) -> bytes:
    """Return a file whose EXIF says the true focal length as phones do: in whole millimetres of 35 mm film.

    What a real phone adds, such as focusing and the correction of distortion, is not in this.
    """
    exif = Image.Exif()
    diagonal_px = math.hypot(camera.width_px, camera.height_px)
    exif.get_ifd(EXIF_IFD)[FOCAL_LENGTH_35MM] = round(camera.fx_px * FILM_DIAGONAL_MM / diagonal_px)
    file = io.BytesIO()
    Image.fromarray(rgb[:8, :8]).save(file, "JPEG", exif=exif)
    return file.getvalue()


if __name__ == "__main__":
    main()
