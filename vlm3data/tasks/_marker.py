"""A pixel pointed at in the image itself: four strokes around it, which it stays clear of."""

from __future__ import annotations

from vlm3data.types import UInt8Array

COLOUR = (255, 0, 255)
"""Magenta: hardly anything that is photographed has it."""
GAP_PX, LENGTH_PX = 2, 6
"""A stroke begins so many pixels from the one that is meant, and is so long."""


def marked(image: UInt8Array, pixel_px: tuple[int, int]) -> UInt8Array:
    """Return a copy of the image (h, w, 3) with strokes left, right, above and below the pixel [u, v].

    Near a border those that fit are drawn: at least one along each axis. The pixel and its neighbours stay as they are.
    """
    u, v = pixel_px
    out = image.copy()
    near, far = GAP_PX, GAP_PX + LENGTH_PX
    out[v, max(0, u - far + 1) : max(0, u - near + 1)] = COLOUR
    out[v, u + near : u + far] = COLOUR
    out[max(0, v - far + 1) : max(0, v - near + 1), u] = COLOUR
    out[v + near : v + far, u] = COLOUR
    return out
