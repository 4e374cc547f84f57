"""Weighting schemes: one function a file, from what the mixture says of its datasets to their shares."""
