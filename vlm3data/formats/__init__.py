"""One file a file format, read and written: what a source and the layout that imitates it share."""
