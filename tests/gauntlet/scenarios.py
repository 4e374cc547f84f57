"""What is disturbed while it works: commands as users give them, with small inputs, and what they leave behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec

from tests import tiny_shards
from tests.conftest import directory_bytes, jsonl_line, write_jsonl
from tests.gauntlet.sandbox import Wrong

UNFINISHED = (".tmp", ".part", ".lock", ".unfinished.json")
"""How the names of files end that nobody reads."""


class Scenario:
    """A command with its input in `home`; what it writes is `home / "out"`."""

    may_leave = False
    """Whether what a killed process had begun stays beside its output: where that is a directory of the user's own."""

    def __init__(self, home: Path) -> None:
        self.home, self.out = home, home / "out"
        self.whole: dict[str, bytes] = {}
        """What an undisturbed run leaves."""

    def prepare(self) -> None:
        """Make the input, once; in a process of its own."""

    def begin(self) -> None:
        """Put the output where a first run finds it."""
        shutil.rmtree(self.out, ignore_errors=True)

    def run(self) -> int:
        """Run the command in this process; return its exit code."""
        raise NotImplementedError

    def left(self) -> dict[str, bytes]:
        """Return what the output holds now."""
        return directory_bytes(self.out) if self.out.exists() else {}

    def check_interrupted(self) -> None:
        """Raise Wrong where a file under its final name is not whole."""
        for name, data in self.left().items():
            if not name.endswith(UNFINISHED) and data != self.whole.get(name):
                raise Wrong(f"{name} is there, and is not what an undisturbed run writes")

    def check_finished(self) -> None:
        """Raise Wrong where the output is not that of an undisturbed run, byte for byte."""
        left = {name: data for name, data in self.left().items() if not (self.may_leave and name.endswith(".tmp"))}
        if left.keys() != self.whole.keys():
            raise Wrong(f"other files than an undisturbed run leaves: {sorted(left.keys() ^ self.whole.keys())[:4]}")
        for name, data in left.items():
            if data != self.whole[name]:
                raise Wrong(f"{name} is not what an undisturbed run writes")


def data_command(*arguments: object) -> int:
    """Run `vlm3data` in this process."""
    from vlm3data.cli import app
    from vlm3data.command import run_app

    return run_app(app, [str(argument) for argument in arguments])


class Build(Scenario):
    """`vlm3data build` of photos with depths, six shards."""

    more: tuple[object, ...] = ("--workers", 1)
    records = 12

    def prepare(self) -> None:
        write_jsonl(self.home / "root", [jsonl_line(n) for n in range(self.records)])

    def command(self) -> list[object]:
        told: list[object] = ["build", "jsonl", "--root", self.home / "root", "--out", self.out, "--focal", 150]
        return [*told, "--shard-size", 2, "--align", "none", *self.more]

    def run(self) -> int:
        return data_command(*self.command())


class BuildOriginal(Build):
    """The same with the source's own images."""

    more = ("--workers", 1, "--store", "original")


class BuildInProcesses(Build):
    """The same with two worker processes."""

    more = ("--workers", 2)
    records = 6


class BuildOnRay(Build):
    """The same on a Ray of its own."""

    more = ("--engine", "ray", "--workers", 2)
    records = 6


class Append(Build):
    """`vlm3data build --append` after a second file came."""

    more = ("--workers", 1, "--append")

    def prepare(self) -> None:
        super().prepare()
        self.more = ("--workers", 1)
        if self.run():
            raise AssertionError("the first build failed")
        self.out.rename(self.home / "before")
        lines = [json.dumps(jsonl_line(n)) for n in range(self.records)]
        (self.home / "root" / "zz_train.jsonl").write_text("\n".join(lines[:8]) + "\n")

    def begin(self) -> None:
        super().begin()
        shutil.copytree(self.home / "before", self.out)

    def check_interrupted(self) -> None:
        """The index of before stays until the new one is there."""
        before = directory_bytes(self.home / "before")
        for name, data in self.left().items():
            if not name.endswith(UNFINISHED) and data not in (self.whole.get(name), before.get(name)):
                raise Wrong(f"{name} is neither as before nor as after")


class OfShards(Scenario):
    """Something that reads shards."""

    def prepare(self) -> None:
        build = Build(self.home)
        build.out = self.home / "shards"
        build.prepare()
        if build.run():
            raise AssertionError("the build failed")

    @property
    def shards(self) -> Path:
        """Return where they are."""
        return self.home / "shards"


class Rerender(OfShards):
    """`vlm3data rerender` on another grid."""

    def run(self) -> int:
        return data_command("rerender", self.shards, "--out", self.out, "--workers", 1, "--grid", 1000)


class Export(OfShards):
    """`vlm3data export` as conversations with image files."""

    form = "llava"

    def run(self) -> int:
        return data_command("export", self.shards, "--format", self.form, "--out", self.out)


class ExportShareGpt(Export):
    """The same for other trainers."""

    form = "sharegpt"


class ExportParquet(Export):
    """The same as Parquet."""

    form = "parquet"


class Preview(OfShards):
    """`vlm3data preview`, one page."""

    may_leave = True

    def run(self) -> int:
        return data_command("preview", self.shards, "--out", self.out / "page.html")


class Card(OfShards):
    """`vlm3data card`, one page."""

    may_leave = True

    def begin(self) -> None:
        super().begin()
        self.out.mkdir()

    def run(self) -> int:
        return data_command("card", self.shards, "--out", self.out / "card.md")


class MixPage(OfShards):
    """`vlm3data mix show --html`, and the lock of a mixture."""

    may_leave = True

    def begin(self) -> None:
        super().begin()
        self.out.mkdir()
        (self.home / "mix.yaml").write_text(f"datasets: {{d: {{shards: {self.shards}, weight: 1}}}}\nsamples: 50\n")

    def run(self) -> int:
        lock = data_command("mix", "lock", self.home / "mix.yaml", "--out", self.out / "mix.lock")
        return lock or data_command("mix", "show", self.home / "mix.yaml", "--html", self.out / "mix.html")


class Synth(Scenario):
    """`vlm3data synth`: a dataset in another's files."""

    may_leave = True

    def run(self) -> int:
        told = ("--scenes", 2, "--frames", 3, "--width-px", 64, "--height-px", 64)
        return data_command("synth", "--layout", "wai", "--out", self.out, *told)


class Predictions(Scenario):
    """The file that `vlm3train eval` appends answers to."""

    answers = 60

    def begin(self) -> None:
        super().begin()
        self.out.mkdir()

    def _row(self, number: int) -> Any:
        from vlm3train.predictions import Prediction

        return Prediction(
            model="m", dataset="d", source="s", key=f"k{number}", index=0, task="depth", control="", question="q",
            expected="1 meter", truth={"depth_m": 1.0}, answer=f"{number} meters", images_of=f"k{number}",
        )  # fmt: skip

    def run(self) -> int:
        from vlm3train.predictions import PredictionFile

        with PredictionFile(self.out / "p.arrow", {"model": {"name": "m"}}) as file:
            for first in range(0, self.answers, 4):
                rows = [self._row(number) for number in range(first, first + 4)]
                file.append([row for row in rows if file.answer(("m", "d"), row.key, 0, row.key) is None])
        return 0

    def left(self) -> dict[str, bytes]:
        from vlm3train.predictions import read_predictions

        path = self.out / "p.arrow"
        return {row.key: row.answer.encode() for row in read_predictions(path)[1]} if path.exists() else {}


class Cache(OfShards):
    """Processes that read a remote dataset through one cache with too little room."""

    limit_gb = 2e-5

    def prepare(self) -> None:
        super().prepare()

    def begin(self) -> None:
        """The cache is left as it is: what a process that died left there is what the next ones find."""
        memory = fsspec.filesystem("memory")
        for path in self.shards.iterdir():
            memory.pipe_file(f"/gauntlet/{path.name}", path.read_bytes())

    def run(self) -> int:
        from vlm3data.mixture import Mixture
        from vlm3data.stream import open_stream

        spec = {
            "datasets": {"d": {"shards": "memory://gauntlet", "weight": 1}},
            "cache": {"directory": str(self.home / "cache"), "limit_gb": self.limit_gb},
        }
        local = {"datasets": {"d": {"shards": str(self.shards), "weight": 1}}}
        with open_stream(Mixture.check(spec, "x")) as stream, open_stream(Mixture.check(local, "x")) as same:
            for (_, one), (_, other) in islice(zip(stream, same, strict=True), 36):
                if (one.key, one.images, one.record_json) != (other.key, other.images, other.record_json):
                    return 77
        return 0

    def left(self) -> dict[str, bytes]:
        return {}


class SmallShards(Scenario):
    """A dataset written shard by shard without the build: manifests and index."""

    may_leave = True

    def run(self) -> int:
        samples = [
            tiny_shards.sample(number, [tiny_shards.depth_question((40, 30), 2.0)]) for number in range(12)
        ]  # fmt: skip
        tiny_shards.write_dataset(self.out, [samples[first : first + 3] for first in range(0, 12, 3)])
        return 0


class Training(Scenario):
    """`vlm3train sft` with checkpoints, on the processor; goes on with `--resume`."""

    steps = 6

    def prepare(self) -> None:
        from vlm3train.tiny import NANO, example_texts, write_tiny_model

        write_tiny_model(self.home / "model", NANO, list(example_texts(count=300)), seed=0)
        options = ("--width-px", 96, "--height-px", 96, "--scenes", 2)
        told = ("--out", self.home / "shards", "--limit", 12, "--focal", 100, "--workers", 1)
        if data_command("build", "synthetic", *told, *options):
            raise AssertionError("the build failed")
        path = self.home / "mix.yaml"
        path.write_text(f"datasets: {{d: {{shards: {self.home / 'shards'}, weight: 1}}}}\n")

    def run(self) -> int:
        from vlm3data.command import run_app
        from vlm3train.cli import app

        told = ["--model", self.home / "model", "--mixture", self.home / "mix.yaml", "--out", self.out]
        told += ["--steps", self.steps, "--workers", 0, "--save-every", 2, "--no-bf16", "--batch-size", 2]
        told += ["--log-every", 1, "--lr", 1e-3]
        if any(path.joinpath("trainer_state.json").exists() for path in self.out.glob("checkpoint-*")):
            told.append("--resume")
        return run_app(app, ["sft", *map(str, told)])

    def left(self) -> dict[str, bytes]:
        """Weights and log; the rest holds times."""
        found: dict[str, bytes] = {}
        for path in self.out.glob("*.safetensors"):
            found[path.name] = path.read_bytes()
        if "model.safetensors" in found and (self.out / "log.jsonl").exists():
            lines = [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
            losses = {line["step"]: line["loss"] for line in lines if "loss" in line and "step" in line}
            found["losses"] = json.dumps(losses, sort_keys=True).encode()
        return found


SCENARIOS: dict[str, tuple[Callable[[Path], Scenario], int]] = {
    "build": (Build, 260),
    "build --store original": (BuildOriginal, 120),
    "build --append": (Append, 120),
    "build --workers 2": (BuildInProcesses, 20),
    "build --engine ray": (BuildOnRay, 4),
    "rerender": (Rerender, 120),
    "export llava": (Export, 80),
    "export sharegpt": (ExportShareGpt, 40),
    "export parquet": (ExportParquet, 60),
    "preview": (Preview, 40),
    "card": (Card, 30),
    "mix show, mix lock": (MixPage, 30),
    "synth": (Synth, 60),
    "index, shards by hand": (SmallShards, 60),
    "cache of several processes": (Cache, 100),
    "predictions of eval": (Predictions, 80),
    "sft with checkpoints": (Training, 16),
}
"""By the name in the table, with the number of kills in a whole run."""
