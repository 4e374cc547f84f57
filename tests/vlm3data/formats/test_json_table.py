"""Large JSON tables: any formatting, any place where a piece ends, and one line for what is wrong."""

from __future__ import annotations

import json

import fsspec
import msgspec
import pytest

from vlm3data.formats import json_table
from vlm3data.formats.json_table import read_table
from vlm3data.types import UserError


class Row(msgspec.Struct):
    token: str
    note: str
    numbers: tuple[float, float]


ROWS = [
    {
        "token": f"t{number}",
        "note": '}, {"token": "no"} , [ \\" "\u00e9\u4e16' * (number % 4),
        "numbers": [number, 0.5],
        "deep": {"a": [{"b": {}}, {}]},
    }
    for number in range(60)
]
FS = fsspec.filesystem("file")


def read(path) -> list[Row]:
    return [row for rows in read_table(FS, str(path), "v/table.json", Row) for row in rows]


@pytest.mark.parametrize("piece", [1, 7, 64, 301, 1 << 20])
@pytest.mark.parametrize("layout", [{"indent": 0}, {"indent": None}, {"separators": (",", ":")}, {"indent": 3}])
def test_whatever_the_layout_and_wherever_a_piece_ends_every_record_is_read(tmp_path, monkeypatch, piece, layout):
    monkeypatch.setattr(json_table, "PIECE", piece)
    rows = ROWS[:8] if piece == 1 else ROWS
    text = json.dumps(rows, ensure_ascii=False, **layout)
    path = tmp_path / "table.json"
    path.write_text(f" \n{text}\n ")
    assert [(row.token, row.note, list(row.numbers)) for row in read(path)] == [
        (row["token"], row["note"], row["numbers"]) for row in rows
    ]


def test_an_empty_table_has_no_records(tmp_path):
    (tmp_path / "table.json").write_text("[ ]")
    assert read(tmp_path / "table.json") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "v/table.json: is empty"),
        ('{"a": 1}', "v/table.json: is not a JSON list of records"),
        ('[{"token": "a", "note": "n", "numbers": [1, 2]}', "record 0 is followed by nothing: the table is cut short"),
        ('[{"token": "a", "note": "n", "numbers": [1, 2]}, {"tok', "record 1: the table is cut short"),
        ('[{"token": "a", "note": "n", "numbers": [1, 2]},', "record 1: the table is cut short"),
        ('[{"token": "a", "note": "n", "numbers": [1, 2]} {}]', "record 0 is followed by '{}]'"),
        ('[{"token": "a", "note": "n", "numbers": [1, 2]}] []', "record 0 is followed by '] []'"),
        ('[{"token": "a", "note": "n"}]', "record 0 (token 'a'): Object missing required field `numbers`"),
        ('[{"token": "a", "note": 3, "numbers": [1, 2]}]', "(token 'a'): note: Expected `str`, got `int`"),
        ('[{"token": "a", "note": "", "numbers": [1]}]', "(token 'a'): numbers: Expected `array` of length 2"),
        ('[{"token": "a", "note": "", "numbers": [1, "2"]}]', "(token 'a'): numbers[1]: Expected `float`, got `str`"),
        ('[{"token": "a", "note": "", "numbers": [1, NaN]}]', "(token 'a'): not valid JSON"),
        ('[{"token": "a", "note": "", "numbers": [1, 1e999]}]', "(token 'a'): "),
        ("[3]", "record 0: Expected `object`, got `int`"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_and_record(tmp_path, text, message):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read(tmp_path / "table.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("v/table.json: ")
    assert "\n" not in str(caught.value)


def test_the_records_before_a_wrong_one_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(json_table, "PIECE", 1000)
    rows = [*ROWS[:40], {"token": "bad"}, *ROWS[40:]]
    (tmp_path / "table.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"record 40 \(token 'bad'\)"):
        read(tmp_path / "table.json")


def test_text_that_is_not_utf8_and_a_record_without_end_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    path.write_bytes(b'[{"token": "\xff", "note": "", "numbers": [1, 2]}]')
    with pytest.raises(UserError, match="not UTF-8"):
        read(path)
    monkeypatch.setattr(json_table, "MAX_RECORD", 10_000)
    monkeypatch.setattr(json_table, "PIECE", 1000)
    path.write_text('[{"token": "' + "x" * 100_000)
    with pytest.raises(UserError, match=r"no record ends|not valid JSON|cut short"):
        read(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"v/table\.json: there is no such table"):
        read(tmp_path / "nothing.json")
