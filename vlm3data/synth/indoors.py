"""The domains under a roof: a furnished room, and a hall with columns, containers and crates."""

from __future__ import annotations

import numpy as np

from vlm3data.synth import props
from vlm3data.synth.world import Builder, Plane, Stand, Surface, World, beside


def _shell(b: Builder, size: tuple[float, float, float], floor: Surface, wall: Surface, ceiling: Surface) -> None:
    """Add floor, ceiling and four walls around the origin."""
    half_x, half_y, height = size[0] / 2, size[1] / 2, size[2]
    corner = (half_x, half_y)
    b.planes.append(Plane((0.0, 0.0, 1.0), 0.0, floor, corner))
    b.planes.append(Plane((0.0, 0.0, -1.0), -height, ceiling, corner))
    for sign in (-1.0, 1.0):
        b.planes.append(Plane((sign, 0.0, 0.0), -half_x, wall, (half_y, 0.0)))
        b.planes.append(Plane((0.0, sign, 0.0), -half_y, wall, (half_x, 0.0)))


def _wall_spot(
    rng: np.random.Generator, size: tuple[float, float, float], side: int, inset: float, wide: float
) -> tuple[float, float, float]:
    """Return x, y and the yaw whose +y points into the room, at a random place along one of the four walls."""
    length, reach = (size[0], size[1]) if side % 2 == 0 else (size[1], size[0])
    yaw = side * np.pi / 2
    along = float(rng.uniform(-0.5, 0.5)) * max(length - wide, 0.0)
    x, y = beside(0.0, 0.0, yaw, along, inset - reach / 2)
    return x, y, yaw


_FURNITURE: tuple[tuple[props.Prop, float, float], ...] = (
    (props.sofa, 2.0, 0.9), (props.cupboard, 0.9, 0.5), (props.bed, 1.4, 2.0), (props.table, 1.6, 0.9),
    (props.cupboard, 0.9, 0.5), (props.floor_lamp, 0.5, 0.5), (props.crate, 0.6, 0.6),
)  # fmt: skip
_LOOSE: tuple[props.Prop, ...] = (
    props.chair, props.chair, props.table, props.ball, props.crate, props.floor_lamp, props.person,
)  # fmt: skip


def room(rng: np.random.Generator) -> World:
    """A room of 3 to 9 m with doors, windows and furniture, most of it against the walls."""
    b = Builder()
    size = (props.log_uniform(rng, 2.9, 9), props.log_uniform(rng, 2.9, 9), float(rng.uniform(2.4, 3.4)))
    wall = props.pick(rng, ("stripes", "stripes", "stripes", "brick", "wall_tiles", "boards"))
    tint = props.wash(rng)
    floor = Surface(props.pick(rng, ("planks", "chequer", "paving")), props.wash(rng))
    _shell(b, size, floor, Surface(wall, tint), Surface("ceiling"))
    for side in range(4):
        if rng.random() < 0.65:
            x, y, yaw = _wall_spot(rng, size, side, 0.0, 1.4)
            in_x, in_y = beside(x, y, yaw, 0.0, 0.5)
            if b.claim(in_x, in_y, 0.45):
                if rng.random() < 0.55:
                    props.door(b, x, y, yaw, props.paint(rng, 0.45))
                else:
                    props.window(b, x, y, yaw)
    area = round(size[0] * size[1])
    for _ in range(int(rng.integers(4, 8 + area // 5))):
        prop, wide, deep = _FURNITURE[int(rng.integers(len(_FURNITURE)))]
        x, y, yaw = _wall_spot(rng, size, int(rng.integers(4)), deep / 2 + 0.02, wide)
        if wide < min(size[:2]) and b.claim(x, y, 0.36 * (wide + deep)):
            prop(b, rng, x, y, 0.0, yaw)
    for _ in range(int(rng.integers(2, 4 + area // 8))):
        x, y = (float(rng.uniform(-0.5, 0.5)) * (side - 1.0) for side in size[:2])
        if b.claim(x, y, 0.45):
            _LOOSE[int(rng.integers(len(_LOOSE)))](b, rng, x, y, 0.0, float(rng.uniform(0, 2 * np.pi)))
    low, high = (-size[0] / 2 + 0.35, -size[1] / 2 + 0.35), (size[0] / 2 - 0.35, size[1] / 2 - 0.35)
    stand = Stand(low, high, (0.35, size[2] - 0.3), (-45, 22), (0.3, 1.2))
    return b.world(props.sun(rng, 0.68), stand)


_GOODS: tuple[props.Prop, ...] = (
    props.crate, props.big_crate, props.barrel, props.barrel, props.person, props.big_crate, props.table,
)  # fmt: skip


def hall(rng: np.random.Generator) -> World:
    """A hall of 12 to 40 m with columns on a grid, containers, stacked crates, barrels and people."""
    b = Builder()
    size = (props.log_uniform(rng, 12, 40), props.log_uniform(rng, 12, 40), float(rng.uniform(4.5, 9)))
    wall = Surface(props.pick(rng, ("brick", "ribbed", "brick_front", "slabs")), props.wash(rng))
    floor = Surface(props.pick(rng, ("slabs", "chequer", "paving")), props.wash(rng))
    _shell(b, size, floor, wall, Surface("ribbed", (0.8, 0.82, 0.85)))
    for side in range(4):
        for _ in range(2):
            x, y, yaw = _wall_spot(rng, size, side, 0.0, 2.0)
            if b.claim(x, y, 1.0):
                props.door(b, x, y, yaw, props.paint(rng, 0.45))
    if rng.random() < 0.75:
        bay = float(rng.uniform(5, 8))
        column = Surface(props.pick(rng, ("smooth", "brick", "slabs")), props.wash(rng))
        for x in np.arange(-size[0] / 2 + bay, size[0] / 2 - 1.0, bay).tolist():
            for y in np.arange(-size[1] / 2 + bay, size[1] / 2 - 1.0, bay).tolist():
                if b.claim(x, y, 0.4):
                    with b.thing("column", x, y, 0.0, (0.6, 0.6, size[2])):
                        b.post(x, y, 0.0, 0.3, size[2], column)
    for _ in range(int(rng.integers(0, 4))):
        x, y = (float(rng.uniform(-0.5, 0.5)) * (side - 7.0) for side in size[:2])
        if b.claim(x, y, 3.0):
            props.container(b, rng, x, y, 0.0, float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.1)))
    for _ in range(int(rng.integers(10, 28))):
        reach = 1.0 if rng.random() < 0.6 else 0.4
        x, y = (float(rng.uniform(-0.5, 0.5)) * (side - 1.6) * reach for side in size[:2])
        if b.claim(x, y, 0.85):
            _goods(b, rng, x, y)
    low, high = (-size[0] / 2 + 0.6, -size[1] / 2 + 0.6), (size[0] / 2 - 0.6, size[1] / 2 - 0.6)
    stand = Stand(low, high, (0.4, min(6.0, size[2] - 0.5)), (-40, 16))
    return b.world(props.sun(rng, 0.65), stand)


def _goods(b: Builder, rng: np.random.Generator, x: float, y: float) -> None:
    """One thing, or two or three crates on top of each other."""
    yaw = float(rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.3:
        for level in range(int(rng.integers(2, 4))):
            props.big_crate(b, rng, x, y, 1.2 * level, yaw + float(rng.normal(0, 0.08)))
    else:
        _GOODS[int(rng.integers(len(_GOODS)))](b, rng, x, y, 0.0, yaw)
