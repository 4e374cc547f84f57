"""ScanNet's official splits (v2: 1201, 312 and 100 scans), which go by the room, not by the scan of it.

Made from the lists in github.com/ScanNet/ScanNet, Tasks/Benchmark: rooms 0 to 706 are train or val, 707 to 806 test.
"""

from __future__ import annotations

import re
from typing import Literal

_VAL_ROOMS = frozenset((
    11, 15, 19, 25, 30, 46, 50, 63, 64, 77, 81, 84, 86, 88, 95, 100, 131, 139, 144, 146, 149, 153, 164, 169,
    187, 193, 196, 203, 207, 208, 217, 221, 222, 231, 246, 249, 251, 256, 257, 277, 278, 300, 304, 307, 314,
    316, 328, 329, 334, 338, 342, 343, 351, 353, 354, 355, 356, 357, 377, 378, 382, 389, 406, 412, 414, 423,
    426, 427, 430, 432, 435, 441, 458, 461, 462, 474, 488, 490, 494, 496, 500, 518, 527, 535, 549, 550, 552,
    553, 558, 559, 565, 568, 574, 575, 578, 580, 583, 591, 593, 595, 598, 599, 606, 607, 608, 609, 616, 618,
    621, 629, 633, 643, 644, 645, 647, 648, 651, 652, 653, 655, 658, 660, 663, 664, 665, 670, 671, 678, 684,
    685, 686, 689, 690, 693, 695, 696, 697, 699, 700, 701, 702, 704,
))  # fmt: skip
_FIRST_TEST_ROOM, _NUM_ROOMS = 707, 807


def split_of(scan: str) -> Literal["train", "val", "test", "all"]:
    """Return the official split of `scene0000_00`; `all` for a scan that is none of ScanNet's."""
    match = re.fullmatch(r"scene(\d{4})_\d\d", scan, re.ASCII)
    room = int(match[1]) if match else _NUM_ROOMS
    if room >= _NUM_ROOMS:
        return "all"
    if room >= _FIRST_TEST_ROOM:
        return "test"
    return "val" if room in _VAL_ROOMS else "train"
