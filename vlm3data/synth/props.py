"""Objects of known size that the domains place: cars, people, trees, furniture, crates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vlm3data.synth.materials import CAR_M, DOOR_M, WINDOW_M
from vlm3data.synth.world import Builder, Colour, Light, Surface, beside

Prop = Callable[[Builder, np.random.Generator, float, float, float, float], None]
"""Adds itself at x, y, z with a yaw in radians."""


def paint(rng: np.random.Generator, low: float = 0.3, high: float = 1.0) -> Colour:
    """Return a colour, each channel between `low` and `high`."""
    red, green, blue = rng.uniform(low, high, 3).tolist()
    return red, green, blue


def wash(rng: np.random.Generator) -> Colour:
    """Return a pale colour for walls and floors: any brightness, little hue."""
    red, green, blue = (rng.uniform(0.7, 1.1) * rng.uniform(0.9, 1.08, 3)).tolist()
    return red, green, blue


def pick(rng: np.random.Generator, names: Sequence[str]) -> str:
    """Return one of `names`."""
    return names[int(rng.integers(len(names)))]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def sun(rng: np.random.Generator, ambient: float) -> Light:
    """Return a lamp 25 to 70 degrees above the horizon, with a slightly coloured exposure."""
    azimuth, height = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(25, 70))
    gain = rng.uniform(0.9, 1.2) * rng.uniform(0.95, 1.05, 3)
    towards = (float(np.cos(azimuth)), float(np.sin(azimuth)), float(np.tan(height)))
    return Light(towards, ambient, (float(gain[0]), float(gain[1]), float(gain[2])))


def car(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A car of 4.5 x 1.8 x 1.5 m along `yaw`."""
    colour = paint(rng, 0.15)
    length, width, height = CAR_M
    with b.thing("car", x, y, z, CAR_M, yaw):
        body, roof = Surface("car_side", colour), Surface("smooth", colour)
        b.block(x, y, z, (length, width, 0.95), yaw, body, top=roof, ends=Surface("car_end", colour))
        cabin_x, cabin_y = beside(x, y, yaw, -0.25, 0.0)
        glass, shield = Surface("cabin_side", colour), Surface("cabin_end", colour)
        b.block(cabin_x, cabin_y, z + 0.95, (2.5, 1.6, height - 0.95), yaw, glass, top=roof, ends=shield)


def person(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """Somebody of 1.76 m."""
    with b.thing("person", x, y, z, (0.44, 0.44, 1.76)):
        coat = paint(rng, 0.25)
        b.post(x, y, z, 0.22, 1.5, Surface("dressed", coat), Surface("smooth", coat))
        skin = float(rng.uniform(0.45, 1.0))
        b.ball(x, y, z + 1.63, 0.13, Surface("smooth", (0.95 * skin, 0.74 * skin, 0.6 * skin)))


def tree(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A trunk and a round crown, 3 to 7 m high."""
    radius, trunk = float(rng.uniform(0.9, 1.9)), float(rng.uniform(1.6, 3.2))
    with b.thing("tree", x, y, z, (2 * radius, 2 * radius, trunk + 1.8 * radius)):
        b.post(x, y, z, 0.16, trunk, Surface("bark"))
        shade = float(rng.uniform(0.75, 1.15))
        b.ball(x, y, z + trunk + 0.8 * radius, radius, Surface("leaves", (shade, shade, shade)))


def lamp_post(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A street lamp of 5 m."""
    with b.thing("lamp", x, y, z, (0.44, 0.44, 5.0)):
        b.post(x, y, z, 0.07, 4.6, Surface("smooth", (0.25, 0.28, 0.28)))
        b.ball(x, y, z + 4.78, 0.22, Surface("smooth", (1.1, 1.1, 1.0)))


def bollard(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A post of 0.9 m."""
    with b.thing("bollard", x, y, z, (0.2, 0.2, 0.9)):
        b.post(x, y, z, 0.1, 0.9, Surface("smooth", (0.75, 0.2, 0.15)))


def barrel(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A steel drum of 0.58 x 0.88 m."""
    colour = paint(rng, 0.2)
    with b.thing("barrel", x, y, z, (0.58, 0.58, 0.88)):
        b.post(x, y, z, 0.29, 0.88, Surface("drum", colour), Surface("smooth", colour))


def crate(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A wooden crate of 0.6 m."""
    with b.thing("crate", x, y, z, (0.6, 0.6, 0.6), yaw):
        b.block(x, y, z, (0.6, 0.6, 0.6), yaw, Surface("crate"))


def big_crate(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A wooden crate of 1.2 m."""
    with b.thing("crate", x, y, z, (1.2, 1.2, 1.2), yaw):
        b.block(x, y, z, (1.2, 1.2, 1.2), yaw, Surface("big_crate", (0.95, 1.0, 0.9)))


def container(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A shipping container of 6.1 x 2.4 x 2.6 m."""
    with b.thing("container", x, y, z, (6.1, 2.4, 2.6), yaw):
        b.block(x, y, z, (6.1, 2.4, 2.6), yaw, Surface("ribbed", paint(rng, 0.25)))


def stone(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A boulder, half in the ground; its box covers the whole ball."""
    radius = float(rng.uniform(0.3, 0.8))
    with b.thing("stone", x, y, z - radius * 0.6, (2 * radius, 2 * radius, 2 * radius)):
        b.ball(x, y, z + radius * 0.4, radius, Surface("stone"))


def ball(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A football."""
    with b.thing("ball", x, y, z, (0.22, 0.22, 0.22)):
        b.ball(x, y, z + 0.11, 0.11, Surface("cloth", paint(rng, 0.4)))


def big_ball(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A ball of 1 m."""
    with b.thing("ball", x, y, z, (1.0, 1.0, 1.0)):
        b.ball(x, y, z + 0.5, 0.5, Surface("cloth", paint(rng, 0.4)))


def _on_legs(
    b: Builder, x: float, y: float, z: float, yaw: float, size: tuple[float, float, float], top: Surface
) -> None:
    b.block(x, y, z + size[2] - 0.04, (size[0], size[1], 0.04), yaw, top)
    for sign_x in (-1, 1):
        for sign_y in (-1, 1):
            leg = beside(x, y, yaw, sign_x * (size[0] / 2 - 0.05), sign_y * (size[1] / 2 - 0.05))
            b.post(*leg, z, 0.03, size[2] - 0.04, Surface("smooth", (0.3, 0.25, 0.2)))


def table(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A table of 1.6 x 0.9 x 0.75 m, often with a box on it."""
    with b.thing("table", x, y, z, (1.6, 0.9, 0.75), yaw):
        _on_legs(b, x, y, z, yaw, (1.6, 0.9, 0.75), Surface("boards", (1.3, 1.2, 1.1)))
    if rng.random() < 0.6:
        on_x, on_y = beside(x, y, yaw, float(rng.uniform(-0.5, 0.5)), 0.1)
        with b.thing("box", on_x, on_y, z + 0.75, (0.4, 0.3, 0.25), yaw):
            b.block(on_x, on_y, z + 0.75, (0.4, 0.3, 0.25), yaw, Surface("cloth", (0.85, 0.68, 0.45)))


def chair(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A chair of 0.45 x 0.45 x 0.9 m."""
    with b.thing("chair", x, y, z, (0.45, 0.45, 0.9), yaw):
        seat = Surface("cloth", paint(rng, 0.4))
        b.block(x, y, z, (0.45, 0.45, 0.45), yaw, Surface("smooth", (0.45, 0.33, 0.22)), top=seat)
        b.block(*beside(x, y, yaw, 0.0, -0.2), z + 0.45, (0.45, 0.05, 0.45), yaw, seat)


def sofa(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A sofa of 2.0 x 0.9 x 0.85 m, its back towards -y."""
    with b.thing("sofa", x, y, z, (2.0, 0.9, 0.85), yaw):
        fabric = Surface("cloth", paint(rng, 0.3))
        b.block(x, y, z, (2.0, 0.9, 0.42), yaw, fabric)
        b.block(*beside(x, y, yaw, 0.0, -0.35), z, (2.0, 0.2, 0.85), yaw, fabric)
        for sign in (-1, 1):
            b.block(*beside(x, y, yaw, sign * 0.9, 0.0), z, (0.2, 0.9, 0.6), yaw, fabric)


def bed(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A bed of 1.4 x 2.0 x 0.9 m, its head towards -y."""
    with b.thing("bed", x, y, z, (1.4, 2.0, 0.9), yaw):
        wood = Surface("boards")
        b.block(x, y, z, (1.4, 2.0, 0.3), yaw, wood)
        b.block(x, y, z + 0.3, (1.36, 1.96, 0.2), yaw, Surface("cloth", paint(rng, 0.5)))
        b.block(*beside(x, y, yaw, 0.0, -0.97), z, (1.4, 0.06, 0.9), yaw, wood)


def cupboard(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A cupboard of 0.9 x 0.5 x 1.8 m."""
    with b.thing("cupboard", x, y, z, (0.9, 0.5, 1.8), yaw):
        b.block(x, y, z, (0.9, 0.5, 1.8), yaw, Surface("boards", (1.25, 1.1, 1.0)))


def floor_lamp(b: Builder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """A standing lamp of 1.6 m."""
    with b.thing("lamp", x, y, z, (0.4, 0.4, 1.6)):
        b.post(x, y, z, 0.02, 1.4, Surface("smooth", (0.2, 0.2, 0.2)))
        b.ball(x, y, z + 1.4, 0.2, Surface("smooth", (1.1, 1.05, 0.85)))


def door(b: Builder, x: float, y: float, yaw: float, colour: Colour) -> None:
    """A door of 0.9 x 2.1 m in a wall that runs along `yaw` through (x, y)."""
    with b.thing("door", x, y, 0.0, (DOOR_M[0], 0.1, DOOR_M[1]), yaw):
        b.block(x, y, 0.0, (DOOR_M[0], 0.1, DOOR_M[1]), yaw, Surface("door", colour), ends=Surface("smooth", colour))


def window(b: Builder, x: float, y: float, yaw: float) -> None:
    """A window of 1.2 x 1.5 m, its sill at 0.8 m, in a wall that runs along `yaw` through (x, y)."""
    with b.thing("window", x, y, 0.8, (WINDOW_M[0], 0.12, WINDOW_M[1]), yaw):
        b.block(x, y, 0.8, (WINDOW_M[0], 0.12, WINDOW_M[1]), yaw, Surface("window"), ends=Surface("smooth"))
