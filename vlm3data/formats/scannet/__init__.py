"""ScanNet's files: a scan's video in its three forms, its labels, the official splits."""
