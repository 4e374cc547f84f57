"""Stand-ins with the interface of the packages `anycalib` and `geocalib`: they check what they are given."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import pytest


class _Network:
    """What both share with a torch module."""

    seen: Any = None

    def __init__(self, model_id: str = "", weights: str = "") -> None:
        self.name = model_id or weights

    def to(self, device: str) -> Self:
        assert device in ("cpu", "cuda")
        return self

    def eval(self) -> Self:
        return self

    def look(self, image: Any) -> tuple[int, int]:
        import torch

        assert image.dtype == torch.float32
        assert image.shape[0] == 3
        assert 0 <= image.min() <= image.max() <= 1
        type(self).seen = image
        return image.shape[2], image.shape[1]


class AnyCalib(_Network):
    answer: tuple[float, ...] | None = None

    def predict(self, image: Any, cam_id: str) -> dict[str, Any]:
        import torch

        assert cam_id == "pinhole"
        width, height = self.look(image)
        return {"intrinsics": torch.tensor(self.answer or (300.0, 310.0, width / 2 + 1, height / 2 - 2))}


class GeoCalib(_Network):
    uncertainty_px = 15.0

    def calibrate(self, image: Any) -> dict[str, Any]:
        import torch

        width, height = self.look(image)
        camera = SimpleNamespace(f=torch.tensor([[300.0, 300.0]]), c=torch.tensor([[width / 2, height / 2]]))
        return {"camera": camera, "focal_uncertainty": torch.tensor([self.uncertainty_px])}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put both where the packages would be."""
    for name, kind in {"anycalib": AnyCalib, "geocalib": GeoCalib}.items():
        module = ModuleType(name)
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, name, module)
