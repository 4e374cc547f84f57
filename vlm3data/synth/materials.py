"""The materials by name: how many metres one tile covers, and what is painted on it.

Bricks, slabs, planks, doors, windows and car bodies have one size everywhere, because they are what an
image's scale can be read from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vlm3data.synth.patterns import Paint, grouted, inside, laid, metres, plain, speckle

Size = tuple[float, float]
Painter = Callable[[np.random.Generator, int, Size], Paint]

BRICK_M = (0.25, 0.075)
SLAB_M = (0.5, 0.5)
TILE_M = (1.0, 1.0)
STOREY_M = 3.0
DOOR_M = (0.9, 2.1)
WINDOW_M = (1.2, 1.5)
CAR_M = (4.5, 1.8, 1.5)
GLASS = (0.16, 0.21, 0.27)


class Material(NamedTuple):
    """One tile: `extent_m` wide and high, `px` texels on each side."""

    extent_m: Size
    paint: Painter
    px: int = 256


def grain(colour: tuple[float, float, float], strength: float, slope: float) -> Painter:
    """Return a painter of noise around `colour`."""
    return lambda rng, px, size: plain(colour, speckle(rng, px, slope), strength)


def units(
    colour: tuple[float, float, float],
    unit_m: Size,
    joint_m: float,
    joint: tuple[float, float, float],
    *,
    bond: float = 0.5,
    spread: float = 0.1,
) -> Painter:
    """Return a painter of bricks, slabs or planks."""

    def paint(rng: np.random.Generator, px: int, size: Size) -> Paint:
        tone, gap = laid(rng, px, size, unit_m, joint_m, bond=bond, spread=spread)
        return grouted(plain(colour, speckle(rng, px, 0.7), 0.05) * tone[..., None], gap, joint)

    return paint


BRICKS = units((0.62, 0.32, 0.24), BRICK_M, 0.012, (0.74, 0.71, 0.66))


def chequer(tile_m: Size) -> Painter:
    """Return a painter of floor tiles, dark and light in turn."""

    def paint(rng: np.random.Generator, px: int, size: Size) -> Paint:
        x, y = metres(px, size)
        dark = (np.floor(x / tile_m[0]) + np.floor(y / tile_m[1])) % 2
        tone, gap = laid(rng, px, size, tile_m, 0.012, bond=0.0, spread=0.03)
        shade = plain((0.86, 0.84, 0.8), speckle(rng, px, 1.2), 0.03) * (tone * (1.0 - 0.5 * dark))[..., None]
        return grouted(shade, gap, (0.35, 0.34, 0.33))

    return paint


def lane(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """One lane of asphalt with a dash of 3 m on its edge; x runs across the road."""
    road = plain((0.33, 0.33, 0.34), speckle(rng, px, 0.5), 0.1)
    road *= (1.0 + 0.06 * speckle(rng, px, 1.6))[..., None]
    dash = inside(px, size, 0.0, 0.0, 0.14, 3.0)
    road[dash] = (0.86, 0.86, 0.83)
    return road


def glazed(rng: np.random.Generator, px: int, size: Size, wall: Paint) -> Paint:
    """Put one window, with frame, cross bar and sill, in the middle of a storey's bay."""
    left, upper = (size[0] - WINDOW_M[0]) / 2, 0.6
    right, lower = left + WINDOW_M[0], upper + WINDOW_M[1]
    wall = wall.copy()
    wall[inside(px, size, left - 0.1, lower, right + 0.1, lower + 0.1)] = (0.7, 0.69, 0.66)
    wall[inside(px, size, left, upper, right, lower)] = (0.9, 0.9, 0.88)
    middle = (left + right) / 2
    for x0, x1 in ((left + 0.07, middle - 0.03), (middle + 0.03, right - 0.07)):
        for y0, y1 in ((upper + 0.07, upper + 0.5), (upper + 0.56, lower - 0.07)):
            wall[inside(px, size, x0, y0, x1, y1)] = np.asarray(GLASS) * (1.0 + 0.25 * rng.random())
    return wall


def brick_front(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """A bay of a brick house."""
    return glazed(rng, px, size, BRICKS(rng, px, size))


def plaster_front(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """A bay of a plastered house with a band between the storeys."""
    wall = plain((0.82, 0.77, 0.68), speckle(rng, px, 1.2), 0.04)
    wall[inside(px, size, 0.0, 0.0, size[0], 0.15)] *= 0.8
    return glazed(rng, px, size, wall)


def window(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """A window that fills its tile."""
    pane = np.broadcast_to(np.asarray((0.92, 0.92, 0.9)), (px, px, 3)).copy()
    for x0, x1 in ((0.07, 0.57), (0.63, 1.13)):
        for y0, y1 in ((0.07, 0.5), (0.56, 1.43)):
            pane[inside(px, size, x0, y0, x1, y1)] = (0.55, 0.7, 0.85)
    return pane


def door(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """A panelled door with its frame and handle."""
    wood = plain((0.78, 0.72, 0.64), speckle(rng, px, 1.4), 0.03)
    for y0, y1 in ((0.2, 0.85), (1.0, 1.9)):
        for x0, x1 in ((0.14, 0.42), (0.48, 0.76)):
            wood[inside(px, size, x0, y0, x1, y1)] *= 0.72
    frame = ~inside(px, size, 0.05, 0.05, 0.85, 2.1)
    wood[frame] *= 0.45
    wood[inside(px, size, 0.76, 1.0, 0.83, 1.06)] = (0.2, 0.2, 0.2)
    return wood


def striped(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """Wallpaper with stripes of 0.125 m."""
    x, _ = metres(px, size)
    stripe = np.floor(x / 0.125) % 2
    return plain((0.84, 0.8, 0.7), speckle(rng, px, 1.0), 0.02) * (1.0 - 0.2 * stripe)[..., None]


def ribbed(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """Sheet metal with a rib every 0.25 m."""
    x, y = metres(px, size)
    wave = np.clip(2.0 * np.sin(2 * np.pi * x / 0.25), -1.0, 1.0)
    rust = np.clip(speckle(rng, px, 1.3) - 1.2, 0.0, 1.0)[..., None]
    sheet = plain((0.75, 0.75, 0.75), speckle(rng, px, 0.8), 0.02) * (1.0 + 0.22 * wave + 0 * y)[..., None]
    return sheet * (1.0 - 0.35 * rust)


def crate(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """One side of a wooden crate: boards, a frame and a diagonal."""
    tone, gap = laid(rng, px, size, (size[0], size[1] / 5), 0.008 * size[0] / 0.6, bond=0.0)
    boards = plain((0.72, 0.55, 0.34), speckle(rng, px, 1.0), 0.05) * tone[..., None]
    boards = grouted(boards, gap, (0.25, 0.18, 0.1))
    x, y = metres(px, (1.0, 1.0))
    rim = (np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) < 0.11) | (np.abs(x - y) < 0.07)
    boards[rim] = plain((0.8, 0.63, 0.4), speckle(rng, px, 1.0), 0.05)[rim]
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    boards[np.abs(edge - 0.115) < 0.008] *= 0.5
    return boards


def car_side(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """The lower body of a car from the side: two wheels, two doors."""
    body = np.full((px, px, 3), 0.92)
    x, y = metres(px, size)
    body[np.broadcast_to(y > size[1] - 0.2, (px, px))] = 0.08
    for seam in (1.35, 2.3, 3.25):
        body[inside(px, size, seam, 0.05, seam + 0.03, size[1] - 0.2)] *= 0.5
    for hub in (0.85, 3.65):
        distance = np.hypot(x - hub, y - (size[1] - 0.32))
        body[distance < 0.37] = 0.06
        body[distance < 0.2] = 0.65
    return body


def car_end(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """The lower body of a car from the front: lamps, plate, bumper."""
    body = np.full((px, px, 3), 0.9)
    body[inside(px, size, 0.0, 0.6, 1.8, 0.95)] = 0.13
    for x0 in (0.1, 1.35):
        body[inside(px, size, x0, 0.2, x0 + 0.35, 0.38)] = (1.0, 0.95, 0.75)
    body[inside(px, size, 0.64, 0.45, 1.16, 0.56)] = (0.95, 0.95, 0.9)
    return body


def cabin(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """The glass of a car's cabin, with pillars at the tile's edges."""
    body = np.full((px, px, 3), 0.9)
    body[inside(px, size, 0.08, 0.08, size[0] - 0.08, size[1] - 0.02)] = GLASS
    return body


def dressed(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """A person's clothes: dark trousers of 0.85 m, a belt, a light coat to be tinted."""
    cloth = plain((0.95, 0.95, 0.95), speckle(rng, px, 0.8), 0.05)
    cloth[inside(px, size, 0.0, size[1] - 0.85, size[0], size[1])] = (0.16, 0.17, 0.22)
    cloth[inside(px, size, 0.0, size[1] - 0.9, size[0], size[1] - 0.85)] = 0.08
    return cloth


def drum(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """The side of a steel barrel with two hoops and two rims."""
    side = plain((0.85, 0.85, 0.85), speckle(rng, px, 1.3), 0.06)
    for height in (0.0, 0.28, 0.57, 0.85):
        side[inside(px, size, 0.0, height, size[0], height + 0.03)] *= 0.45
    return side


def clouds(rng: np.random.Generator, px: int, size: Size) -> Paint:
    """Sky."""
    cover = np.clip(0.35 + 0.35 * speckle(rng, px, 1.7), 0.0, 1.0)[..., None]
    return np.asarray((0.5, 0.68, 0.92)) * (1 - cover) + 0.95 * cover


MATERIALS: dict[str, Material] = {
    "asphalt": Material((4.0, 4.0), grain((0.36, 0.36, 0.37), 0.1, 0.6)),
    "lane": Material((3.5, 6.0), lane),
    "paving": Material((2.0, 2.0), units((0.66, 0.64, 0.6), SLAB_M, 0.014, (0.34, 0.33, 0.31), spread=0.08)),
    "chequer": Material((2.0, 2.0), chequer(SLAB_M)),
    "big_chequer": Material((2.0, 2.0), chequer(TILE_M)),
    "planks": Material((2.4, 1.2), units((0.66, 0.46, 0.28), (1.2, 0.15), 0.007, (0.2, 0.13, 0.08), spread=0.12)),
    "slabs": Material(
        (2.0, 2.0), units((0.62, 0.61, 0.59), (1.0, 1.0), 0.016, (0.36, 0.36, 0.35), bond=0.0, spread=0.04)
    ),
    "grass": Material((3.0, 3.0), grain((0.34, 0.47, 0.2), 0.2, 0.7)),
    "gravel": Material((2.0, 2.0), grain((0.58, 0.54, 0.47), 0.17, 0.35)),
    "brick": Material((2.0, 1.2), BRICKS),
    "wall_tiles": Material(
        (1.0, 1.0), units((0.86, 0.88, 0.88), (0.2, 0.2), 0.008, (0.52, 0.52, 0.52), bond=0.0, spread=0.03)
    ),
    "stripes": Material((1.0, 1.0), striped),
    "brick_front": Material((STOREY_M, STOREY_M), brick_front, 512),
    "plaster_front": Material((STOREY_M, STOREY_M), plaster_front),
    "door": Material(DOOR_M, door),
    "window": Material(WINDOW_M, window, 128),
    "ceiling": Material((1.2, 1.2), units((0.9, 0.9, 0.88), (0.6, 0.6), 0.014, (0.6, 0.6, 0.6), bond=0.0, spread=0.02)),
    "ribbed": Material((2.0, 2.0), ribbed),
    "crate": Material((0.6, 0.6), crate, 128),
    "big_crate": Material((1.2, 1.2), crate),
    "boards": Material((0.9, 0.9), units((0.6, 0.42, 0.26), (0.9, 0.15), 0.006, (0.25, 0.17, 0.1), bond=0.0), 128),
    "fence": Material(
        (1.2, 1.8), units((0.62, 0.5, 0.36), (0.12, 1.8), 0.014, (0.16, 0.13, 0.1), bond=0.0, spread=0.12)
    ),
    "cloth": Material(
        (0.5, 0.5), units((0.85, 0.85, 0.85), (0.125, 0.125), 0.012, (0.6, 0.6, 0.6), bond=0.0, spread=0.06), 128
    ),
    "smooth": Material((2.0, 2.0), grain((0.9, 0.9, 0.9), 0.02, 1.2), 128),
    "car_side": Material((4.5, 0.95), car_side),
    "car_end": Material((1.8, 0.95), car_end, 128),
    "cabin_side": Material((1.25, 0.55), cabin, 128),
    "cabin_end": Material((1.6, 0.55), cabin, 128),
    "dressed": Material((1.4, 1.5), dressed, 128),
    "drum": Material((1.8, 0.88), drum, 128),
    "bark": Material((0.6, 1.2), units((0.4, 0.3, 0.22), (0.1, 0.3), 0.02, (0.22, 0.16, 0.12), spread=0.2), 128),
    "leaves": Material((1.5, 1.5), grain((0.3, 0.46, 0.18), 0.34, 0.55)),
    "stone": Material((1.0, 1.0), grain((0.56, 0.54, 0.51), 0.16, 0.9), 128),
    "sky": Material((900.0, 900.0), clouds),
}
NAMES = tuple(MATERIALS)
