"""Shards that are damaged or hostile, and every command that reads them, run as a user runs it."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import jsonl_line, write_jsonl
from tests.gauntlet import hostile_tars
from tests.gauntlet.mutations import mutated
from tests.gauntlet.sandbox import Wrong
from vlm3data import rerender
from vlm3data.build import BuildConfig, build
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.mixture import Mixture
from vlm3data.randomness import rng_for
from vlm3data.shards import CorruptSampleError, Dataset
from vlm3data.shards.ranges import StoreError
from vlm3data.stream import open_stream
from vlm3data.types import Drop, Sample

Known = dict[str, tuple[tuple[bytes, ...], bytes]]
"""What was written: images and record by key."""
SETTINGS = {"source": "jsonl", "focal_px": 150, "shard_size": 3, "align": "none", "tasks": {"depth": {"pixels": 4}}}


class Command(NamedTuple):
    """What is done with the damaged dataset, and how many cases of 100,000 it is given."""

    run: Callable[[Path, Path, Known, str], str]
    cases: int
    store: str = "unified"


def cli(*arguments: object) -> str:
    """Run a command line; return `read` or `refused`. What it prints may not control the terminal."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = run_app(app, [str(argument) for argument in arguments])
    text = printed.getvalue()
    if "Traceback (most recent call last)" in text:
        raise Wrong("a traceback is printed")
    if strange := {character for character in text if not character.isprintable() and character not in "\n\t\r"}:
        raise Wrong(f"prints {strange!r}")
    if code and not text.strip():
        raise Wrong(f"exit code {code} without a word")
    return "refused" if code else "read"


def _same(sample: Sample, known: Known) -> None:
    record = known.get(sample.key)
    if record is None or (tuple(map(bytes, sample.images)), bytes(sample.record_json)) != record:
        raise Wrong(f"sample {sample.key!r} is not as it was written")


def _samples(shards: Path, out: Path, known: Known, changed: str) -> str:
    dataset, refused = Dataset(str(shards)), False
    for i in range(min(len(dataset), 50)):
        try:
            _same(dataset.stored(i), known)
        except (CorruptSampleError, StoreError, IndexError) as error:
            if isinstance(error, IndexError) and changed not in ("dataset.json",):
                raise
            refused = True
    return "refused" if refused else "read"


def _stream(shards: Path, out: Path, known: Known, changed: str) -> str:
    mixture = Mixture.check({"datasets": {"d": {"shards": str(shards), "weight": 1}}, "max_bad": 5}, "gauntlet")
    try:
        with open_stream(mixture) as stream:
            for _, sample in islice(stream, 10):
                _same(sample, known)
    except StoreError:
        return "refused"
    return "read"


def _seen(shards: Path, out: Path, known: Known, changed: str) -> str:
    """Read samples as a model sees them: images of the source unified, questions worded anew."""
    dataset = Dataset(str(shards))
    for i in range(min(len(dataset), 50)):
        try:
            sample = dataset[i]
            _ = sample.image_arrays(), sample.questions
        except (CorruptSampleError, StoreError, Drop):
            continue
        except ValueError as error:
            if "image" not in str(error).lower():  # what `image_arrays` promises
                raise
    return "read"


def _verify(shards: Path, out: Path, known: Known, changed: str) -> str:
    found = cli("verify", shards)
    if found == "read" and changed.endswith(".tar"):
        raise Wrong(f"verify finds nothing wrong with {changed}")
    return found


def _told(*before: str, flags: tuple[str, ...] = ()) -> Callable[[Path, Path, Known, str], str]:
    """Return a command line about the shards; `@` stands for the directory to write to."""

    def run(shards: Path, out: Path, known: Known, changed: str) -> str:
        return cli(*before, shards, *(str(out / flag[1:]) if flag.startswith("@") else flag for flag in flags))

    return run


def _mix(shards: Path, out: Path, known: Known, changed: str) -> str:
    path = out / "mix.yaml"
    path.write_text(f'datasets: {{d: {{shards: {shards}, weight: 1, where: "questions > 0"}}}}\nsamples: 30\n')
    return cli("mix", "show", path, "--html", out / "mix.html")


COMMANDS = {
    "samples": Command(_samples, 3000),
    "stream": Command(_stream, 300),
    "as seen, of original images": Command(_seen, 700, "original"),
    "verify": Command(_verify, 700),
    "preview": Command(_told("preview", flags=("--out", "@p.html")), 300),
    "stats": Command(_told("stats"), 300),
    "card": Command(_told("card", flags=("--out", "@card.md")), 300),
    "mix show": Command(_mix, 300),
    "rerender": Command(_told("rerender", flags=("--out", "@again", "--workers", "1", "--grid", "1000")), 250),
    "export llava": Command(_told("export", flags=("--format", "llava", "--out", "@e")), 250),
    "export sharegpt": Command(_told("export", flags=("--format", "sharegpt", "--out", "@e")), 200),
    "export parquet": Command(_told("export", flags=("--format", "parquet", "--out", "@e")), 200),
    "hostile tars": Command(_samples, 1500),
}


def build_shards(directory: Path, **changes: Any) -> Known:
    """Build small shards below `directory`; return what they hold."""
    write_jsonl(directory / "root", [jsonl_line(n) for n in range(6)])
    build(
        BuildConfig.check(SETTINGS | {"root": str(directory / "root")} | changes, "x"), str(directory / "s"), workers=1
    )
    dataset = Dataset(str(directory / "s"))
    stored = [dataset.stored(i) for i in range(len(dataset))]
    return {sample.key: (tuple(map(bytes, sample.images)), bytes(sample.record_json)) for sample in stored}


def opened(name: str, seed: int, work: Path) -> Callable[[int], str]:
    """Make sound shards; return what damages a file of them and runs the command."""
    command = COMMANDS[name]
    if name == "hostile tars":
        return _hostile(work)
    known = build_shards(work, store=command.store)
    shards, out = work / "s", work / "out"
    files = sorted(path for path in shards.iterdir() if path.name != "plan.parquet")
    sound = {path: path.read_bytes() for path in files}

    def run(case: int) -> str:
        rng = rng_for(seed, "shards", name, case)
        path = files[int(rng.integers(len(files)))]
        data = sound[path]
        while data == sound[path]:
            data = mutated(rng, sound[path], [other for at, other in sound.items() if at.suffix == path.suffix])
        _replace(path, data)
        try:
            return _clean(command, shards, out, known, path.name)
        finally:
            _replace(path, sound[path])

    if _clean(command, shards, out, known, "") != "read":
        raise AssertionError(f"{name}: the sound shards are not read")
    return run


def _replace(path: Path, data: bytes) -> None:
    """Write a file beside what is mapped of the one before."""
    path.unlink()
    path.write_bytes(data)


def _clean(command: Command, shards: Path, out: Path, known: Known, changed: str) -> str:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    rerender._open.cache_clear()  # a command has a process of its own
    return command.run(shards, out, known, changed)


def _hostile(work: Path) -> Callable[[int], str]:
    """Return what gives each hostile dataset to each command, and looks whether anything appeared elsewhere."""
    names = [name for name in COMMANDS if name != "hostile tars"]
    crafts = list(hostile_tars.CRAFTS)
    known = hostile_tars.write("sound", work / "sound")
    for name in names:  # libraries start their threads before memory is limited
        _clean(COMMANDS[name], work / "sound", work / "out", known, "")

    def run(case: int) -> str:
        craft, command = crafts[case % len(crafts)], COMMANDS[names[case // len(crafts) % len(names)]]
        home = work / "deep" / "er" / "home"
        shutil.rmtree(work / "deep", ignore_errors=True)
        home.mkdir(parents=True)
        known = hostile_tars.write(craft, home / "s")
        before = _everything(work) | hostile_tars.elsewhere()
        try:
            return _clean(command, home / "s", home / "out", known, "")
        except Wrong as error:
            raise Wrong(f"{craft}, {names[case // len(crafts) % len(names)]}: {error}") from error
        finally:
            after = _everything(work) | hostile_tars.elsewhere()
            new = {path for path in after if path not in before and not path.startswith(str(home / "out"))}
            links = [path for path in after if path.startswith(str(home / "out")) and Path(path).is_symlink()]
            if new or links:
                for path in new:
                    if not path.startswith(str(work)):
                        Path(path).unlink(missing_ok=True)
                raise Wrong(f"{craft}: wrote {sorted(new) or links}")

    return run


def _everything(work: Path) -> dict[str, int]:
    return {str(path): 0 for path in work.rglob("*")}
