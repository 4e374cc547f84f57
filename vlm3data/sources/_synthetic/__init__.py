"""The worlds, renderer and cameras behind the source `synthetic`."""
