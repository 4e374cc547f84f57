"""What the wheel and the sdist hold, as the build backend lists it: all that the commands read, all that tests need."""

from __future__ import annotations

from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PACKAGES = ("vlm3data", "vlm3train", "pipelines")


def files(*directories: str) -> set[str]:
    """Return what lies below these directories, but for what Python and tools leave there."""
    found = (path for directory in directories for path in (ROOT / directory).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


@pytest.mark.parametrize(
    ("builder", "directories"),
    [(WheelBuilder, PACKAGES), (SdistBuilder, (*PACKAGES, "tests", "benchmarks", "docs", "mixtures"))],
)
def test_a_package_holds_all_that_is_needed(builder, directories):
    held = {each.distribution_path for each in builder(str(ROOT)).recurse_included_files()}
    assert files(*directories) - held == set()
    if builder is SdistBuilder:
        assert {".ci/run", "Makefile", "constraints.txt", "LICENSE", "README.md"} <= held
