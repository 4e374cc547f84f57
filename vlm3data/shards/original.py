"""Shards with the source's own images: how labels get into their pixels, and how both are unified when they are read.

The stored sample is sound by itself: its questions name pixels of the stored image. Reading it moves image and labels
as the build would have moved them, to any focal length and alignment, and words the questions anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args, overload

import numpy as np
import orjson
from fsspec import AbstractFileSystem

from vlm3data import registry
from vlm3data.config import read_yaml
from vlm3data.contracts import MovesLabels, Task
from vlm3data.geometry import move_of
from vlm3data.images import decode_rgb, encode_jpeg
from vlm3data.randomness import rng_for
from vlm3data.records import by_task, camera_of, camera_record, facts_of, question_record
from vlm3data.storage import write_whole
from vlm3data.types import (
    Cut,
    DepthKind,
    Drop,
    Held,
    MadeImages,
    Move,
    Question,
    Sample,
    SourceFacts,
    UInt8Array,
    UserError,
    View,
)
from vlm3data.wording import pack_path


class Unify(NamedTuple):
    """How images that are unified when they are read shall be seen; None: as the build says."""

    focal_px: float | None = None
    align: Literal["crop", "pad", "none"] | None = None


def movable(tasks: Sequence[Task]) -> list[Any]:
    """Return the tasks; raises UserError for one that cannot be asked of images that are unified when they are read."""
    for task in tasks:
        why = task.why_not_moved() if isinstance(task, MovesLabels) else "the task does not say how its labels move"
        if why is not None:
            raise UserError(f"--store original: {task.name}: {why}; build it with --store unified")
    return list(tasks)


def in_source(
    views: Sequence[View],
    questions: Sequence[Question],
    tasks: Sequence[Task],
    facts: SourceFacts,
    depth_kind: DepthKind,
    seed: int,
) -> tuple[list[View], list[Question]]:
    """Return views and questions of the unified images as those of their source images."""
    asking = movable(tasks)
    moved = [
        question_record(question)
        for task in asking
        for question in task.to_source([question for question in questions if question.task == task.name], views)
    ]
    held = Held(
        stored=by_task(moved),
        cameras=[view.source_camera for view in views],
        world_from_cam=[view.world_from_cam for view in views],
        facts=facts,
    )
    unmoved = [replace(view, camera=view.source_camera, scale=(1.0, 1.0), crop_xy_px=(0, 0)) for view in views]
    return unmoved, _worded(held, asking, depth_kind, seed, [view.frame for view in views])


def keep_packs(fs: AbstractFileSystem, directory: str, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the wording packs that `tasks` name beside the shards: reading them takes their words."""
    for name, options in tasks.items():
        if options.get("wordings"):
            pack = read_yaml(pack_path(options["wordings"], name))
            write_whole(fs, f"{directory}/{pack_name(name)}", orjson.dumps(pack, option=orjson.OPT_INDENT_2))


def pack_name(task: str) -> str:
    """Return the name of the file with a task's wordings."""
    return f"wordings-{task}.yaml"  # JSON is YAML


class Unifier:
    """Unifies the samples of the dataset at `url`, whose `about` is its dataset.json."""

    def __init__(self, url: str, about: Mapping[str, Any], unify: Unify) -> None:
        config = about["config"]
        self._facts = facts_of(about["facts"])
        self._seed, self._depth_kind = config["seed"], config["label_depth"]
        if self._depth_kind not in get_args(DepthKind):
            raise ValueError(f"label_depth {self._depth_kind!r}")
        self._quality = config["jpeg_quality"]
        self._move = partial(
            move_of,
            focal_px=unify.focal_px or config["focal_px"],
            mode=config["focal_mode"],
            align=unify.align or config["align"],
            published=config["published"],
        )
        self._tasks = [_open_task(url, name, held) for name, held in config["tasks"].items()]
        self.cut: Counter[str] = Counter()
        """Labels left out of the samples unified so far, by reason."""

    def __call__(self, stored: Sample) -> Sample:
        """Return a stored sample unified; raises Drop: no_question_left, and where nothing of an image is left."""
        views = stored.record["views"]
        moves = [self._move(camera_of(view["source_camera"])) for view in views]
        record = stored.record | {
            "views": [view | _moved_record(move) for view, move in zip(views, moves, strict=True)],
            "questions": [question_record(question) for question in self._questions(stored.record, moves)],
        }
        if not record["questions"]:
            raise Cut("no_question_left", stored.key)
        images = _UnifiedLater(stored.images, moves, self._quality)
        sample = replace(stored, images=images, record_json=orjson.dumps(record))
        sample.__dict__["record"] = record
        return sample

    def _questions(self, record: Mapping[str, Any], moves: Sequence[Move]) -> list[Question]:
        stored = by_task(record["questions"])
        poses = [view.get("world_from_cam") for view in record["views"]]
        held = Held(
            stored={
                task.name: self._moved(task, stored[task.name], moves) for task in self._tasks if task.name in stored
            },
            cameras=[move.camera for move in moves],
            world_from_cam=[None if pose is None else np.array(pose) for pose in poses],
            facts=self._facts,
        )
        return _worded(held, self._tasks, self._depth_kind, self._seed, record["frames"])

    def _moved(
        self, task: MovesLabels, stored: Sequence[Mapping[str, Any]], moves: Sequence[Move]
    ) -> list[dict[str, Any]]:
        questions = [Question(**question) for question in stored]
        return [question_record(question) for question in task.to_view(questions, moves, self.cut)]


def _worded(
    held: Held, tasks: Sequence[Any], depth_kind: DepthKind, seed: int, frames: Sequence[str]
) -> list[Question]:
    questions: list[Question] = []
    for task in tasks:
        if held.stored.get(task.name):
            questions += task.ask_again(held, depth_kind, rng_for(seed, "ask", task.name, *frames))
    return questions


def _moved_record(move: Move) -> dict[str, Any]:
    return {"camera": camera_record(move.camera), "scale": list(move.scale), "crop_xy_px": list(move.crop_xy_px)}


class _UnifiedLater(MadeImages):
    def __init__(self, stored: Sequence[bytes], moves: Sequence[Move], quality: int) -> None:
        self._stored, self._moves, self._quality = stored, moves, quality
        self._encoded: list[bytes] | None = None

    def arrays(self) -> list[UInt8Array]:
        from vlm3data.geometry.warp import moved_image  # OpenCV, which nobody else who reads shards needs

        try:
            return [moved_image(decode_rgb(image), move) for image, move in zip(self._stored, self._moves, strict=True)]
        except Drop as drop:
            raise ValueError(str(drop)) from drop

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if self._encoded is None:
            self._encoded = [encode_jpeg(image, self._quality) for image in self.arrays()]
        return self._encoded[index]


def _open_task(url: str, name: str, held: Mapping[str, Any]) -> Any:
    """Return a task with the options of the build; the words are our own, or lie beside the shards."""
    kind = registry.load("task", name)
    options = {key: value for key, value in held.items() if key in kind.Options.model_fields and key != "wordings"}
    task = kind(kind.Options.check(options, where=f"task {name}"))
    if task.about()["wordings"] == held["wordings"]:
        return task
    options["wordings"] = f"{url}/{pack_name(name)}"
    try:
        task = kind(kind.Options.check(options, where=f"task {name}"))
    except UserError as error:
        raise UserError(
            f"{url}: the wordings of {name} are not those of this version; rerender it ({error})"
        ) from error
    if task.about()["wordings"] != held["wordings"]:
        raise UserError(f"{url}/{pack_name(name)}: are not the wordings that the shards were built with")
    return task
