"""Shards, or what a mixture draws of them, in the files that other trainers read.

`write.export` is the main flow; `drawn` says which samples; a format is one file: what a row looks like.
"""

from vlm3data.export.write import FORMATS, export

__all__ = ["FORMATS", "export"]
