"""Writing an export: what is finished says so, what is half done goes on, and nothing else is overwritten."""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from fsspec import AbstractFileSystem

from vlm3data.export import parquet
from vlm3data.export.drawn import Drawn, Item
from vlm3data.export.llava import LLAVA, QWEN_VL
from vlm3data.export.rows import RowFormat
from vlm3data.export.sharegpt import SHAREGPT
from vlm3data.shards.write import sample_files
from vlm3data.storage import TEMPORARY, is_local, list_files, open_store, path_below, read_whole, write_whole
from vlm3data.types import Drop, UserError

FINISHED, UNFINISHED = "export.json", "export.unfinished.json"
ROW_FORMATS = {"llava": LLAVA, "qwen-vl": QWEN_VL, "sharegpt": SHAREGPT}
FORMATS = (*ROW_FORMATS, "parquet")

Progress = Callable[[int, int], None]


def export(drawn: Drawn, name: str, out: str, progress: Progress) -> dict[str, Any]:
    """Write `drawn` in the format `name` below `out`; return what stands in its `export.json`, written last.

    The same request goes on where an earlier one stopped; raises UserError where `out` holds anything else.
    """
    fs, directory = open_store(out)
    request = {"version": 1, "format": name, **drawn.request}
    if (done := _begin(fs, directory, out, request)) is not None:
        return done
    tally = _Tally(progress, drawn.total)
    if name == "parquet":
        files = _write_parquet(fs, directory, drawn, tally)
    else:
        files = _write_rows(fs, directory, ROW_FORMATS[name], drawn, tally)
    about = {"request": request, **tally.as_dict(), "files": files}
    write_whole(fs, f"{directory}/{FINISHED}", orjson.dumps(about, option=orjson.OPT_INDENT_2) + b"\n")
    fs.rm_file(f"{directory}/{UNFINISHED}")
    return about


def _begin(fs: AbstractFileSystem, directory: str, out: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is finished already; else mark the directory as ours and unfinished."""
    for marker in (FINISHED, UNFINISHED):
        path = f"{directory}/{marker}"
        if not fs.exists(path):
            continue
        found = orjson.loads(read_whole(fs, path))
        before = found["request"] if marker == FINISHED else found
        if before != orjson.loads(orjson.dumps(request)):
            raise UserError(f"{out} holds another export ({marker} says which); choose another --out, or delete it")
        if marker == FINISHED:
            return found
        if is_local(fs):  # what a run that was killed had begun
            for begun in Path(directory).rglob(f"*{TEMPORARY}"):
                begun.unlink(missing_ok=True)
        return None
    if list_files(fs, directory, ""):
        raise UserError(f"{out} is not empty and no export; choose another --out")
    fs.makedirs(directory, exist_ok=True)
    write_whole(fs, f"{directory}/{UNFINISHED}", orjson.dumps(request, option=orjson.OPT_INDENT_2) + b"\n")
    return None


def _write_rows(fs: AbstractFileSystem, directory: str, form: RowFormat, drawn: Drawn, tally: _Tally) -> dict[str, str]:
    """Write the images, and the rows beside them; the rows appear under their name when all are there."""
    path, folders = f"{directory}/{form.file}", set[str]()
    head, between, tail = (b"[\n", b",\n", b"\n]\n") if form.file.endswith(".json") else (b"", b"\n", b"\n")
    digest = hashlib.sha256()
    with fs.open(f"{path}.part", "wb") as file:

        def put(data: bytes) -> None:
            file.write(data)  # pyright: ignore[reportArgumentType]
            digest.update(data)

        for place, item in enumerate(tally.counted(drawn.items())):
            images = [
                _write_image(fs, directory, posixpath.join("images", item.folder, image), data, folders)
                for image, data in _images(item)
            ]
            put((between if place else head) + orjson.dumps(form.row(item, images)))
        put(tail)
    fs.mv(f"{path}.part", path)
    for name, value in form.beside.items():
        write_whole(fs, f"{directory}/{name}", orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    return {form.file: digest.hexdigest()}


def _write_image(fs: AbstractFileSystem, directory: str, name: str, data: bytes, folders: set[str]) -> str:
    """Write an image's bytes as they are, unless a sample that comes again, or a run before, has done so."""
    try:
        path = path_below(directory, name)
    except Drop as drop:
        raise UserError(f"a sample's key would leave the directory: {drop.detail}") from drop
    folder = posixpath.dirname(path)
    if folder not in folders:
        fs.makedirs(folder, exist_ok=True)
        folders.add(folder)
    if not fs.exists(path):  # it is there whole or not at all
        write_whole(fs, path, data)
    return name


def _write_parquet(fs: AbstractFileSystem, directory: str, drawn: Drawn, tally: _Tally) -> dict[str, str]:
    """Write files of 1,000 rows; they get the names that loaders look for when all are there."""
    fs.makedirs(f"{directory}/data", exist_ok=True)
    count = -(-drawn.total // parquet.ROWS_PER_FILE)
    names = [f"data/train-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    items = tally.counted(drawn.items())
    for name in names:
        path, part = f"{directory}/{name}", f"{directory}/{name}.part"
        rows = (
            parquet.row(item, [image for image, _ in _images(item)]) for item in islice(items, parquet.ROWS_PER_FILE)
        )
        if fs.exists(part) or fs.exists(path):
            for _ in rows:  # a run before wrote them; they are still counted
                pass
            continue
        with fs.open(f"{part}.tmp", "wb") as file:
            parquet.write_rows(file, rows)
        fs.mv(f"{part}.tmp", part)
    for name in names:
        if not fs.exists(f"{directory}/{name}"):
            fs.mv(f"{directory}/{name}.part", f"{directory}/{name}")
    return {name: _sha256(fs, f"{directory}/{name}") for name in names}


def _images(item: Item) -> list[tuple[str, bytes]]:
    return sample_files(item.sample)[:-1]  # the last one is the JSON


def _sha256(fs: AbstractFileSystem, path: str) -> str:
    with fs.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


class _Tally:
    """Counts what goes out, and tells the progress of it."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._samples, self._questions, self._images = 0, 0, 0
        self._splits, self._licences = Counter[str](), Counter[str]()

    def counted(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items on."""
        for item in items:
            yield item
            self._samples += 1
            self._questions += len(item.sample.questions)
            self._images += len(item.sample.images)
            self._splits[item.sample.record["split"]] += 1
            self._licences[item.sample.record["licence"]] += 1
            self._progress(self._samples, self._total)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "samples": self._samples,
            "questions": self._questions,
            "images": self._images,
            "splits": dict(sorted(self._splits.items())),
            "licences": dict(sorted(self._licences.items())),
        }
