"""Parts of the layout `colmap`."""
