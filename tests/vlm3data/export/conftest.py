"""Shards with one image a sample and with two, questions of three tasks, and a mixture of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vlm3data.build import BuildConfig, build


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished dataset in three shards, samples of one view and of two beside each other."""
    out = tmp_path_factory.mktemp("shards") / "mixed"
    config = {
        "source": "synthetic",
        "options": {"width_px": 96, "height_px": 96},
        "tasks": {"depth": {}, "correspondence": {}, "pose": {}},
        "focal_px": 80.0,
        "limit": 24,
        "shard_size": 8,
        "seed": 3,
    }
    build(BuildConfig.check(config, where="test"), str(out), workers=1)
    return out


@pytest.fixture(scope="session")
def spec(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a mixture whose small dataset comes again and again; three questions a sample."""
    two = {"shards": str(shards), "limit": 6, "pixels": 3, "tasks": {"depth": 1}, "weight": 1}
    datasets = {
        "all": {"shards": str(shards), "weight": 1, "pixels": 3},
        "few": {"datasets": {"two": two}, "weight": 2},
    }
    path = tmp_path_factory.mktemp("mixture") / "mixture.yaml"
    path.write_text(yaml.safe_dump({"seed": 3, "datasets": datasets}))
    return path
