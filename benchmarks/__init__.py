"""Benchmarks: each prints a table and writes JSON; the figure that matters is a ratio taken in one run."""
