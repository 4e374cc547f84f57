"""The datasets that runs learn from and are scored on: generated scenes, built into shards as a user would."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm3data.build import BuildConfig, build

PACKS = "benchmarks/claims/wordings"
WORDINGS = {
    "depth": "vlm3data/wordings/depth_short.yaml",
    "depth by marker": "vlm3data/wordings/depth_marker.yaml",
    "correspondence": f"{PACKS}/correspondence.yaml",
    "pose": f"{PACKS}/pose.yaml",
    "objects": "vlm3data/wordings/objects.yaml",
}
"""Short ones: a model from scratch has every word to learn, and each costs time."""
FOCAL_PX = 222.0
"""Of pictures 256 px wide that span 60 degrees, and a third of a pixel more, so that rounding shrinks none."""


@dataclass(frozen=True)
class Pictures:
    """One dataset of shards. Two with the same name are the same."""

    domain: str
    split: str
    images: int
    kind: str = ""
    """What sets it apart from the domain's plain pictures, in a word."""
    config: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    """Of the build, in place of what is plain."""
    options: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    """Of the source, likewise."""

    @property
    def name(self) -> str:
        """Return its directory's name."""
        return "-".join(part for part in (self.domain, self.kind, self.split, str(self.images)) if part)

    def build_config(self) -> BuildConfig:
        """Return what `vlm3data build` would be told."""
        plain = {
            "source": "synthetic",
            "split": self.split,
            "limit": self.images,
            "options": {"domains": [self.domain], "views": 1, "size_jitter": 0.0, "hfov_deg": [60, 60]} | self.options,
            "tasks": {"depth": {"wordings": WORDINGS["depth"]}},
            "focal_px": FOCAL_PX,
            "shard_size": 250,
        }
        return BuildConfig.check(plain | self.config, where=self.name)

    def at(self, root: Path) -> str:
        """Return where its shards are."""
        return str(root / self.name)

    def of_size(self, images: int) -> Pictures:
        """Return the same with another number of images."""
        return dataclasses.replace(self, images=images)


def build_missing(pictures: Iterable[Pictures], root: Path, workers: int, tell: Callable[[str], object]) -> None:
    """Build what is not there yet."""
    for one in dict.fromkeys(pictures):
        if not (root / one.name / "dataset.json").exists():
            tell(f"building {one.name}")
            build(one.build_config(), one.at(root), workers=workers)
