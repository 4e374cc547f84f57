"""Prepares shards with Energon's own command and reads them with its loader: a line of JSON a sample.

Run by a Python that has `megatron-energon`, which shares nothing with ours: `python energon_reader.py SHARDS`.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import megatron.energon as en

shards = Path(sys.argv[1])
prepare = [str(Path(sys.executable).parent / "energon"), "prepare", str(shards), "--non-interactive", "--no-progress"]
prepare += ["--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset"]
subprocess.run(prepare, check=True, stdout=sys.stderr)


@en.stateless
def cook(sample: dict) -> dict:
    return sample


class Encoder(en.DefaultTaskEncoder):
    decoder = None  # the bytes as they are
    cookers = [en.Cooker(cook)]

    def encode_sample(self, sample: dict) -> dict:
        return sample


one_process = en.WorkerConfig(rank=0, world_size=1, num_workers=0)
# For evaluation, so that every sample comes once and in order; `get_train_dataset` shuffles and repeats.
dataset = en.get_val_dataset(
    shards, split_part="train", batch_size=None, worker_config=one_process, task_encoder=Encoder()
)
for sample in en.get_loader(dataset):
    record = json.loads(sample["json"])
    images = [sample[name] for name in sorted(sample) if name.endswith("jpg")]
    turns = [[question["question"], question["answer"]] for question in record["questions"]]
    digests = [hashlib.sha256(image).hexdigest() for image in images]
    print(json.dumps({"key": record["key"], "images": digests, "turns": turns}))
