"""A world as arrays: the flat faces with their textures and light, and the eight corners of every part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm3data.sources._synthetic.atlas import atlas
from vlm3data.sources._synthetic.materials import NAMES
from vlm3data.sources._synthetic.world import Block, Light, Plane, Post, Surface, Thing, World
from vlm3data.types import Float32Array, Float64Array, Int64Array

_INDEX = {name: i for i, name in enumerate(NAMES)}
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
# For the faces +x -x +y -y +z -z: the axis of the normal and those that the texture runs along.
_NORMAL, _RIGHT, _DOWN = (0, 0, 1, 1, 2, 2), (1, 1, 0, 0, 0, 0), (2, 2, 2, 2, 1, 1)
_SIDE = np.array([1, -1, 1, -1, 1, -1], np.float64)


@dataclass(frozen=True, slots=True)
class PackedWorld:
    """Surfaces are numbered: planes, six faces a block, tops of posts (all flat); then balls, sides of posts.

    A point p of flat surface i has the texture coordinates `u[i] . (p, 1)` and `v[i] . (p, 1)`, in tiles.
    Parts are numbered: blocks, balls, posts.
    """

    world: World
    normal: Float64Array
    offset_m: Float64Array
    u: Float64Array
    v: Float64Array
    material: Int64Array
    colour: Float32Array
    """(surfaces, 3) tint; times the light where the surface is flat."""
    is_sky: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    thing: Int64Array
    """Per surface, -1 for none."""
    corners: Float64Array
    """(parts, 8, 3)."""
    feet: Float64Array
    """(things, 4, 3): per thing the middle of its underside, not below the ground, its x and y axes, its size."""

    @property
    def num_flat(self) -> int:
        """Return how many surfaces are flat."""
        return len(self.normal)


def lit(normals: Float64Array, light: Light) -> Float64Array:
    """Return the Lambert factor of each normal (n, 3), with a little light from the side away from the lamp."""
    towards = np.asarray(light.towards) / np.linalg.norm(light.towards)
    cosine = normals @ towards
    return light.ambient + (1.0 - light.ambient) * np.where(cosine > 0, cosine, -0.15 * cosine)


def _axes(yaw_rad: Float64Array) -> Float64Array:
    """Return (n, 3, 3): the x, y and z axes of things turned by yaw, as rows."""
    axes = np.zeros((len(yaw_rad), 3, 3))
    axes[:, 0, 0] = axes[:, 1, 1] = np.cos(yaw_rad)
    axes[:, 0, 1] = np.sin(yaw_rad)
    axes[:, 1, 0] = -axes[:, 0, 1]
    axes[:, 2, 2] = 1.0
    return axes


def _texture(
    right: Float64Array, down: Float64Array, origin: Float64Array, material: Int64Array
) -> tuple[Float64Array, Float64Array]:
    """Return the (n, 4) coordinates in tiles of points along `right` and `down` from `origin`, all (n, 3)."""
    extent = atlas().extent_m[material]
    rows = []
    for axis, size in ((right, extent[:, 0]), (down, extent[:, 1])):
        rows.append(np.concatenate([axis, -(axis * origin).sum(1, keepdims=True)], 1) / size[:, None])
    return rows[0], rows[1]


def _planes(planes: tuple[Plane, ...], material: Int64Array) -> tuple[Float64Array, ...]:
    normal = np.array([plane.normal for plane in planes])
    offset = np.array([plane.offset_m for plane in planes])
    level = np.abs(normal[:, 2:]) > 0.5
    right = np.where(level, [[1.0, 0, 0]], np.stack([-normal[:, 1], normal[:, 0], 0 * offset], 1))
    down = np.where(level, [[0, 1.0, 0]], [[0, 0, -1.0]])
    shift = np.array([plane.origin_m for plane in planes])
    origin = normal * offset[:, None] + right * shift[:, :1] + down * shift[:, 1:]
    return (normal, offset, *_texture(right, down, origin, material))


def _faces(blocks: tuple[Block, ...], material: Int64Array) -> tuple[Float64Array, ...]:
    """Return the normals, offsets and textures of all faces, and the corners of the blocks."""
    centre = np.array([block.centre_m for block in blocks]).reshape(-1, 3)
    size = np.array([block.size_m for block in blocks]).reshape(-1, 3)
    axes = _axes(np.array([block.yaw_rad for block in blocks], np.float64))
    normal = axes[:, _NORMAL] * _SIDE[:, None]
    offset = (normal * centre[:, None]).sum(2) + size[:, _NORMAL] / 2
    right, down = axes[:, _RIGHT], -axes[:, _DOWN]
    # Textures start at the lower left corner of a face, so that storeys and doors stand on the ground.
    origin = centre[:, None] - right * size[:, _RIGHT, None] / 2 + down * size[:, _DOWN, None] / 2
    corners = centre[:, None] + (_SIGNS * size[:, None] / 2) @ axes
    flat = [part.reshape(-1, 3) for part in (normal, right, down, origin)]
    return (flat[0], offset.ravel(), *_texture(flat[1], flat[2], flat[3], material), corners)


def _caps(posts: tuple[Post, ...], material: Int64Array) -> tuple[Float64Array, ...]:
    top = np.array([post.base_m for post in posts]).reshape(-1, 3)
    top = top + np.array([[0.0, 0.0, post.height_m] for post in posts]).reshape(-1, 3)
    unit = np.broadcast_to(np.eye(3)[:, None], (3, len(posts), 3))
    return (unit[2], top[:, 2], *_texture(unit[0], unit[1], top, material))


def _feet(things: tuple[Thing, ...]) -> Float64Array:
    centre = np.array([thing.centre_m for thing in things]).reshape(-1, 3)
    size = np.array([thing.size_m for thing in things]).reshape(-1, 3)
    centre[:, 2] = np.maximum(centre[:, 2] - size[:, 2] / 2, 0.0)
    axes = _axes(np.array([thing.yaw_rad for thing in things], np.float64))[:, :2]
    return np.concatenate([centre[:, None], axes, size[:, None]], 1)


def pack(world: World) -> PackedWorld:
    """Return `world` as arrays."""
    planes, blocks, balls, posts = world.planes, world.blocks, world.balls, world.posts
    surfaces: list[Surface] = [plane.surface for plane in planes]
    for block in blocks:
        surfaces += [block.ends, block.ends, block.sides, block.sides, block.top, block.top]
    surfaces += [post.top for post in posts]
    surfaces += [ball.surface for ball in balls] + [post.side for post in posts]
    material = np.array([_INDEX[surface.material] for surface in surfaces])
    colour = np.array([surface.tint for surface in surfaces])

    first, second = len(planes), len(planes) + 6 * len(blocks)
    third = second + len(posts)
    *face_parts, block_corners = _faces(blocks, material[first:second])
    groups = (_planes(planes, material[:first]), face_parts, _caps(posts, material[second:third]))
    normal, offset, u, v = (np.concatenate(parts) for parts in zip(*groups, strict=True))

    is_sky = np.zeros(len(surfaces), np.bool_)
    is_sky[:first] = [plane.is_sky for plane in planes]
    light = lit(normal, world.light)
    light[is_sky[:third]] = 1.0
    colour[:third] *= light[:, None]
    colour *= np.asarray(world.light.gain)

    thing = [-1] * first + [block.thing for block in blocks for _ in range(6)]
    thing += [post.thing for post in posts] + [ball.thing for ball in balls] + [post.thing for post in posts]
    centre = np.array(
        [ball.centre_m for ball in balls]
        + [(x, y, z + post.height_m / 2) for post in posts for x, y, z in (post.base_m,)]
    ).reshape(-1, 3)
    half = np.array(
        [(ball.radius_m,) * 3 for ball in balls] + [(post.radius_m, post.radius_m, post.height_m / 2) for post in posts]
    ).reshape(-1, 3)
    round_corners = centre[:, None] + _SIGNS * half[:, None]
    return PackedWorld(
        world=world,
        normal=normal,
        offset_m=offset,
        u=u,
        v=v,
        material=material,
        colour=colour.astype(np.float32),
        is_sky=is_sky,
        thing=np.array(thing, np.int64),
        corners=np.concatenate([block_corners, round_corners]),
        feet=_feet(world.things),
    )
