"""Loads an export in the format qwen-vl with the Qwen-VL fine-tuning scripts' own dataset: a line of JSON a sample.

Run by a Python that has `qwen-vl-utils`, torchvision and what those scripts want: `python qwen_vl_reader.py EXPORT
MODEL SCRIPTS`, SCRIPTS being the directory qwen-vl-finetune of a checkout of QwenLM/Qwen3-VL. Which tokens get a loss
is not looked at: the scripts find answers by token numbers of the released vocabulary.
"""

import contextlib
import hashlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

export, model, scripts = sys.argv[1:4]
sys.path.insert(0, scripts)

with contextlib.redirect_stdout(sys.stderr):
    import qwenvl.data
    from qwen_vl_utils import process_vision_info
    from qwenvl.data import data_processor
    from transformers import AutoTokenizer, Qwen2VLImageProcessor
    from transformers.models.qwen3_vl import Qwen3VLProcessor, Qwen3VLVideoProcessor

    tokenizer = AutoTokenizer.from_pretrained(model)
    images = Qwen2VLImageProcessor.from_pretrained(model)
    processor = Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor(), chat_template=tokenizer.chat_template)
    qwenvl.data.data_dict["vlm3"] = {"annotation_path": f"{export}/data.jsonl", "data_path": export}
    arguments = SimpleNamespace(
        dataset_use="vlm3",
        model_type="qwen3vl",
        data_packing=False,
        min_pixels=32 * 32,
        max_pixels=4096 * 32 * 32,
        video_min_pixels=32 * 32,
        video_max_pixels=4096 * 32 * 32,
        video_min_frames=4,
        video_max_frames=8,
        video_fps=2,
    )
    dataset = data_processor.LazySupervisedDataset(processor, arguments)

for number in range(len(dataset)):
    with contextlib.redirect_stdout(sys.stderr):
        row = dataset[number]
        messages = data_processor._build_messages(dataset.list_data_dict[number], Path(export))
        pictures, _ = process_vision_info(messages, image_patch_size=16)
    paths = [part["image"] for message in messages for part in message["content"] if part["type"] == "image"]
    for path, picture in zip(paths, pictures, strict=True):
        width_px, height_px = Image.open(path).size
        # qwen-vl-utils enlarges what has fewer than four tokens, as only a test's images have.
        assert picture.size == (width_px, height_px) or width_px * height_px < 4 * 32 * 32
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]
    text = tokenizer.decode(row["input_ids"][0])
    said = re.findall(r"<\|im_start\|>(user|assistant)\n(.*?)<\|im_end\|>", text, re.DOTALL)
    print(json.dumps({"images": digests, "said": said}))
