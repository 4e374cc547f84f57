"""What converting one distorted photograph of a COLMAP model costs, over its codec floor, on one core.

As `benchmarks.convert`, with a lens to undo: the one resampling is a remap. One camera serves all images, as in most
reconstructions, and the first image pays for its table; the row `a camera each` has another camera for every image,
as internet photographs have, and no table is ever used twice. Labels are the model's sparse points.

Run: python -m benchmarks.convert_distorted
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import cv2
import fsspec
import pycolmap

from benchmarks.bench import alternate, one_core, ratio, report
from benchmarks.convert import CODECS, codec
from benchmarks.inputs import REALDATA
from vlm3data.build import BuildConfig, build, build_shard, plan
from vlm3data.formats.colmap import cameras
from vlm3data.formats.colmap.cameras import stored
from vlm3data.formats.colmap.model import SUFFIX, Model, find_form
from vlm3data.formats.colmap.writing import images_binary, images_text
from vlm3data.images import decode_rgb
from vlm3data.layouts.colmap import ColmapLayout
from vlm3data.shards import read_samples

ROUNDS = 9


def main() -> None:
    one_core()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as directory:
        root, origin = _root(Path(directory))
        each = _a_camera_each(root, Path(directory) / "each" / root.name)
        jobs = {"build_shard": _job(root), "a camera each": _job(each)}
        out = str(Path(directory) / "out")
        build(jobs["build_shard"].config, out, workers=1)
        results = [decode_rgb(sample.images[0]) for sample in read_samples(out)]
        sources = [path.read_bytes() for path in sorted((root / "images").iterdir())]
        contenders = {name: codec(sources, results, decode, encode) for name, (decode, encode) in CODECS.items()}
        fresh = (str(Path(directory) / f"out{number}") for number in count())
        for name, job in jobs.items():
            contenders[name] = _building(job, fresh)
        seconds = alternate(contenders, ROUNDS)
    floor = min(CODECS, key=lambda name: sorted(seconds[name])[ROUNDS // 2])
    rows = [
        {
            "what": name,
            "ms per frame": sorted(times)[ROUNDS // 2] / len(sources) * 1e3,
            "over the floor": ratio(times, seconds[floor]),
        }
        for name, times in seconds.items()
    ]
    height, width = results[0].shape[:2]
    report("convert_distorted", rows, f"{origin}, to {width}x{height}, floor = {floor}, target 2.2")


def _building(job, fresh) -> Callable[[], None]:
    def ours() -> None:
        shard_directory = next(fresh)
        Path(shard_directory).mkdir()
        build_shard(shard_directory, job)

    return ours


def _job(root: Path):
    config = BuildConfig(source="colmap", root=str(root), options={"metres_per_unit": 1.0}, max_drop_rate=1.0)
    (job,) = plan(config)
    return job


def _root(directory: Path) -> tuple[Path, str]:
    real = REALDATA / "colmap_lund"
    if real.exists():
        # in COLMAP's usual form: a text model's numbers take longer to parse than an image to decode
        root = directory / "lund"
        (root / "sparse").mkdir(parents=True)
        shutil.copytree(real / "images", root / "images")
        pycolmap.Reconstruction(real / "sparse").write_binary(root / "sparse")
        return root, "12 real photographs 1296x1936 with one SIMPLE_RADIAL camera"
    options = ColmapLayout.Options(scenes=1, images=12, width_px=1296, height_px=1936, lens="simple_radial")
    ColmapLayout(options, 0).write(str(directory), lambda done, total: None)
    return directory / "scene-0000", "12 synthetic images 1296x1936 with one SIMPLE_RADIAL camera (no real ones here)"


def _a_camera_each(root: Path, copy: Path) -> Path:
    """Copy a workspace and give every image a camera of its own, a little different from the others."""
    shutil.copytree(root, copy)
    for file in copy.rglob("*"):
        file.chmod(0o755)
    path = next(path.parent for path in sorted(copy.rglob("cameras.*")))
    form = find_form([file.name for file in path.iterdir()]) or "binary"
    model = Model(fsspec.filesystem("file"), str(path), form)
    (camera,) = model.cameras.values()
    lenses = {
        image.image_id: stored(replace(camera, cx_px=camera.cx_px + 0.01 * image.image_id))
        for image in model.images.images
    }
    images = [
        (image._replace(camera_id=image.image_id), model.images.observations(number))
        for number, image in enumerate(model.images.images)
    ]
    written = images_binary(images) if form == "binary" else images_text(images)
    (path / f"images{SUFFIX[form]}").write_bytes(b"".join(written))
    formatted = cameras.format_binary(lenses) if form == "binary" else cameras.format_text(lenses)
    (path / f"cameras{SUFFIX[form]}").write_bytes(formatted)
    return copy


if __name__ == "__main__":
    main()
