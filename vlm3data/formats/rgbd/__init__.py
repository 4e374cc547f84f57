"""Posed RGB-D folders: how their files are named, their intrinsics, their poses."""
