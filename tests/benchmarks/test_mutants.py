"""Planted faults: each is one change that compiles, named by what it changes and not by where it stands."""

from __future__ import annotations

import ast

import pytest

from benchmarks.mutants.operators import mutants_of

SOURCE = '''"""Docstring with - and 1."""
from __future__ import annotations
LIMIT: float = 1.5

def clamped(x, low, high=3):
    """Not code: x - 1 < 2."""
    if not x < low and x != 0:
        raise ValueError(f"{x - 1}")
    return min(max(x, low), high)[1:] - low

def world_from_cam_of(pose) -> Float64Array:
    """Return (4, 4)."""
    pose += 1.0
    return turn @ pose.T
'''
WANTED = {
    ("constant doubled", "1.5", "3.0"),
    ("constant + 1", "3", "4"),
    ("removed not", "not x < low", "(x < low)"),
    ("comparison", "x < low", "(x <= low)"),
    ("comparison", "x < low", "(x > low)"),
    ("comparison", "x != 0", "(x == 0)"),
    ("boolean", "not x < low and x != 0", "(not x < low or x != 0)"),
    ("other function", "max(x, low)", "(min(x, low))"),
    ("dropped clamp", "max(x, low)", "(x)"),
    ("removed statement", "pose += 1.0", "pass"),
    ("swapped product", "turn @ pose.T", "(pose.T @ turn)"),
    ("transposed", "pose.T", "(pose)"),
    ("transposed", "return turn @ pose.T", "return (turn @ pose.T).T"),
}


def test_faults_are_those_that_are_meant():
    mutants = mutants_of("vlm3data/x.py", SOURCE)
    found = {(each.operator, each.before, each.after) for each in mutants}
    assert found >= WANTED
    inner = [each.before for each in mutants if each.operator != "removed statement"]
    assert not any("x - 1" in before or "Docstring" in before for before in inner)
    for each in mutants:
        changed = each.applied(SOURCE)
        assert each.compiles(SOURCE)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(SOURCE))
        assert len(changed) - len(SOURCE) == len(each.after) - len(each.before)
    assert len({each.key for each in mutants}) == len(mutants)
    assert {each.before for each in mutants if each.at_import} == {"1.5", "3"}


@pytest.mark.parametrize("edit", ["# a comment\n\n", "def before():\n    return 1 - 1\n\n"])
def test_an_edit_elsewhere_renames_no_fault(edit):
    edited = SOURCE.replace("def world", edit + "def world")
    before, after = ({each.key for each in mutants_of("x.py", text)} for text in (SOURCE, edited))
    assert before <= after
