"""Converts shards to MosaicML's MDS and reads that with its StreamingDataset: a line of JSON a sample.

Run by a Python that has `mosaicml-streaming`: `python streaming_reader.py SHARDS MDS`. Images stay the bytes they are.
"""

import hashlib
import json
import re
import sys
import tarfile
from pathlib import Path

from streaming import MDSWriter, StreamingDataset

shards, mds = Path(sys.argv[1]), sys.argv[2]


def samples():
    """Yield the members of a sample by their suffix, `jpg`, `0.jpg` or `json`; the JSON comes last."""
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {}
            for member in tar:
                key, suffix = re.match(r"([^.]+)\.(.+)", member.name).groups()
                members[suffix] = tar.extractfile(member).read()
                if suffix == "json":
                    yield {"key": key, **members}
                    members = {}


# A sample has one image or two, every MDS sample all the columns: what is not there is empty.
columns = {"key": "str", "json": "bytes", "jpg": "bytes", "0.jpg": "bytes", "1.jpg": "bytes"}
with MDSWriter(out=mds, columns=columns) as out:
    for sample in samples():
        out.write(dict.fromkeys(columns, b"") | sample)

for sample in StreamingDataset(local=mds, shuffle=False, batch_size=1):
    record = json.loads(sample["json"])
    images = [sample[name] for name in sorted(sample) if name.endswith("jpg") and sample[name]]
    turns = [[question["question"], question["answer"]] for question in record["questions"]]
    digests = [hashlib.sha256(image).hexdigest() for image in images]
    print(json.dumps({"key": record["key"], "images": digests, "turns": turns}))
