"""Which two frames of a scene are asked about together: partners by overlap, chosen for each frame in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from vlm3data.geometry.overlap import Covisibility, Lowres, choose_partner, lowres
from vlm3data.randomness import rng_for
from vlm3data.types import Cut, Drop, Float32Array, Float64Array, Frame, SourceFacts
from vlm3data.views import z_depth


class ScenePairs:
    """The frames of one scene, and for each of them the partners that overlap it.

    A frame that cannot be read is nobody's partner; as the first of a pair it raises its own `Drop`.
    """

    def __init__(
        self,
        scene: str,
        frames: Sequence[Frame],
        facts: SourceFacts,
        overlap: Callable[[], Float32Array | None] | None,
        seed: int,
        per_frame: int,
    ) -> None:
        """Take the frames; `overlap` is the source's own knowledge (`contracts.KnowsOverlap`), if it has any."""
        self.scene, self.frames, self.facts, self.overlap = scene, frames, facts, overlap
        self.seed, self.per_frame = seed, per_frame
        self._latest: tuple[int, list[int]] = (-1, [])

    def pair(self, anchor: int, number: int) -> tuple[Frame, Frame]:
        """Return the pair `number` of those that the frame `anchor` begins, in the order to be shown.

        Which of the two comes first is drawn at random; a pair that both its frames begin comes in both orders.
        Raises Cut: no_pose, no_depth_map, no_overlap; and Drop where a file of the frame is bad.
        """
        partners = self._partners(anchor)
        if number >= len(partners):
            raise Cut("no_overlap", self.frames[anchor].key)
        low, high = sorted((anchor, partners[number]))
        first = bool(rng_for(self.seed, "order", self.scene, low, high).integers(2))
        one, other = self.frames[anchor], self.frames[partners[number]]
        return (one, other) if first else (other, one)

    def depth_m(self, frame: Frame) -> Float32Array | None:
        """Return the full z-depth of one of the frames."""
        return z_depth(frame, self.facts)

    def _partners(self, anchor: int) -> list[int]:
        if self._latest[0] != anchor:
            self._latest = anchor, self._choose(anchor)
        return self._latest[1]

    def _choose(self, anchor: int) -> list[int]:
        forward, backward = self._shares(anchor)
        low, high = self.facts.pair_overlap
        partners: list[int] = []
        rng = rng_for(self.seed, "partners", self.scene, anchor)
        while len(partners) < self.per_frame:
            partner = choose_partner(forward, backward, rng, itself=anchor, low=low, high=high)
            if partner is None:
                break
            partners.append(partner)
            forward[partner] = backward[partner] = 0.0
        return partners

    def _shares(self, anchor: int) -> tuple[Float64Array, Float64Array]:
        """Return for every frame the share of the anchor that it shows, and the reverse; 0 for unusable ones."""
        if self.frames[anchor].world_from_cam is None:
            raise self._why_not(self.frames[anchor])
        if self._known is not None:
            shares = self._known[anchor], self._known[:, anchor]
            forward, backward = (np.nan_to_num(share.astype(np.float64)) for share in shares)
            return forward, backward
        if anchor not in self._place:
            raise self._why_not(self.frames[anchor])
        forward, backward = np.zeros(len(self.frames)), np.zeros(len(self.frames))
        numbers = list(self._place)
        forward[numbers], backward[numbers] = self._covisibility.of(self._place[anchor])
        return forward, backward

    @cached_property
    def _known(self) -> Float32Array | None:
        told = self.overlap() if self.overlap is not None else None
        if told is None:
            return None
        known = np.array(told, np.float32)  # of thousands of frames: half the memory, and still far too exact
        unusable = [number for number, frame in enumerate(self.frames) if frame.world_from_cam is None]
        known[unusable] = known[:, unusable] = np.nan
        return known

    @cached_property
    def _coarse(self) -> dict[int, Lowres]:
        """The small depth map of every frame that has one and can be read."""
        made = ((number, self._lowres(frame)) for number, frame in enumerate(self.frames))
        return {number: coarse for number, coarse in made if coarse is not None}

    @cached_property
    def _place(self) -> dict[int, int]:
        """Where a frame stands among those that can be paired."""
        return {number: place for place, number in enumerate(self._coarse)}

    @cached_property
    def _covisibility(self) -> Covisibility:
        return Covisibility(list(self._coarse.values()), self.facts.depth_noise)

    def _lowres(self, frame: Frame) -> Lowres | None:
        camera = frame.depth_camera or frame.camera
        if frame.world_from_cam is None or camera is None:
            return None
        try:
            depth_m = z_depth(frame, self.facts)
        except Drop:
            return None  # counted where this frame is itself the first of a pair
        if depth_m is None or not np.isfinite(depth_m).any():
            return None
        return lowres(depth_m, camera, frame.world_from_cam)

    def _why_not(self, frame: Frame) -> Drop:
        """Return why a frame cannot begin a pair; what is wrong with its files is raised by reading them."""
        if frame.camera is None:
            frame.image()
            return Drop("no_intrinsics")
        if frame.world_from_cam is None:
            return Cut("no_pose", frame.key)
        z_depth(frame, self.facts)
        return Cut("no_depth_map", frame.key)
