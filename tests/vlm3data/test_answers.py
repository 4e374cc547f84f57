"""Numbers out of free text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm3data.answers import METRES, parse_length_m


@pytest.mark.parametrize(
    ("text", "length_m"),
    [
        ("3.21 meters", 3.21),
        ("3.21", 3.21),
        ("3.21.", 3.21),
        ("3.21m", 3.21),
        ("It is 3.21 metres away.", 3.21),
        ("about 320 cm", 3.2),
        ("10 feet", 3.048),
        ("a 10-inch gap", 0.254),
        (".5 m", 0.5),
        ("5. meters", 5.0),
        ("1.5e1 m", 15.0),
        ("<answer> 4.20 </answer>", 4.2),
        ("<think> The point is around 7.1 meters away. </think>\n\n<answer> 4.20 </answer>", 4.2),
        ("<think>maybe 9 m</think> 4.20 m", 4.2),
        ("<answer> 4.20", 4.2),
        ("The depth at (1200, 340) is 4.20 meters.", 4.2),
        ("4.20 meters, that is 4.20 m", 4.2),
        ("-3 m", -3.0),
        ("\u22123 m", -3.0),
        ("0.5 km", 500.0),
        ("12 yards", 10.9728),
        ("1,234.50 meters", 1234.5),
        ("about 5 m </think> 4.00 m", 4.0),
        ("3,2", None),
        ("I cannot tell.", None),
        ("", None),
        ("3 or 4", None),
        ("3 m or 4 m", None),
        ("1.2.3", None),
        ("<think> it is 4 m", None),
        ("1e999 m", None),
        ("nan", None),
        ("three meters", None),
    ],
)
def test_the_length_a_text_names(text, length_m):
    assert parse_length_m(text) == (None if length_m is None else pytest.approx(length_m))


@given(st.floats(0.01, 1000), st.sampled_from(sorted(METRES)))
def test_every_unit_is_understood(value, unit):
    assert parse_length_m(f"{value:.2f} {unit}") == pytest.approx(float(f"{value:.2f}") * METRES[unit])


def test_units_are_as_long_as_they_are_by_definition():
    """The table that is read is no proof of itself."""
    in_mm = {"m": 1000, "cm": 10, "mm": 1, "km": 1_000_000, "ft": 304.8, "inch": 25.4, "yd": 914.4, "mile": 1_609_344}
    spelled = {
        "m": "meter meters metre metres", "cm": "centimeter centimeters centimetre centimetres",
        "mm": "millimeter millimeters millimetre millimetres", "km": "kilometer kilometers kilometre kilometres",
        "ft": "foot feet", "inch": "inches", "yd": "yard yards", "mile": "miles",
    }  # fmt: skip
    names = {name: in_mm[unit] for unit, more in spelled.items() for name in (unit, *more.split())}
    assert {f"3 {name}": parse_length_m(f"3 {name}") for name in names} == {
        f"3 {name}": pytest.approx(3 * mm / 1000, rel=1e-12) for name, mm in names.items()
    }
    assert set(METRES) == set(names)


@given(st.text(max_size=80))
def test_no_text_is_too_strange(text):
    assert parse_length_m(text) is None or isinstance(parse_length_m(text), float)
