"""Worlds, renderer and cameras: what the source `synthetic` and the synthetic layouts share."""
