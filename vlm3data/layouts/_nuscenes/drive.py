"""How the car drives along the street: at one speed, weaving, nodding and rolling a little."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vlm3data.layouts._nuscenes.rotation import pose_of, turned
from vlm3data.types import Float64Array

CORRIDOR_M = 1.2
"""Half the width that the car needs."""
WEAVE_M = 1.1
"""The largest distance from the middle of the street."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A path through the world; time runs from 0 to `duration_s`, half of it before x = 0.

    The ego frame stands on the ground between the rear wheels: x ahead, y left, z up.
    """

    duration_s: float
    speed_mps: float
    weave_m: float
    wave_m: float
    """Length of one weave to and fro."""
    phase_rad: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, duration_s: float) -> Drive:
        """Draw a drive at 5 to 15 m/s that turns by up to 10 degrees; its yaw rate reaches 25 degrees a second."""
        speed, weave, wave, phase = rng.uniform((5.0, 0.6, 40.0, 0.0), (15.0, WEAVE_M, 60.0, 2 * np.pi)).tolist()
        return cls(duration_s, speed, weave, wave, phase)

    @property
    def reach_m(self) -> float:
        """Return how far from x = 0 the drive begins and ends."""
        return self.speed_mps * self.duration_s / 2

    def across_m(self, x_m: float) -> float:
        """Return y where the car is at `x_m`."""
        return self.weave_m * math.sin(2 * math.pi * x_m / self.wave_m + self.phase_rad)

    def world_from_ego(self, time_s: float) -> Float64Array:
        """Return the (4, 4) pose at a time."""
        x = self.speed_mps * (time_s - self.duration_s / 2)
        turn = 2 * math.pi / self.wave_m
        yaw = math.atan(self.weave_m * turn * math.cos(turn * x + self.phase_rad))
        pitch = math.radians(0.5) * math.sin(0.9 * x + self.phase_rad)
        roll = math.radians(0.8) * math.sin(0.35 * x + 2 * self.phase_rad)
        return pose_of(turned(yaw, pitch, roll), (x, self.across_m(x), 0.0))

    def corridor(self) -> list[tuple[float, float, float]]:
        """Return discs (x, y, radius) that cover the ground driven over, and what the car's length adds at the ends."""
        ends = int(self.reach_m) + 6
        return [(float(x), self.across_m(x), CORRIDOR_M) for x in range(-ends, ends + 1)]
