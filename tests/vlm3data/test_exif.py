"""Reading EXIF: claims as claims, nonsense as absent; and turning photos upright."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.exif_photos import pixels, with_exif
from vlm3data import exif
from vlm3data.exif import Exif, read_exif
from vlm3data.images import TURNED, decode_rgb
from vlm3data.types import Drop

FULL = {
    exif.FOCAL_LENGTH: 4.25, exif.FOCAL_LENGTH_35MM: 26, exif.DIGITAL_ZOOM: 1.0, exif.PIXEL_WIDTH: 160,
    exif.PIXEL_HEIGHT: 120, exif.PLANE_X: 1000.0, exif.PLANE_Y: 1000.0, exif.PLANE_UNIT: 3,
}  # fmt: skip


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WebP"])
def test_what_a_camera_writes_is_read(form):
    data = with_exif(FULL, make="Maker ", model="Model\0", orientation=6, form=form)
    read = read_exif(data)
    assert (read.orientation, read.make, read.model, read.size_px) == (6, "Maker", "Model", (160, 120))
    assert (read.focal_mm, read.focal_35mm, read.digital_zoom) == (4.25, 26.0, 1.0)
    assert read.plane_px_per_mm == (100.0, 100.0)


def test_without_exif_nothing_is_known():
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "JPEG")
    assert read_exif(file.getvalue()) == Exif()
    with pytest.raises(Drop, match="image_unreadable"):
        read_exif(b"no image")


@pytest.mark.parametrize("tag", [exif.FOCAL_LENGTH, exif.FOCAL_LENGTH_35MM, exif.DIGITAL_ZOOM, exif.PLANE_X])
def test_zero_means_unknown(tag):
    read = read_exif(with_exif(FULL | {tag: 0}))
    field = {
        exif.FOCAL_LENGTH: "focal_mm", exif.FOCAL_LENGTH_35MM: "focal_35mm", exif.DIGITAL_ZOOM: "digital_zoom",
        exif.PLANE_X: "plane_px_per_mm",
    }[tag]  # fmt: skip
    assert getattr(read, field) is None


@pytest.mark.parametrize(
    ("unit", "px_per_mm"), [(2, 1000 / 25.4), (3, 100.0), (4, 1000.0), (1, None), (None, 1000 / 25.4)]
)
def test_focal_plane_units(unit, px_per_mm):
    tags = {tag: value for tag, value in FULL.items() if tag != exif.PLANE_UNIT}
    read = read_exif(with_exif(tags | ({} if unit is None else {exif.PLANE_UNIT: unit})))
    assert read.plane_px_per_mm == (None if px_per_mm is None else pytest.approx((px_per_mm, px_per_mm)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_viewers_do(orientation):
    data = with_exif({}, orientation=orientation)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    turned = TURNED[orientation](pixels(data))
    np.testing.assert_array_equal(turned, shown)
    height, width = shown.shape[:2]
    upright = decode_rgb(data, (width, height), upright=True)
    assert upright.shape == shown.shape
    np.testing.assert_array_equal(upright, TURNED[orientation](decode_rgb(data)))
    assert upright.flags.c_contiguous
    if orientation >= 5:
        with pytest.raises(Drop, match="image_size_mismatch"):
            decode_rgb(data, (height, width), upright=True)
        assert decode_rgb(data).shape == (width, height, 3), "without being asked, pixels are as stored"


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_upright(orientation):
    assert read_exif(with_exif({}, orientation=orientation)).orientation == exif.UPRIGHT


def test_damaged_exif_is_absent_or_a_drop():
    data = with_exif(FULL, make="Apple", model="iPhone", orientation=6)
    start = data.index(b"Exif\0\0")
    length = struct.unpack(">H", data[start - 2 : start])[0]
    rng = random.Random(0)
    for _ in range(800):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(start, start + length - 2)] = rng.randrange(256)
        try:
            read = read_exif(bytes(damaged))
        except Drop:
            continue
        assert read.orientation in range(1, 9)
        assert all(value is None or 0 < value < 1e9 for value in (read.focal_mm, read.focal_35mm))
