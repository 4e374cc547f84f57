"""The depth maps of a scene's frames, in metres; NaN where unknown, or where the recorder itself was not sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from fsspec import AbstractFileSystem

from vlm3data.formats.depth_file import decode_confidence_file, decode_depth_file, depth_size_px
from vlm3data.formats.rgbd.cameras import common_size_px, read_file
from vlm3data.formats.rgbd.patterns import Depth, Patterns, listed
from vlm3data.formats.rgbd.poses import nearest
from vlm3data.types import Drop, Float32Array, UserError


class DepthMaps:
    """Those that belong to the frames `names` of the scene in `directory`; listed here, read when asked for."""

    def __init__(self, fs: AbstractFileSystem, directory: str, patterns: Patterns, names: Sequence[str]) -> None:
        self._fs, self._directory, self._depth = fs, directory, patterns.depth
        self._paths = self._of(patterns.depth.path, patterns, names) if patterns.depth else {}
        self.size_px = common_size_px(fs, list(self._paths.values()), depth_size_px)
        """Width and height of all of them; others are dropped by name. None where none can be read."""
        confidence = patterns.depth.confidence if patterns.depth else None
        self._confidences = self._of(confidence, patterns, names) if confidence else {}
        if confidence and self._paths and not self._confidences:
            raise UserError(
                f"{directory}: there is no {confidence} in this scene; "
                "if it was recorded without, leave confidence and confidence_min out of the patterns"
            )

    def _of(self, pattern: str, patterns: Patterns, names: Sequence[str]) -> dict[str, str]:
        return nearest(listed(self._fs, self._directory, pattern), list(names), patterns)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def depth_m(self, name: str) -> Float32Array:
        """Return the map (h, w) of the frame `name`, of the patterns' kind.

        Raises Drop: depth_missing, depth_size_mismatch, corrupt_depth, and the same of confidence.
        """
        if name not in self._paths or self._depth is None or self.size_px is None:
            raise Drop("depth_missing", f"{self._directory}: frame {name}")
        stored = decode_depth_file(read_file(self._fs, self._paths[name], "depth"), self.size_px)
        depth_m = (stored * np.float64(self._depth.metres_per_count)).astype(np.float32)
        unknown = np.isin(stored, self._depth.missing) | ~np.isfinite(depth_m)
        depth_m[unknown | ~self._sure(name, self._depth, self.size_px)] = np.nan
        return depth_m

    def _sure(self, name: str, depth: Depth, size_px: tuple[int, int]) -> np.ndarray:
        """Return where (h, w) the recorder is sure enough; everywhere, where it does not say."""
        if depth.confidence_min is None:
            return np.ones(size_px[::-1], bool)
        if name not in self._confidences:
            raise Drop("confidence_missing", f"{self._directory}: frame {name}")
        data = read_file(self._fs, self._confidences[name], "confidence")
        return decode_confidence_file(data, size_px) >= depth.confidence_min  # NaN is not
