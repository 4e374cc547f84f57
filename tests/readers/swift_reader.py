"""Loads an export in the format sharegpt with ms-swift's loader: a line of JSON a sample.

Run by a Python that has `ms-swift`, in the export's directory, since its image paths are relative: `python
swift_reader.py data.jsonl`.
"""

import contextlib
import hashlib
import json
import sys
from pathlib import Path

with contextlib.redirect_stdout(sys.stderr):
    from swift.dataset import load_dataset

    rows, _ = load_dataset([sys.argv[1]], use_hf=True, load_from_cache_file=False)
    rows = list(rows)

for row in rows:
    images = [hashlib.sha256(image["bytes"] or Path(image["path"]).read_bytes()).hexdigest() for image in row["images"]]
    said = [[message["role"], message["content"]] for message in row["messages"]]
    print(json.dumps({"images": images, "said": said}))
