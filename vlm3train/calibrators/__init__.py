"""Calibrators that are networks: here, because the data side needs no torch. Registered like all the others."""
