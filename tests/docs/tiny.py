"""Tiny data in the places that the documentation names, and commands made small enough for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock

from tests.exif_photos import with_exif
from vlm3data.exif import FOCAL_LENGTH_35MM

Do = Callable[[str], None]
Maker = Callable[[Path, Do], object]

PICTURES = "--width-px 128 --height-px 96 --size-jitter 0 --hfov-deg 60,70"
LAYOUTS = {
    "nuscenes": "--scenes 3 --samples 2 --width-px 320 --height-px 180 --truth false --workers 1",
    "scannet": "--scans 1 --frames 11 --color-width-px 160 --color-height-px 120 "
    "--depth-width-px 80 --depth-height-px 60",
    "ibims": "--images 2",
    "rgbd": "--scenes 1 --frames 4",
    "colmap": "--scenes 1 --images 6 --width-px 160 --height-px 120 --points 150",
    "megadepth": "--places 1 --photos 6 --long-side-px 160",
    "wai": "--scenes 1 --frames 3 --width-px 160 --height-px 120",
}
"""Flags that make a layout small."""
INSTEAD = {"Qwen/Qwen3-VL-4B-Instruct": "out/tiny", "ray": "local"}
"""What would need a download or a cluster."""
SMALLER = {"--steps": 2, "--limit": 6, "--samples": 500, "--batch-size": 2, "--questions-per-image": 2}
"""The most that a number behind a flag may be, where nothing is meant by it but how much is done."""
MORE = {
    "build": "--workers 1 --focal 84",
    "rerender": "--workers 1",
    "sft": "--workers 0",
    "eval": "--limit 4 --questions-per-image 2 --max-new-tokens 4",
    "predict": "--grid 3",
}
"""What commands are told besides; a number given is at most this."""
SMALLER_IN_FILES = (
    ("Qwen/Qwen3-VL-4B-Instruct", "out/tiny"),
    (r"steps: \d+", "steps: 2"),
    (r"steps: \[.*?\]", "steps: [1]"),
    (r"batch_size: \d+", "batch_size: 2"),
    (r"grad_accum: \d+", "grad_accum: 1"),
    (r"report_to: .*", ""),
    (r"runs: \d+", "runs: 1"),
    (r"limit: \d+", "limit: 4"),
)
FINDS = ("mix diff",)
"""Commands that end with 1 when they find something."""
WRITE = ("--out", "--json", "--plots", "--cloud", "--html")


def _photo(width_px: int, height_px: int) -> Maker:
    return lambda place, do: place.write_bytes(with_exif({FOCAL_LENGTH_35MM: 28}, size=(width_px, height_px)))


def _distances(place: Path, do: Do) -> None:
    line = {"image": "kitchen.jpg", "pixel_coords": [[412, 300], [95, 611]], "depth": [3.42, 1.87]}
    place.write_text(json.dumps(line) + "\n")


def _predicted(place: Path, do: Do) -> None:
    """Make the depth of a WAI dataset a predicted one's."""
    _layout("wai", "synthetic")(place, do)
    for path in place.glob("*/scene_meta.json"):
        meta = json.loads(path.read_bytes())
        meta["frame_modalities"]["pred_depth"] = {"mvsanywhere": meta["frame_modalities"].pop("depth")}
        path.write_text(json.dumps(meta))


def _layout(name: str, inner: str = "", more: str = "") -> Maker:
    def make(place: Path, do: Do) -> None:
        whole = f"{place}-whole"
        do(f"vlm3data synth --layout {name} {more} --out {whole}")
        Path(whole, inner).rename(place)

    return make


def _command(line: str) -> Maker:
    return lambda place, do: do(f"{line} --out {place}")


def _scenes(domain: str, split: str = "train") -> Maker:
    return _command(f"vlm3data build synthetic --domains {domain} --split {split} --limit 8 --focal 84 {PICTURES}")


MADE: dict[str, Maker] = {
    "data/nuscenes": _layout("nuscenes", more="--tables v1.0-trainval --scenes 3"),
    "data/scannet": _layout("scannet"),
    "data/ibims1": _layout("ibims"),
    "data/megadepth": _layout("megadepth"),
    "data/wai/dl3dv": _predicted,
    "data/wai/scannetppv2": _layout("wai", "synthetic"),
    "data/church": _layout("colmap", "scene-0000", "--dense true"),
    "data/photos/kitchen.jpg": _photo(800, 640),
    "data/photos/photos.jsonl": _distances,
    "photo.jpg": _photo(1280, 960),
    "out/plaza-train": _scenes("plaza"),
    "out/plaza-test": _scenes("plaza", "test"),
    "out/demo/plaza-train": _scenes("plaza"),
    "out/rooms": _scenes("room"),
    "out/streets": _scenes("street"),
    "out/rooms-test": _scenes("room", "test"),
    "out/streets-test": _scenes("street", "test"),
    "out/pairs": _command(
        f"vlm3data build synthetic --domains room --limit 6 --focal 84 --tasks correspondence {PICTURES}"
    ),
    "out/scannet": _command("vlm3data build scannet --root data/scannet"),
    "out/tiny": _command("vlm3train init-tiny --shards out/plaza-train"),
    "out/run": _command(
        "vlm3train sft --model out/tiny --mixture mixtures/demo.yaml --steps 1 --batch-size 2 --workers 0"
    ),
}
"""What lies where, made when a command first names it; a key may be what another one's command needs."""
NEEDS = {
    "Qwen/Qwen3-VL-4B-Instruct": ("out/tiny",),
    "mixtures/demo.yaml": ("out/demo/plaza-train",),
    "train.yaml": ("out/tiny", "out/demo/plaza-train"),
    "weights.yaml": ("out/tiny",),
    "study.yaml": ("out/tiny", "out/rooms", "out/streets", "out/rooms-test", "out/streets-test"),
}
"""Data that a name stands for, or that a file names."""


def place(name: str, here: Path, shared: Path, do: Do) -> None:
    """Put a copy of `name` below `here`, the working directory; made once below `shared`, whoever asks first."""
    kept = shared / name
    with filelock.FileLock(shared / "lock", is_singleton=True):
        if not kept.exists():
            made = here / name
            made.parent.mkdir(parents=True, exist_ok=True)
            MADE[name](made, do)
            kept.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if made.is_dir() else shutil.copy)(made, kept)
            return
    (here / name).parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if kept.is_dir() else shutil.copy)(kept, here / name)
