"""Focal lengths from EXIF, against angles worked out by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from tests.conftest import HEIGHT, WIDTH
from tests.exif_photos import pixels, with_exif
from vlm3data.build import BuildConfig, build, samples
from vlm3data.calibrators.exif import ExifCalibrator
from vlm3data.exif import DIGITAL_ZOOM, FOCAL_LENGTH, FOCAL_LENGTH_35MM, PIXEL_HEIGHT, PIXEL_WIDTH, PLANE_UNIT, PLANE_X
from vlm3data.shards.verify import verify
from vlm3data.types import Calibration, Drop, UserError

SIZE = {PIXEL_WIDTH: 160, PIXEL_HEIGHT: 120}


def estimate(camera: dict, *, sensors: str = "", **photo) -> Calibration:
    data = with_exif(camera, **photo)
    return ExifCalibrator(ExifCalibrator.Options(sensors=sensors)).calibrate(pixels(data), data)


def refused(camera: dict, **photo) -> str:
    with pytest.raises(Drop) as caught:
        estimate(camera, **photo)
    return caught.value.reason


@pytest.mark.parametrize("size", [(160, 120), (180, 120), (120, 160)])
def test_the_35_mm_equivalent_is_that_of_the_diagonal(size):
    """50 mm on 24 x 36: 46.8 degrees across the diagonal, whatever the picture's shape."""
    made = estimate({FOCAL_LENGTH_35MM: 50}, size=size)
    camera = made.camera
    assert camera.fx_px == camera.fy_px
    assert 2 * math.degrees(math.atan(math.hypot(*size) / 2 / camera.fx_px)) == pytest.approx(46.79, abs=0.01)
    assert (camera.cx_px, camera.cy_px) == (size[0] / 2, size[1] / 2)
    assert (camera.width_px, camera.height_px) == size
    assert made.method == "exif"
    assert made.evidence["from"] == "focal_35mm"


def test_it_is_less_sure_of_rounded_values_and_of_odd_shapes():
    sigma = {(f35, size): estimate({FOCAL_LENGTH_35MM: f35}, size=size).focal_sigma_rel for f35, size in
             [(50, (160, 120)), (8, (160, 120)), (50, (192, 108))]}  # fmt: skip
    usual, rounded, cut = sigma.values()
    assert usual is not None
    assert rounded is not None
    assert cut is not None
    assert 0.02 < usual < min(rounded, cut)


def test_the_focal_plane_and_a_resize_since():
    """4 mm at 100 px on a millimetre: 400 px in the picture that the camera wrote, 200 px at half its size."""
    plane = {FOCAL_LENGTH: 4.0, PLANE_X: 1000.0, PLANE_UNIT: 3}
    assert estimate(plane | SIZE).camera.fx_px == pytest.approx(400)
    half = {PIXEL_WIDTH: 320, PIXEL_HEIGHT: 240}
    assert estimate(plane | half).camera.fx_px == pytest.approx(200)
    assert estimate(plane | half, size=(120, 160)).camera.fx_px == pytest.approx(200), "turned, EXIF not told"
    assert refused(plane) == "no_exif_focal", "without the written size there is no scale"


def test_the_table_of_sensors(tmp_path):
    """18 mm on a sensor of 22.3 x 14.9 mm; a 4:3 cut keeps its height."""
    named = {"make": "Canon", "model": "Canon EOS 550D"}
    assert estimate({FOCAL_LENGTH: 18}, size=(180, 120), **named).camera.fx_px == pytest.approx(
        18 * max(180 / 22.3, 120 / 14.9)
    )
    assert estimate({FOCAL_LENGTH: 18}, size=(160, 120), **named).camera.fx_px == pytest.approx(18 * 120 / 14.9)
    assert estimate({FOCAL_LENGTH: 18}, size=(192, 108), **named).camera.fx_px == pytest.approx(18 * 192 / 22.3)
    assert refused({FOCAL_LENGTH: 18}, make="Canon", model="Unheard of") == "no_exif_focal"
    own = tmp_path / "own.yaml"
    own.write_text("canon: {unheard of: [20, 15]}\n")
    made = estimate({FOCAL_LENGTH: 20}, sensors=str(own), make="Canon", model="Unheard of")
    assert made.camera.fx_px == pytest.approx(160)
    assert made.evidence["from"] == "sensor"
    options = (ExifCalibrator.Options(), ExifCalibrator.Options(sensors=str(own)))
    assert ExifCalibrator(options[0]).about() != ExifCalibrator(options[1]).about(), "the table shapes the bytes"


@pytest.mark.parametrize("text", ["- 3", "a: {b: [1]}", "a: {b: [1, -2]}", "a: {b: [1, .nan]}"])
def test_a_table_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=r"own\.yaml") as caught:
        ExifCalibrator(ExifCalibrator.Options(sensors=str(tmp_path / "own.yaml")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("camera", "photo", "reason"),
    [
        ({}, {}, "no_exif_focal"),
        ({FOCAL_LENGTH: 4.0}, {}, "no_exif_focal"),
        ({FOCAL_LENGTH_35MM: 0}, {}, "no_exif_focal"),
        ({FOCAL_LENGTH_35MM: 50, PIXEL_WIDTH: 1920, PIXEL_HEIGHT: 1080}, {}, "exif_contradicts"),
        ({FOCAL_LENGTH_35MM: 50, FOCAL_LENGTH: 50, PLANE_X: 300.0, **SIZE}, {}, "exif_contradicts"),
        ({FOCAL_LENGTH_35MM: 50, FOCAL_LENGTH: 18}, {"make": "SONY", "model": "ILCE-6000"}, "exif_contradicts"),
        ({FOCAL_LENGTH_35MM: 52, DIGITAL_ZOOM: 2.0}, {}, "exif_digital_zoom"),
        ({FOCAL_LENGTH_35MM: 3}, {}, "exif_implausible_focal"),
        ({FOCAL_LENGTH_35MM: 60000}, {}, "exif_implausible_focal"),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted_is_refused_by_name(camera, photo, reason):
    assert refused(camera, **photo) == reason


def test_a_pure_resize_is_none_of_that():
    usual = estimate({FOCAL_LENGTH_35MM: 50}).camera
    assert estimate({FOCAL_LENGTH_35MM: 50, PIXEL_WIDTH: 4000, PIXEL_HEIGHT: 3000}).camera == usual
    assert estimate({FOCAL_LENGTH_35MM: 50, PIXEL_WIDTH: 4032, PIXEL_HEIGHT: 3024}, size=(161, 121))


def test_digital_zoom_of_a_known_sensor_is_multiplied():
    named = {"make": "Panasonic", "model": "DMC-GX7"}
    once = estimate({FOCAL_LENGTH: 20}, **named).camera.fx_px
    assert estimate({FOCAL_LENGTH: 20, DIGITAL_ZOOM: 2.0}, **named).camera.fx_px == pytest.approx(2 * once)


def test_an_image_without_a_file_has_no_exif():
    with pytest.raises(Drop, match="no_exif_focal"):
        ExifCalibrator(ExifCalibrator.Options()).calibrate(pixels(with_exif({})), None)


def own_photos(root: Path, orientation: int | None = None) -> Path:
    """Write three photos of one camera, 24 mm equivalent, and laser distances at their pixels."""
    root.mkdir()
    lines = []
    for number in range(3):
        data = with_exif({FOCAL_LENGTH_35MM: 24, **SIZE}, seed=number, orientation=orientation)
        (root / f"{number}.jpg").write_bytes(data)
        lines.append({"image": f"{number}.jpg", "pixel_coords": [[10, 20], [79, 100]], "depth": [2.0, 3.0]})
    (root / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def config(root: Path, **options: object) -> BuildConfig:
    return BuildConfig(
        source="jsonl", root=str(root), options={"depth_kind": "euclidean", **options}, calibrator="exif",
        focal_px=120, align="none", max_drop_rate=1.0,
    )  # fmt: skip


def test_a_folder_of_own_photos_builds_and_verifies(tmp_path):
    root = own_photos(tmp_path / "photos")
    built = build(config(root), str(tmp_path / "out"), workers=1)
    assert built["samples"] == 3
    assert verify(str(tmp_path / "out")).problems == []
    sample = next(iter(samples(config(root))))
    (view,) = sample.record["views"]
    focal_px = 24 * 200 / math.hypot(36, 24)
    assert view["source_camera"]["fx_px"] == pytest.approx(focal_px)
    assert view["camera"]["fx_px"] == 120
    assert view["calibration"]["method"] == "exif"
    truths = {tuple(question.truth["pixel_px"]): question.truth["depth_m"] for question in sample.questions}
    at = (math.floor(10.5 * 120 / focal_px), math.floor(20.5 * 120 / focal_px))
    stretch = math.sqrt(1 + ((10.5 - 80) ** 2 + (20.5 - 60) ** 2) / focal_px**2)
    assert truths[at] == pytest.approx(2.0 / stretch), "the z-depth of what a laser measured along the ray"


def test_labels_on_a_photo_to_be_turned_need_to_say_which_pixels_they_name(tmp_path):
    root = own_photos(tmp_path / "photos", orientation=6)
    with pytest.raises(UserError, match="orientation_unclear 3"):
        build(config(root), str(tmp_path / "out"), workers=1)
    sizes, places = {}, {}
    for way in ("upright", "stored"):
        made = list(samples(config(root, orientation=way)))
        source = made[0].record["views"][0]["source_camera"]
        sizes[way] = source["width_px"], source["height_px"]
        places[way] = len(made[0].questions)
    assert sizes == {"upright": (HEIGHT, WIDTH), "stored": (WIDTH, HEIGHT)}
    assert places == {"upright": 2, "stored": 2}


def test_fuzzed_values_are_a_camera_or_a_drop():
    rng = random.Random(1)
    junk = [0, 1, 3, 28, 1e-9, 1e8, 65535, "x", b"\xff\0", (1, 2), -5.0]
    tags = (FOCAL_LENGTH, FOCAL_LENGTH_35MM, DIGITAL_ZOOM, PIXEL_WIDTH, PIXEL_HEIGHT, PLANE_X, PLANE_UNIT)
    reasons = set()
    for _ in range(300):
        camera = {tag: rng.choice(junk) for tag in tags if rng.random() < 0.7}
        try:
            data = with_exif(camera, make=rng.choice(["", "SONY"]), model="ILCE-7")
        except Exception:  # noqa: BLE001 - Pillow cannot write every kind of junk
            continue
        try:
            made = ExifCalibrator(ExifCalibrator.Options()).calibrate(pixels(data), data)
        except Drop as drop:
            reasons.add(drop.reason)
        else:
            assert made.camera.fx_px > 0
    assert {"no_exif_focal", "exif_contradicts"} <= reasons
