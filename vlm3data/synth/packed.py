"""A world as arrays: the flat faces with their textures and light, and the eight corners of every part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm3data.synth.atlas import atlas
from vlm3data.synth.materials import NAMES
from vlm3data.synth.world import Block, Light, Plane, Post, Thing, World
from vlm3data.types import Float32Array, Float64Array, Int64Array

_INDEX = {name: i for i, name in enumerate(NAMES)}
CONTACT_M = 0.35
"""How far the dark ground around an object reaches."""
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
    """(surfaces, 4) tint, the last 1; times the light where the surface is flat."""
    is_sky: npt.NDArray[np.bool_]
    thing: Int64Array
    """Per surface, -1 for none."""
    corners: Float64Array
    """(3, 8 * (parts + things)): of every part, then of the ground around every thing's foot; all first, all second."""
    by_thing: Int64Array
    """The numbers of the parts, so ordered that the parts of a thing follow each other."""
    num_parts: list[int]
    """Per thing; a post counts as two, its side and its top."""
    grounded: npt.NDArray[np.bool_]
    """Blocks of no thing whose underside is in the ground, and needs no look."""
    round_origin_m: Float64Array
    """(balls + posts, 3): middles of balls, feet of posts."""
    round_radius_m: Float64Array
    feet: Float64Array
    """(things, 4, 3): per thing the middle of its underside, not below the ground, its x and y axes, its size."""

    @property
    def num_flat(self) -> int:
        """Return how many surfaces are flat."""
        return len(self.normal)


def lit(normals: Float32Array | Float64Array, light: Light) -> Float32Array:
    """Return the Lambert factor of each normal (n, 3), with a little light from the side away from the lamp."""
    towards = np.asarray(light.towards) / np.linalg.norm(light.towards)
    cosine = normals.astype(np.float32, copy=False) @ towards.astype(np.float32)
    share = light.ambient + (1.0 - light.ambient) * np.maximum(cosine, -0.15 * cosine)
    return share.astype(np.float32, copy=False)


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
    half = axes * size[..., None] / 2
    corners = centre[:, None] + sum(_SIGNS[:, i : i + 1] * half[:, i : i + 1] for i in range(3))
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


def foot_margin_m(size_m: Float64Array) -> Float64Array:
    """Return how far the shadow reaches around the foot of things (n, 3): less around flat ones."""
    return CONTACT_M * np.minimum(size_m[:, 2], 1.0)


def _foot_corners(feet: Float64Array) -> Float64Array:
    reach = feet[:, 3, :2] / 2 + foot_margin_m(feet[:, 3])[:, None]
    along, across = (feet[:, 1 + i, None] * reach[:, i, None, None] for i in range(2))
    return feet[:, :1] + _SIGNS[:, :1] * along + _SIGNS[:, 1:2] * across


def pack(world: World) -> PackedWorld:
    """Return `world` as arrays."""
    planes, blocks, balls, posts = world.planes, world.blocks, world.balls, world.posts
    # Ends, sides and tops of blocks, each the surface of two faces.
    of_blocks = [surface for block in blocks for surface in (block.ends, block.sides, block.top)]
    others = [post.top for post in posts] + [ball.surface for ball in balls] + [post.side for post in posts]
    surfaces = [plane.surface for plane in planes] + of_blocks + others
    twice = np.ones(len(surfaces), np.int64)
    twice[len(planes) : len(planes) + len(of_blocks)] = 2
    material = np.repeat([_INDEX[surface.material] for surface in surfaces], twice)
    colour = np.repeat(np.array([surface.tint for surface in surfaces]), twice, axis=0)

    first, second = len(planes), len(planes) + 6 * len(blocks)
    third = second + len(posts)
    *face_parts, block_corners = _faces(blocks, material[first:second])
    groups = (_planes(planes, material[:first]), face_parts, _caps(posts, material[second:third]))
    normal, offset, u, v = (np.concatenate(parts) for parts in zip(*groups, strict=True))

    is_sky = np.zeros(len(material), np.bool_)
    is_sky[:first] = [plane.is_sky for plane in planes]
    light = lit(normal, world.light)
    light[is_sky[:third]] = 1.0
    colour[:third] *= light[:, None]
    colour *= np.asarray(world.light.gain)

    origin = np.array([ball.centre_m for ball in balls] + [post.base_m for post in posts]).reshape(-1, 3)
    radius = np.array([ball.radius_m for ball in balls] + [post.radius_m for post in posts], np.float64)
    below = radius.copy()
    below[len(balls) :] = 0.0
    above = radius.copy()
    above[len(balls) :] = [post.height_m for post in posts]
    low, high = (np.stack([radius, radius, side], 1) for side in (below, above))
    round_corners = origin[:, None] + np.where(_SIGNS > 0, high[:, None], -low[:, None])
    owner = np.array([part.thing for parts in (blocks, balls, posts) for part in parts], np.int64)
    block_owner, ball_owner, post_owner = np.split(owner, [len(blocks), len(blocks) + len(balls)])
    thing = [np.full(first, -1), np.repeat(block_owner, 6), post_owner, ball_owner, post_owner]
    counted = np.concatenate([owner, post_owner])
    feet = _feet(world.things)
    corners = np.concatenate([block_corners, round_corners, _foot_corners(feet)])
    return PackedWorld(
        world=world,
        normal=normal,
        offset_m=offset,
        u=u,
        v=v,
        material=material,
        colour=np.concatenate([colour, np.ones((len(colour), 1))], 1).astype(np.float32),
        is_sky=is_sky,
        thing=np.concatenate(thing),
        corners=corners.transpose(2, 1, 0).reshape(3, -1),
        by_thing=np.argsort(owner, kind="stable"),
        num_parts=np.bincount(counted[counted >= 0], minlength=len(world.things)).tolist(),
        grounded=np.array([b.thing < 0 and b.centre_m[2] <= b.size_m[2] / 2 for b in blocks], np.bool_),
        round_origin_m=origin,
        round_radius_m=radius,
        feet=feet,
    )
