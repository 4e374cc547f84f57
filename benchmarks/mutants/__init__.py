"""Faults planted one at a time in the code that makes labels: the tests must see each."""
