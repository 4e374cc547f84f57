"""uint8 patches, normalised, are what the stock processor makes of an image."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from vlm3data.build import BuildConfig, build
from vlm3data.shards import read_samples
from vlm3data.types import Sample, UserError
from vlm3train.families.patches import PatchFacts, laid_out, normalised
from vlm3train.families.qwen_vl import QwenVL
from vlm3train.families.rows import pixels_of
from vlm3train.models import load_processor


def _photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _stock(**changes) -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(**{"min_pixels": 28 * 28, "max_pixels": 1 << 20} | changes)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([(14, 2, 2), (16, 2, 2), (16, 1, 1), (14, 3, 2)]),
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.tuples(*[st.floats(0.2, 3)] * 3),
    st.sampled_from([1 / 255, 1 / 127.5, 0.01]),
    st.booleans(),
    st.booleans(),
)
def test_normalised_patches_are_the_stock_processors(rows, columns, sizes, mean, std, rescale, rescales, normalises):
    patch, merge, times = sizes
    stock = _stock(patch_size=patch, merge_size=merge, temporal_patch_size=times, min_pixels=1)
    stock.image_mean, stock.image_std, stock.rescale_factor, stock.do_normalize = (
        list(mean),
        list(std),
        rescale,
        normalises,
    )
    stock.do_rescale = rescales
    image = _photo(columns * patch * merge, rows * patch * merge, rows)
    expected = stock(images=[image], return_tensors="pt")
    facts = PatchFacts.of(stock)
    patches = torch.from_numpy(laid_out(image, facts))
    assert patches.dtype == torch.uint8
    values = normalised(patches, facts)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected["pixel_values"], atol=1e-6, rtol=1e-6)


def test_a_worker_hands_over_one_byte_where_stock_hands_over_eight():
    facts = PatchFacts.of(_stock())
    patches = torch.from_numpy(laid_out(_photo(56, 56), facts))
    assert patches.is_contiguous()
    assert normalised(patches, facts).nbytes == 8 * patches.nbytes


@pytest.mark.parametrize("size", [(100, 75), (250, 130), (56, 56), (3000, 20)])
def test_a_resized_image_is_the_one_that_stock_resizes(processor, make_sample, size):
    stock = _stock(max_pixels=128 * 128, patch_size=16)
    family = QwenVL(processor.tokenizer, stock, "processor")
    sample = make_sample("a", ["1 m"])
    file = io.BytesIO()
    Image.fromarray(_photo(*size)).save(file, "PNG")
    jpeg = io.BytesIO()
    Image.open(file).save(jpeg, "JPEG", subsampling=0, quality=95)
    sample = Sample(key="a", images=(jpeg.getvalue(),), record_json=sample.record_json)
    batch = family.train([sample])
    expected = stock(images=pixels_of(sample), return_tensors="pt")
    assert batch["image_grid_thw"].tolist() == expected["image_grid_thw"].tolist()
    torch.testing.assert_close(family.on_device(batch)["pixel_values"], expected["pixel_values"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "said"), [((70, 64), "70x64 to 64x64"), ((32, 32), "32x32 to 64x64"), ((6464, 32), "200")]
)
def test_whatever_the_processor_would_change_is_refused(processor, make_sample, size, said):
    family = QwenVL(processor.tokenizer, _stock(min_pixels=64 * 64, patch_size=16))
    with pytest.raises(UserError, match=f"sample a.*{said}"):
        family.train([make_sample("a", ["1 m"], size=size)])


def test_what_is_saved_can_be_read_where_the_source_could(model_dir: Path, tmp_path):
    (tmp_path / "source").mkdir()
    for file in model_dir.iterdir():
        (tmp_path / "source" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "source" / "video_preprocessor_config.json").write_text(
        '{"video_processor_type": "Qwen3VLVideoProcessor"}'
    )
    processor = load_processor(str(tmp_path / "source"))
    processor.save(tmp_path / "out")
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
    (tmp_path / "out" / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    again = load_processor(str(tmp_path / "out"))
    assert again.tokenizer.chat_template == processor.tokenizer.chat_template


def test_shards_that_hold_the_originals_are_trained_on_without_encoding_anything(processor, tmp_path):
    images = []
    for store in ("unified", "original"):
        values = {
            "source": "synthetic",
            "options": {"width_px": 96, "height_px": 96, "scenes": 2},
            "focal_px": 80.0,
            "limit": 2,
            "store": store,
        }
        out = str(tmp_path / store)
        build(BuildConfig.check(values, where="test"), out, workers=1)
        images.append([processor.train([sample]) for sample in read_samples(out)])
    for unified, original in zip(*images, strict=True):
        assert torch.equal(unified["input_ids"], original["input_ids"])
        # One has been through JPEG once more than the other.
        difference = (unified["pixel_patches"].float() - original["pixel_patches"].float()).abs().mean()
        assert 0 < difference < 3
