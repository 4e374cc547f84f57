"""Every plugin in one line each; names resolve to modules only when asked for.

Others plug in from outside through entry points in the groups `vlm3.source`, `vlm3.task`, `vlm3.calibrator`,
`vlm3.weighting`, `vlm3.layout` and `vlm3.engine`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from vlm3data.errors import UserError

PLUGINS: dict[str, dict[str, str]] = {
    "source": {
        "colmap": "vlm3data.sources.colmap:ColmapSource",
        "ibims": "vlm3data.sources.ibims:IbimsSource",
        "jsonl": "vlm3data.sources.jsonl:JsonlSource",
        "megadepth": "vlm3data.sources.megadepth:MegadepthSource",
        "nuscenes": "vlm3data.sources.nuscenes:NuscenesSource",
        "rgbd": "vlm3data.sources.rgbd:RgbdSource",
        "scannet": "vlm3data.sources.scannet:ScannetSource",
        "spatialrgpt": "vlm3data.sources.spatialrgpt:SpatialRgptSource",
        "synthetic": "vlm3data.sources.synthetic:SyntheticSource",
        "wai": "vlm3data.sources.wai:WaiSource",
    },
    "task": {
        "correspondence": "vlm3data.tasks.correspondence:CorrespondenceTask",
        "depth": "vlm3data.tasks.depth:DepthTask",
        "objects": "vlm3data.tasks.objects:ObjectsTask",
        "pose": "vlm3data.tasks.pose:PoseTask",
    },
    "calibrator": {
        "anycalib": "vlm3train.calibrators.anycalib:AnyCalibCalibrator",
        "exif": "vlm3data.calibrators.exif:ExifCalibrator",
        "fov": "vlm3data.calibrators.fov:FovCalibrator",
        "geocalib": "vlm3train.calibrators.geocalib:GeoCalibCalibrator",
        "vanishing": "vlm3data.calibrators.vanishing:VanishingCalibrator",
    },
    "weighting": {
        "explicit": "vlm3data.weighting.explicit:Explicit",
        "imported": "vlm3data.weighting.imported:Imported",
        "repeat": "vlm3data.weighting.repeat:Repeat",
        "size": "vlm3data.weighting.size:Size",
        "temperature": "vlm3data.weighting.temperature:Temperature",
        "tokens": "vlm3data.weighting.tokens:Tokens",
        "uniform": "vlm3data.weighting.uniform:Uniform",
        "unimax": "vlm3data.weighting.unimax:Unimax",
    },
    "layout": {
        "colmap": "vlm3data.layouts.colmap:ColmapLayout",
        "ibims": "vlm3data.layouts.ibims:IbimsLayout",
        "megadepth": "vlm3data.layouts.megadepth:MegadepthLayout",
        "nuscenes": "vlm3data.layouts.nuscenes:NuscenesLayout",
        "rgbd": "vlm3data.layouts.rgbd:RgbdLayout",
        "scannet": "vlm3data.layouts.scannet:ScannetLayout",
        "wai": "vlm3data.layouts.wai:WaiLayout",
    },
    "engine": {
        "local": "vlm3data.engine_local:run",
        "ray": "pipelines.engine_ray:run",
    },
}


def names(kind: str) -> list[str]:
    """Return the names known for `kind`, ours and those installed beside us, sorted."""
    return sorted(_known(kind))


def load(kind: str, name: str) -> Any:
    """Import and return the plugin `name` of `kind`; an unknown name lists the choices."""
    known = _known(kind)
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}; known: {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)


@cache  # looking through the installed packages takes milliseconds
def _known(kind: str) -> dict[str, str]:
    return PLUGINS[kind] | {point.name: point.value for point in entry_points(group=f"vlm3.{kind}")}
