"""nuScenes v1.0 on disk: the JSON tables, the scene splits and the LiDAR's files."""

from vlm3data.formats.nuscenes.cache import open_tables
from vlm3data.formats.nuscenes.lidar import points_from_bytes, points_to_bytes
from vlm3data.formats.nuscenes.sensors import CAMERAS, CHANNELS, LIDAR
from vlm3data.formats.nuscenes.splits import MINI, OTHER, SPLITS_OF, split_of
from vlm3data.formats.nuscenes.tables import Tables

__all__ = [
    "CAMERAS",
    "CHANNELS",
    "LIDAR",
    "MINI",
    "OTHER",
    "SPLITS_OF",
    "Tables",
    "open_tables",
    "points_from_bytes",
    "points_to_bytes",
    "split_of",
]
