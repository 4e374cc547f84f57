"""The domains under the sky: a street between houses, a yard between fences, a tiled court and a bare square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm3data.synth import props
from vlm3data.synth.materials import SLAB_M, STOREY_M
from vlm3data.synth.world import Builder, Plane, Stand, Surface, World, beside

LANE_M = 3.5
KERB_M = 0.14
SKY_M = 400.0
ALONG_M = 75.0
"""A street reaches this far both ways, unless told otherwise."""


def _sky() -> Plane:
    return Plane((0.0, 0.0, -1.0), -SKY_M, Surface("sky"), is_sky=True)


def _ground(material: str, y_origin: float = 0.0) -> Plane:
    return Plane((0.0, 0.0, 1.0), 0.0, Surface(material), (0.0, y_origin))


def street(
    rng: np.random.Generator, along_m: float = ALONG_M, free: Sequence[tuple[float, float, float]] = ()
) -> World:
    """A road along x with kerbs, houses of whole storeys and bays, cars, people, lamps and trees.

    It reaches `along_m` both ways, as full of things everywhere; nothing but crowns of trees stands on the discs
    of ground (x, y, radius) in `free`, where they lie within half of that.
    """
    b = Builder()
    b.discs += free
    longer = along_m / ALONG_M
    half_road = LANE_M * int(rng.integers(1, 3))
    walk = SLAB_M[0] * int(rng.integers(3, 11))
    b.planes += [_ground("asphalt"), _sky()]
    # The lane's texture runs across its x, so the road is a slab whose x lies across the street.
    b.block(0.0, 0.0, -0.09, (2 * half_road, 2 * along_m, 0.1), np.pi / 2, Surface("lane"))
    for side in (-1, 1):
        y = side * (half_road + walk / 2)
        b.block(
            0.0,
            y,
            0.0,
            (2 * along_m, walk, KERB_M),
            0.0,
            Surface("smooth", (0.72, 0.7, 0.68)),
            top=Surface("paving"),
        )
        _houses(b, rng, side, half_road + walk, along_m)
    if rng.random() < 0.6:
        _closing_house(b, rng, half_road + walk, along_m)
    for _ in range(int(rng.integers(4, 12) * longer)):
        x, side = longer * float(rng.uniform(-38, 38)), 1 if rng.random() < 0.5 else -1
        parked = rng.random() < 0.6
        y = side * (half_road - 1.1 if parked else half_road / 2)
        if b.claim_all([(x + dx, y, 1.0) for dx in (-1.4, 0.0, 1.4)]):
            yaw = (0.0 if side < 0 else np.pi) + float(rng.normal(0, 0.03))
            props.car(b, rng, x, y, 0.01, yaw)
    for _ in range(int(rng.integers(8, 18) * longer)):
        x, side = longer * float(rng.uniform(-30, 30)), 1 if rng.random() < 0.5 else -1
        y = side * float(half_road + rng.uniform(0.35, walk - 0.35))
        prop = _WALK[int(rng.integers(len(_WALK)))]
        if b.claim(x, y, 0.35):
            prop(b, rng, x, y, KERB_M, float(rng.uniform(0, np.pi)))
    edge = half_road + walk - 0.4
    stand = Stand((-25, -edge), (25, edge), (0.5, 9.0), (-38, 14))
    return b.world(props.sun(rng, 0.55), stand)


_WALK: tuple[props.Prop, ...] = (
    props.person, props.person, props.lamp_post, props.bollard, props.tree, props.barrel, props.crate,
)  # fmt: skip


def _houses(b: Builder, rng: np.random.Generator, side: int, front: float, along_m: float) -> None:
    """Stand houses along one side, each a whole number of bays wide, most with a door between two bays."""
    x = -along_m
    while x < along_m:
        bays, storeys = int(rng.integers(4, 10)), int(rng.integers(1, 6))
        width, height, depth = bays * STOREY_M, storeys * STOREY_M, 9.0
        setback = (0.0, 0.0, 0.5, 1.5)[int(rng.integers(4))]
        wall = Surface(props.pick(rng, ("brick_front", "plaster_front")), props.wash(rng))
        y = side * (front + setback + depth / 2)
        b.block(x + width / 2, y, 0.0, (width, depth, height), 0.0, wall, top=Surface("slabs"))
        if rng.random() < 0.85:
            bay = int(rng.integers(1, bays))
            props.door(b, x + bay * STOREY_M, side * (front + setback), 0.0, props.paint(rng, 0.35))
        x += width + (float(rng.uniform(2, 8)) if rng.random() < 0.3 else 0.0)


def _closing_house(b: Builder, rng: np.random.Generator, front: float, along_m: float) -> None:
    """Stand a house across the street."""
    bays = 2 * int(np.ceil(front / STOREY_M)) + 2
    x = float((-1 if rng.random() < 0.5 else 1) * (along_m * rng.uniform(0.5, 0.95) + 5))
    wall = Surface(props.pick(rng, ("brick_front", "plaster_front")), props.wash(rng))
    size = (10.0, bays * STOREY_M, STOREY_M * int(rng.integers(2, 6)))
    b.block(x, 0.0, 0.0, size, 0.0, wall, top=Surface("slabs"))


_CLUTTER: tuple[props.Prop, ...] = (
    props.stone, props.stone, props.tree, props.tree, props.crate, props.big_crate, props.barrel,
    props.person, props.table, props.bollard,
)  # fmt: skip


def yard(rng: np.random.Generator) -> World:
    """Open ground between fences or walls, with sheds, trees, stones, crates and now and then a car."""
    b = Builder()
    b.planes += [_ground(props.pick(rng, ("grass", "grass", "gravel", "paving", "slabs"))), _sky()]
    half_x, half_y = props.log_uniform(rng, 5, 28), props.log_uniform(rng, 5, 28)
    fence, height = ("fence", 1.8) if rng.random() < 0.65 else ("brick", 2.4)
    tint = props.wash(rng)
    for side in (-1, 1):
        b.block(0.0, side * half_y, 0.0, (2 * half_x, 0.12, height), 0.0, Surface(fence, tint))
        b.block(side * half_x, 0.0, 0.0, (2 * half_y, 0.12, height), np.pi / 2, Surface(fence, tint))
    if rng.random() < 0.6:
        width = SLAB_M[0] * int(rng.integers(2, 6))
        y = float(rng.uniform(-0.5, 0.5) * half_y)
        b.block(0.0, y, 0.0, (2 * half_x - 0.2, width, 0.03), 0.0, Surface("paving"))
    for _ in range(int(rng.integers(1, 4))):
        _shed(b, rng, half_x, half_y)
    if rng.random() < 0.5 and min(half_x, half_y) > 6:
        x, y = float(rng.uniform(-1, 1) * (half_x - 3)), float(rng.uniform(-1, 1) * (half_y - 3))
        if b.claim(x, y, 2.5):
            props.car(b, rng, x, y, 0.0, float(rng.uniform(0, 2 * np.pi)))
    for _ in range(int(rng.integers(8, 20))):
        reach = 1.0 if rng.random() < 0.5 else 0.45
        x, y = (
            float(rng.uniform(-1, 1) * (half_x - 0.8) * reach),
            float(rng.uniform(-1, 1) * (half_y - 0.8) * reach),
        )
        if b.claim(x, y, 0.75):
            _CLUTTER[int(rng.integers(len(_CLUTTER)))](b, rng, x, y, 0.0, float(rng.uniform(0, 2 * np.pi)))
    for side in range(4):
        if rng.random() < 0.6:
            _neighbour(b, rng, side, half_x, half_y)
    margin = 0.6
    stand = Stand((margin - half_x, margin - half_y), (half_x - margin, half_y - margin), (0.3, 5.5), (-42, 12))
    return b.world(props.sun(rng, 0.55), stand)


def _shed(b: Builder, rng: np.random.Generator, half_x: float, half_y: float) -> None:
    """A shed of brick, boards or sheet metal, with a door in one long side and a roof that juts out."""
    width, depth, height = float(rng.uniform(2.5, 5)), float(rng.uniform(2, 3.5)), float(rng.uniform(2.4, 3))
    radius = float(np.hypot(width, depth)) / 2
    if min(half_x, half_y) < radius + 1:
        return
    x = float(rng.uniform(-1, 1) * (half_x - radius))
    y = float(rng.uniform(-1, 1) * (half_y - radius))
    if not b.claim(x, y, radius):
        return
    yaw = float(rng.uniform(0, 2 * np.pi))
    wall = Surface(props.pick(rng, ("brick", "boards", "ribbed")), props.wash(rng))
    with b.thing("shed", x, y, 0.0, (width + 0.4, depth + 0.4, height + 0.15), yaw):
        b.block(x, y, 0.0, (width, depth, height), yaw, wall)
        b.block(x, y, height, (width + 0.4, depth + 0.4, 0.15), yaw, Surface("smooth", (0.4, 0.36, 0.35)))
    for side in (-1, 1):
        along = float(rng.uniform(-0.5, 0.5)) * (width - 1.2)
        props.door(b, *beside(x, y, yaw, along, side * depth / 2), yaw, props.paint(rng, 0.35))


def _neighbour(b: Builder, rng: np.random.Generator, side: int, half_x: float, half_y: float) -> None:
    """A house beyond the fence on one of the four sides."""
    bays, storeys = int(rng.integers(3, 9)), int(rng.integers(1, 4))
    wall = Surface(props.pick(rng, ("brick_front", "plaster_front")), props.wash(rng))
    reach, width = (half_y, half_x) if side % 2 == 0 else (half_x, half_y)
    across = reach + 4.0 + props.log_uniform(rng, 2, 25)
    x, y = beside(0.0, 0.0, side * np.pi / 2, float(rng.uniform(-1, 1) * width), across)
    size = (bays * STOREY_M, 8.0, storeys * STOREY_M)
    b.block(x, y, 0.0, size, side * np.pi / 2, wall, top=Surface("slabs"))


_FIXED: tuple[props.Prop, ...] = (
    props.crate, props.big_crate, props.big_ball, props.bollard, props.person,
)  # fmt: skip


def plaza(rng: np.random.Generator) -> World:
    """An open square with tiles of 1 m and a few things, each of one size, seen from eye height a little downwards.

    It is simple on purpose, for demonstrations on a CPU: the horizon lies at about the same height in every
    picture, so that depth follows largely from the image row. A model that only knows where a pixel is scores
    well here; the other domains are made so that it does not.
    """
    b = Builder()
    b.planes += [_ground("big_chequer"), _sky()]
    for _ in range(int(rng.integers(5, 13))):
        x, y = rng.uniform(-14, 14, 2).tolist()
        if b.claim(x, y, 0.8):
            _FIXED[int(rng.integers(len(_FIXED)))](b, rng, x, y, 0.0, float(rng.uniform(0, 2 * np.pi)))
    stand = Stand((-8, -8), (8, 8), (1.2, 2.2), (-17, -7), bank_deg=2.0, aimed=0.0, largest=0.97)
    return b.world(props.sun(rng, 0.55), stand)


_IN_COURT: tuple[props.Prop, ...] = (*_FIXED, props.barrel, props.table, props.bollard)


def court(rng: np.random.Generator) -> World:
    """A court with tiles of 1 m between high walls of brick, and a few things of one size each, seen from anywhere.

    Easier than the varied domains, because everything in it has one material and one size; unlike in `plaza`, height,
    pitch and roll vary so much that where a pixel is says little.
    """
    b = Builder()
    b.planes += [_ground("big_chequer"), _sky()]
    half_x, half_y = props.log_uniform(rng, 4, 18), props.log_uniform(rng, 4, 18)
    wall = Surface("brick")
    for side in (-1, 1):
        b.block(0.0, side * half_y, 0.0, (2 * half_x, 0.12, 7.0), 0.0, wall)
        b.block(side * half_x, 0.0, 0.0, (2 * half_y, 0.12, 7.0), np.pi / 2, wall)
    for _ in range(int(rng.integers(5, 15))):
        x, y = float(rng.uniform(-1, 1) * (half_x - 1)), float(rng.uniform(-1, 1) * (half_y - 1))
        if b.claim(x, y, 0.8):
            _IN_COURT[int(rng.integers(len(_IN_COURT)))](b, rng, x, y, 0.0, float(rng.uniform(0, 2 * np.pi)))
    stand = Stand((0.6 - half_x, 0.6 - half_y), (half_x - 0.6, half_y - 0.6), (0.5, 5.0), (-40, 5), largest=0.9)
    return b.world(props.sun(rng, 0.55), stand)
