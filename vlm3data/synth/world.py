"""What a generated world is made of, and the builder that the domains fill.

World axes: x and y horizontal, z up, metres. A block's faces come in the order +x -x +y -y +z -z of its own
axes, which a yaw about z turns.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

Colour = tuple[float, float, float]
WHITE: Colour = (1.0, 1.0, 1.0)


class Surface(NamedTuple):
    """A material by name, multiplied by a colour."""

    material: str
    tint: Colour = WHITE


class Plane(NamedTuple):
    """An endless plane `normal . p = offset_m`; the normal points to the side that cameras are on."""

    normal: tuple[float, float, float]
    offset_m: float
    surface: Surface
    origin_m: tuple[float, float] = (0.0, 0.0)
    """Shift of the texture, metres along its two axes."""
    is_sky: bool = False


class Block(NamedTuple):
    """A box turned by `yaw_rad` about the vertical; `thing` is an index into `World.things` or -1."""

    centre_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float
    ends: Surface
    sides: Surface
    top: Surface
    thing: int


class Ball(NamedTuple):
    """A sphere."""

    centre_m: tuple[float, float, float]
    radius_m: float
    surface: Surface
    thing: int


class Post(NamedTuple):
    """A vertical cylinder that stands on `base_m`."""

    base_m: tuple[float, float, float]
    radius_m: float
    height_m: float
    side: Surface
    top: Surface
    thing: int


class Thing(NamedTuple):
    """An object with a name, made of one or more parts that all lie in its box."""

    label: str
    centre_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float
    round: bool = False
    """Whether its outline seen from above is a circle."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where cameras may be, and how they may look, degrees (pitch > 0 looks up)."""

    low_m: tuple[float, float]
    high_m: tuple[float, float]
    height_m: tuple[float, float]
    pitch_deg: tuple[float, float]
    step_m: tuple[float, float] = (0.3, 2.0)
    """How far a further view is from the first."""
    bank_deg: float = 20.0
    """Cameras roll by this at most, mostly far less; further views tilt and roll by up to 0.4 of it more."""
    aimed: float = 0.65
    """Share of cameras that turn towards some object instead of anywhere."""
    largest: float = 0.75
    """No single surface fills more of the picture than this."""


@dataclass(frozen=True, slots=True)
class Light:
    """One distant lamp and an ambient share; `towards` points to the lamp, `gain` is the exposure."""

    towards: tuple[float, float, float]
    ambient: float
    gain: Colour


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is drawn, and where cameras may stand."""

    planes: tuple[Plane, ...]
    blocks: tuple[Block, ...]
    balls: tuple[Ball, ...]
    posts: tuple[Post, ...]
    things: tuple[Thing, ...]
    light: Light
    stand: Stand


def beside(x: float, y: float, yaw_rad: float, along: float, across: float) -> tuple[float, float]:
    """Return the point `along` and `across` metres from (x, y) in axes turned by `yaw_rad`."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return x + c * along - s * across, y + s * along + c * across


@dataclass(slots=True)
class Builder:
    """Collects parts: of an object inside `with builder.thing(...)`, otherwise of none (walls, kerbs, houses)."""

    planes: list[Plane] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    balls: list[Ball] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    discs: list[tuple[float, float, float]] = field(default_factory=list)
    """Ground that is taken: x, y, radius."""
    _current: int = -1

    @contextmanager
    def thing(
        self, label: str, x: float, y: float, z: float, size: tuple[float, float, float], yaw: float | None = None
    ) -> Generator[None]:
        """Let the parts added inside `with` belong to one object, whose box stands on height `z`.

        Without a yaw the object is round.
        """
        self.things.append(Thing(label, (x, y, z + size[2] / 2), size, yaw or 0.0, yaw is None))
        self._current = len(self.things) - 1
        yield
        self._current = -1

    def block(
        self,
        x: float,
        y: float,
        z: float,
        size: tuple[float, float, float],
        yaw: float,
        sides: Surface,
        *,
        top: Surface | None = None,
        ends: Surface | None = None,
    ) -> None:
        """Add a box that stands on height `z`; `ends` are its faces along x, `sides` those along y."""
        centre = (x, y, z + size[2] / 2)
        self.blocks.append(Block(centre, size, yaw, ends or sides, sides, top or sides, self._current))

    def ball(self, x: float, y: float, z: float, radius: float, surface: Surface) -> None:
        """Add a sphere with its centre at height `z`."""
        self.balls.append(Ball((x, y, z), radius, surface, self._current))

    def post(
        self, x: float, y: float, z: float, radius: float, height: float, side: Surface, top: Surface | None = None
    ) -> None:
        """Add a vertical cylinder that stands on height `z`."""
        self.posts.append(Post((x, y, z), radius, height, side, top or side, self._current))

    def claim(self, x: float, y: float, radius: float) -> bool:
        """Take a disc of ground; False, and nothing taken, where it overlaps one that is taken."""
        return self.claim_all([(x, y, radius)])

    def claim_all(self, wanted: list[tuple[float, float, float]]) -> bool:
        """Take several discs (x, y, radius), which may overlap each other, or none of them."""
        for x, y, radius in wanted:
            for a, b, r in self.discs:
                if (x - a) * (x - a) + (y - b) * (y - b) < (radius + r) * (radius + r):
                    return False
        self.discs += wanted
        return True

    def world(self, light: Light, stand: Stand) -> World:
        """Return the finished world."""
        parts = (tuple(self.planes), tuple(self.blocks), tuple(self.balls), tuple(self.posts))
        return World(*parts, tuple(self.things), light, stand)
