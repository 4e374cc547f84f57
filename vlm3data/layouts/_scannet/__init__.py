"""Parts of the layout `scannet`."""
