"""Weighting schemes: one file each, from what a mixture knows of its members to their shares."""
