"""Generated scenes with exact geometry: streets, rooms, halls and yards of boxes, balls and posts.

Nothing is downloaded. Bricks, slabs, doors and cars have one size everywhere, so that metric scale can be read
from an image. Camera height, pitch, roll, focal length and the size of the place vary so much that depth can
hardly be guessed from where in the image a pixel is.

Two domains must be asked for. `court` is easier: every surface in it has one material, of one size. `plaza` is a
bare square seen from eye height, where depth follows largely from the image row. A small model learns it in
minutes, and the location prior is strong there: do not take a score on it for more than a demonstration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from vlm3data.contracts import Config
from vlm3data.randomness import rng_for
from vlm3data.synth.indoors import hall, room
from vlm3data.synth.outdoors import court, plaza, street, yard
from vlm3data.synth.packed import PackedWorld, pack
from vlm3data.synth.shade import shade
from vlm3data.synth.views import Look, look_around
from vlm3data.synth.world import Thing, World
from vlm3data.types import (
    Box3D,
    Camera,
    Float64Array,
    Frame,
    SceneRef,
    SourceFacts,
    UInt8Array,
    UserError,
)

DOMAINS: dict[str, Callable[[np.random.Generator], World]] = {
    "street": street,
    "room": room,
    "hall": hall,
    "yard": yard,
    "court": court,
    "plaza": plaza,
}
VARIED = ("street", "room", "hall", "yard")
"""What is generated unless asked otherwise; of the others `court` is easier, and `plaza` only for demonstrations."""
MIN_SEEN_PX = 20
"""An object seen in fewer pixels is not listed."""


def _known(domains: tuple[str, ...]) -> tuple[str, ...]:
    for domain in domains:
        if domain not in DOMAINS:
            raise ValueError(f"unknown domain {domain!r}; known: {', '.join(sorted(DOMAINS))}")
    return domains


class SyntheticOptions(Config):
    """What to generate."""

    domains: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known)] = VARIED
    """Scenes take these in turn."""
    scenes: Annotated[int, Field(ge=1)] | None = None
    """Scenes in every split; without a number they never end, and `--limit` says how many are built."""
    views: int = Field(2, ge=1, le=32)
    """Images of each scene; the later ones overlap the first."""
    width_px: int = Field(256, ge=16)
    height_px: int = Field(192, ge=16)
    size_jitter: float = Field(0.2, ge=0.0, le=0.5)
    """Width and height vary by this share from scene to scene, each by itself."""
    hfov_deg: tuple[Annotated[float, Field(ge=20, le=120)], Annotated[float, Field(ge=20, le=120)]] = (35.0, 100.0)
    """Range of the horizontal field of view; focal lengths are log-uniform in it."""
    noise: float = Field(0.0, ge=0.0)
    """Standard deviation of the pixel noise, grey levels."""


@dataclass(frozen=True)
class _Picture:
    """One view's image and depth, drawn when first asked for."""

    packed: PackedWorld
    camera: Camera
    look: Look
    noise: float
    position: tuple[str | int, ...]

    @cached_property
    def image(self) -> UInt8Array:
        image = shade(self.packed, self.look.traced, self.camera, self.look.world_from_cam)
        if self.noise:
            rng = rng_for(*self.position, "noise")
            grain = rng.standard_normal(image.shape, np.float32) * np.float32(self.noise)
            image = np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)
        return image


class SyntheticSource:
    """Generated scenes; what they hold depends on the seed, the split, the scene's number and the options."""

    Options = SyntheticOptions
    facts = SourceFacts(
        name="synthetic",
        licence="Apache-2.0",
        metric=True,
        depth_kind="z",
        depth_range_m=(0.1, 120.0),
        pixel_centre="pixel centres at +0.5, as everywhere in vlm3; nothing to convert",
        splits=("train", "val", "test"),
        world_up=(0.0, 0.0, 1.0),
        depth_noise=(0.0, 0.001),
    )

    def __init__(self, root: str, options: SyntheticOptions, seed: int) -> None:
        """Take `root` for the protocol's sake; nothing is read."""
        self.options = options
        self.seed = seed
        self.facts = replace(type(self).facts, endless=options.scenes is None)

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """List the scenes of `split`; None means train, so that the other splits stay unseen."""
        split = split or "train"
        if split not in self.facts.splits:
            raise UserError(f"synthetic has no split {split!r}; choose from {', '.join(self.facts.splits)}")
        numbers = count() if self.options.scenes is None else range(self.options.scenes)
        for index in numbers:
            domain = self.options.domains[index % len(self.options.domains)]
            payload = {"domain": domain, "split": split, "index": index}
            yield SceneRef(f"{domain}-{split}-{index:06d}", self.options.views, payload, split)

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield the views of one scene; geometry is traced here, because boxes need it, images when asked for."""
        packed, camera, looks = self._staged(scene)
        for number, look in enumerate(looks):
            picture = _Picture(packed, camera, look, self.options.noise, (self.seed, scene.scene, number))
            yield Frame(
                key=f"{scene.scene}-{number}",
                scene=scene.scene,
                image=lambda picture=picture: picture.image,
                camera=camera,
                depth_m=lambda look=look: look.depth_m,
                world_from_cam=look.world_from_cam,
                boxes=lambda look=look: _boxes(packed, look),
            )

    def world(self, scene: SceneRef) -> World:
        """Return what stands in a scene."""
        return self._staged(scene)[0].world

    def _staged(self, scene: SceneRef) -> tuple[PackedWorld, Camera, list[Look]]:
        """Draw worlds until one offers enough views worth seeing; nearly always the first does."""
        far_m = self.facts.depth_range_m[1]
        for attempt in range(100):
            where = (scene.payload["split"], scene.payload["domain"], scene.payload["index"], attempt)
            rng = rng_for(self.seed, "synthetic", *where)
            packed = pack(DOMAINS[scene.payload["domain"]](rng))
            camera = self._camera(rng)
            looks = look_around(packed, camera, self.options.views, far_m, rng)
            if looks:
                return packed, camera, looks
        raise RuntimeError(f"no view worth seeing in 100 worlds for {scene.scene}")

    def _camera(self, rng: np.random.Generator) -> Camera:
        """Draw an image size, a focal length and a principal point near the middle."""
        options = self.options
        stretch = rng.uniform(1 - options.size_jitter, 1 + options.size_jitter, 2)
        width, height = round(options.width_px * stretch[0]), round(options.height_px * stretch[1])
        low, high = sorted(np.tan(np.deg2rad(options.hfov_deg) / 2))
        focal = width / 2 / float(np.exp(rng.uniform(np.log(low), np.log(high))))
        cx, cy = (np.array([width, height]) * (0.5 + rng.uniform(-0.02, 0.02, 2))).tolist()
        return Camera(focal, focal, cx, cy, width, height)


def _box(thing: Thing, visibility: float, world_from_cam: Float64Array) -> Box3D:
    """Return a thing's box. What is round seen from above has no yaw of its own: its box faces as the camera does.

    Its extents across and along the view are then those of the thing, and not those of the corners around it.
    """
    pose = np.eye(4)
    yaw_rad = np.arctan2(world_from_cam[1, 2], world_from_cam[0, 2]) if thing.round else thing.yaw_rad
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:3, 3] = thing.centre_m
    return Box3D(thing.label, pose, thing.size_m, visibility)


def _boxes(packed: PackedWorld, look: Look) -> tuple[Box3D, ...]:
    """Return the objects that are seen, and lie wholly before the camera; visibility is the unhidden share."""
    alone = look.traced.alone_px
    owned = packed.thing >= 0
    seen = np.bincount(packed.thing[owned], look.traced.surface_px[owned], minlength=len(alone))
    boxes = []
    for index in np.flatnonzero(seen >= MIN_SEEN_PX).tolist():
        box = _box(packed.world.things[index], float(seen[index] / alone[index]), look.world_from_cam)
        if _lies_before(box, look.world_from_cam):
            boxes.append(box)
    return tuple(boxes)


def _lies_before(box: Box3D, world_from_cam: Float64Array) -> bool:
    """Tell whether all corners have a positive depth."""
    forward = world_from_cam[:3, 2]
    reach = np.abs(forward @ box.world_from_box[:3, :3]) @ np.array(box.size_m) / 2
    return bool(forward @ (box.world_from_box[:3, 3] - world_from_cam[:3, 3]) - reach > 0.05)
