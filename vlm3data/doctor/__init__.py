"""`vlm3data doctor`: what is wrong with a machine, or with a download, and what to do about it."""

from vlm3data.doctor.check import Check
from vlm3data.doctor.dataset import check_dataset
from vlm3data.doctor.downloads import Downloads
from vlm3data.doctor.machine import check_machine

__all__ = ["Check", "Downloads", "check_dataset", "check_machine"]
