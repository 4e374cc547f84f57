"""What tests share: small real-looking inputs made on the spot, and the real samples where they lie beside us."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REALDATA = Path(os.environ.get("REALDATA", Path(__file__).parents[2] / "shared" / "realdata"))
WIDTH, HEIGHT = 160, 120


def needs_realdata(folder: str) -> Path:
    """Return a folder of real samples; skip, saying why, where it is not there: it may not be redistributed."""
    path = REALDATA / folder
    if not path.exists():
        pytest.skip(f"no real samples at {path}: they may not be redistributed with the project")
    return path


def photo(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Return a JPEG with detail at every scale, as photographs have."""
    rng = np.random.default_rng(seed)
    image = sum(
        np.kron(rng.normal(0, size, (height // size + 1, width // size + 1, 3)), np.ones((size, size, 1)))[
            :height, :width
        ]
        for size in (40, 20, 8, 4)
    )
    file = io.BytesIO()
    Image.fromarray(np.clip(image + 128, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def jsonl_line(number: int, **changes: object) -> dict[str, object]:
    """Return one good record of the JSON Lines form, with `changes`."""
    rng = np.random.default_rng(number)
    pixels = np.stack([rng.permutation(WIDTH)[:20], rng.integers(0, HEIGHT, 20)], axis=1)
    record = {
        "image": f"rgb/{number}.jpg",
        "intrinsics": [150.0 + number, 150.0 + number, 80.5, 60.25, WIDTH, HEIGHT],
        "pixel_coords": pixels.tolist(),
        "depth": np.round(rng.uniform(0.5, 20, 20), 3).tolist(),
        "depth_type": "z_depth",
    }
    return record | changes


def write_jsonl(root: Path, records: list[object], name: str = "toy_train.jsonl") -> Path:
    """Write records (a str is written as it is) and an image for each good path; return `root`."""
    (root / "rgb").mkdir(parents=True, exist_ok=True)
    for number in range(len(records)):
        (root / "rgb" / f"{number}.jpg").write_bytes(photo(number))
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (root / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="session", autouse=True)
def own_index_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the indexes of remote datasets where the tests' other files are, not in the user's cache."""
    os.environ["VLM3_CACHE"] = str(tmp_path_factory.mktemp("indexes"))


@pytest.fixture
def toy_root(tmp_path: Path) -> Path:
    """Return the root of a good JSON Lines dataset with twelve images."""
    return write_jsonl(tmp_path / "toy", [jsonl_line(number) for number in range(12)])


def directory_bytes(directory: Path) -> dict[str, bytes]:
    """Return every file below `directory` by its relative path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}
