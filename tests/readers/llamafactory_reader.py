"""Loads an export in the format sharegpt as LLaMA-Factory's training does: a line of JSON a sample.

Run by a Python that has `llamafactory`: `python llamafactory_reader.py EXPORT MODEL`, the model a directory with a
Qwen3-VL tokenizer and image processor. Its own tokenizing pipeline makes `learnt`: the text that gets a loss.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("HF_DATASETS_CACHE", str(Path(sys.argv[1]).parent / "hf"))
os.environ["DISABLE_VERSION_CHECK"] = "1"

with contextlib.redirect_stdout(sys.stderr):
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    export, model = sys.argv[1:3]
    arguments = {
        "stage": "sft",
        "model_name_or_path": model,
        "template": "qwen3_vl_nothink",
        "dataset": "vlm3",
        "dataset_dir": export,
        "media_dir": export,
        "cutoff_len": 1 << 20,
        "output_dir": f"{export}-run",
        "do_train": True,
        "finetuning_type": "full",
        "overwrite_cache": True,
        "use_cpu": True,
        "report_to": "none",
    }
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    tokenizer = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data_args)
    module = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer)

for row in module["train_dataset"]:
    images = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in row["images"]]
    text = tokenizer["tokenizer"].decode(row["input_ids"])
    learnt = tokenizer["tokenizer"].decode([token for token in row["labels"] if token >= 0])
    said = re.findall(r"<\|im_start\|>(user|assistant)\n(.*?)<\|im_end\|>", text, re.DOTALL)
    print(json.dumps({"images": images, "said": said, "learnt": learnt}))
