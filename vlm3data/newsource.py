"""`vlm3data new-source`: a source of one's own to start from, as a package that vlm3 finds once it is installed."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np

from vlm3data import registry
from vlm3data.errors import UsageError
from vlm3data.images import encode_jpeg
from vlm3data.types import UserError

TEMPLATES = Path(__file__).parent / "templates" / "source"
WIDTH_PX, HEIGHT_PX, FOCAL_PX = 320, 240, 320.0
IMAGES, LABELLED = 3, 40


def new_source(name: str, out: Path) -> list[Path]:
    """Write a package for the source `name` into the new directory `out`, with its tests and example data.

    Returns the files, relative to `out`.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} cannot be a source's name: small letters, digits and _, a letter first")
    if name in registry.names("source"):
        raise UsageError(f"there is a source {name} already: choose another name")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another --out")
    files: dict[Path, bytes] = {}
    words = {"NewSource": f"{''.join(map(str.capitalize, name.split('_')))}Source", "newsource": name}
    for template in sorted(TEMPLATES.rglob("*.txt")):
        path, text = str(template.relative_to(TEMPLATES)).removesuffix(".txt"), template.read_text()
        for word, own in words.items():
            path, text = path.replace(word, own), text.replace(word, own)
        files[Path(path)] = text.encode()
    files |= {Path("example") / path: data for path, data in _example().items()}
    for path, data in files.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(data)
    return list(files)


def _example() -> dict[str, bytes]:
    """Return a few pictures of a floor under the sky, near ground bright, and labels of pixels that show ground."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("image", "fx", "fy", "cx", "cy", "x", "y", "depth_m"))
    files: dict[str, bytes] = {}
    rng = np.random.default_rng(0)
    v, u = np.indices((HEIGHT_PX, WIDTH_PX))
    for number in range(IMAGES):
        height_m, cy = 1.2 + 0.4 * number, HEIGHT_PX / 2
        below_px = v + 0.5 - cy
        ground = below_px > 4
        depth_m = height_m * FOCAL_PX / np.maximum(below_px, 4)
        tiles = (np.floor((u + 0.5 - WIDTH_PX / 2) * depth_m / FOCAL_PX) + np.floor(depth_m)) % 2 == 0
        shade = np.where(ground, 220 / (1 + 0.1 * depth_m) * np.where(tiles, 1.0, 0.6), 235)
        name = f"images/{number}.jpg"
        files[name] = encode_jpeg(np.repeat(shade[..., None].astype(np.uint8), 3, axis=2), 92)
        on_ground = rng.choice(np.flatnonzero(ground), LABELLED, replace=False)
        for y, x in zip(*np.unravel_index(np.sort(on_ground), depth_m.shape), strict=True):
            rows.writerow((name, FOCAL_PX, FOCAL_PX, WIDTH_PX / 2, cy, x, y, f"{depth_m[y, x]:.3f}"))
    return files | {"labels.csv": text.getvalue().encode()}
