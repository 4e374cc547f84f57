"""What is said of an unusable sample: readable, and the same in every process."""

from __future__ import annotations

import pytest

from tests.conftest import directory_bytes, jsonl_line, write_jsonl
from vlm3data.build import BuildConfig, build
from vlm3data.exif import read_exif
from vlm3data.formats.depth_file import decode_depth_file
from vlm3data.images import decode_rgb
from vlm3data.types import Drop


@pytest.mark.parametrize("read", [decode_rgb, read_exif, lambda data: decode_depth_file(data, (4, 3))])
def test_what_is_no_image_is_told_without_an_address(read):
    with pytest.raises(Drop) as told:
        read(b"no image")
    assert told.value.detail == "cannot identify image file"
    assert str(told.value) == f"{told.value.reason}: cannot identify image file"


def test_two_builds_with_broken_images_are_the_same_to_the_byte(tmp_path):
    root = write_jsonl(tmp_path / "root", [jsonl_line(number) for number in range(4)])
    (root / "rgb" / "1.jpg").write_bytes(b"no image")
    (root / "rgb" / "2.jpg").write_bytes(b"GIF89a")
    config = BuildConfig.check({"source": "jsonl", "root": str(root), "focal_px": 150, "max_drop_rate": 0.5}, "test")
    for out in ("once", "again"):
        assert build(config, str(tmp_path / out), workers=1)["drops"] == {"image_unreadable": 2}
    once, again = (directory_bytes(tmp_path / out) for out in ("once", "again"))
    assert once == again
    assert not [name for name, data in once.items() if b" object at 0x" in data]
