"""The things of a street as nuScenes annotates them: boxes over time, how much of each the cameras see."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vlm3data.layouts._nuscenes.job import SceneJob, placed
from vlm3data.layouts._nuscenes.rotation import pose_of, turned
from vlm3data.layouts._nuscenes.tables import Record, linked, token
from vlm3data.synth.packed import PackedWorld
from vlm3data.synth.trace import Traced
from vlm3data.types import Float64Array, Int64Array

_KINDS = {
    "car": ("vehicle.car", "vehicle.parked"),
    "person": ("human.pedestrian.adult", "pedestrian.standing"),
    "bollard": ("movable_object.barrier", None),
    "barrel": ("movable_object.trafficcone", None),
    "crate": ("movable_object.debris", None),
}
"""What is annotated, as which category, with which attribute; houses, trees and lamps are not."""


def seen_px(packed: PackedWorld, traced: Traced) -> Int64Array:
    """Return in how many pixels of a view each thing is seen."""
    owned = packed.thing >= 0
    count = np.bincount(packed.thing[owned], traced.surface_px[owned], minlength=len(packed.world.things))
    return count.astype(np.int64)


@dataclass(slots=True)
class Objects:
    """The annotations of one scene, sample by sample; a thing is annotated where the LiDAR meets it, as in nuScenes."""

    packed: PackedWorld
    global_from_world: Float64Array
    job: SceneJob
    by_thing: dict[int, list[Record]] = field(default_factory=dict)

    def annotate(
        self, sample: str, lidar_surface: Int64Array, seen: Int64Array, alone: Int64Array
    ) -> tuple[Int64Array, list[str]]:
        """Add the annotations of one sample; return which things they are of, and their tokens.

        `seen` and `alone` count, per thing, the pixels of all cameras that show it, and that would if nothing
        stood before it. The LiDAR's points that count are those that met the thing; its box holds them all, and now
        and then some of a tree's crown that hangs into it.
        """
        met = self.packed.thing[lidar_surface]
        num_points = np.bincount(met[met >= 0], minlength=len(self.packed.world.things))
        found = [i for i in np.flatnonzero(num_points).tolist() if self.packed.world.things[i].label in _KINDS]
        for index in found:
            share = float(seen[index] / alone[index]) if alone[index] else 0.0
            record = self._record(sample, index, share, int(num_points[index]))
            self.by_thing.setdefault(index, []).append(record)
        return np.array(found, np.int64), [self.by_thing[index][-1]["token"] for index in found]

    def _record(self, sample: str, index: int, share: float, num_points: int) -> Record:
        thing = self.packed.world.things[index]
        pose = self.global_from_world @ pose_of(turned(thing.yaw_rad), thing.centre_m)
        length, width, height = thing.size_m
        attribute = _KINDS[thing.label][1]
        return {
            "token": self.job.token("sample_annotation", sample, index),
            "sample_token": sample,
            "instance_token": self._instance(index),
            "visibility_token": visibility_level(share),
            "attribute_tokens": [token(self.job.seed, "attribute", attribute)] if attribute else [],
            **placed(pose),
            "size": [width, length, height],
            "num_lidar_pts": num_points,
            "num_radar_pts": 0,
        }

    def _instance(self, index: int) -> str:
        return self.job.token("instance", index)

    def annotations(self) -> list[Record]:
        """Return all annotations, thing by thing, linked over time."""
        return [record for records in self.by_thing.values() for record in linked(records)]

    def instances(self) -> list[Record]:
        """Return the things that have annotations."""
        return [
            {
                "token": self._instance(index),
                "category_token": token(self.job.seed, "category", _KINDS[self.packed.world.things[index].label][0]),
                "nbr_annotations": len(records),
                "first_annotation_token": records[0]["token"],
                "last_annotation_token": records[-1]["token"],
            }
            for index, records in self.by_thing.items()
        ]


def visibility_level(share: float) -> str:
    """Return nuScenes' bin of the share that nothing hides: 0-40, 40-60, 60-80, 80-100 %."""
    return str(1 + int(np.searchsorted((0.4, 0.6, 0.8), share, side="right")))
