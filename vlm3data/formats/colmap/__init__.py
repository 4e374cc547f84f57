"""COLMAP's files: a model's cameras, images and points in text or binary, and the depth maps of a dense workspace.

The format is documented at colmap.github.io/format.html. Numbers are little-endian. Pixels count as ours do: the
centre of the top-left pixel is (0.5, 0.5).
"""
