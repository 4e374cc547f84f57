"""What a source, a task, a calibrator and a layout must offer; tests/contracts.py checks it for every plugin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from vlm3data.config import Config
from vlm3data.types import (
    Answered,
    Calibration,
    DepthKind,
    Float32Array,
    Float64Array,
    Frame,
    Held,
    Move,
    Question,
    SceneRef,
    SourceFacts,
    UInt8Array,
    View,
)


class Source(Protocol):
    """A dataset on disk (or generated), read into our conventions."""

    Options: ClassVar[type[Config]]
    """What a user may set on the command line for this source alone."""
    facts: SourceFacts

    def __init__(self, root: str, options: Any, seed: int) -> None: ...

    def scenes(self, split: str | None) -> Iterable[SceneRef]:
        """List the scenes of `split` (None: everything the root holds), in a stable order, cheaply."""
        ...

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield the frames of one scene in a stable order, `scene.num_frames` of them.

        A frame that cannot be read raises `Drop` from its `image` or `depth_m`, not from here, so that
        one bad frame costs one frame.
        """
        ...


@runtime_checkable
class KnowsOverlap(Protocol):
    """A source that knows which frames see the same: nothing then needs to be computed from depth and pose."""

    def overlap(self, scene: SceneRef) -> Float32Array | None:
        """Return (n, n) for the n frames of a scene: the share of the row's frame that the column's frame shows.

        NaN where that is unknown or a frame is unusable. None where it does not know this scene: the overlap is then
        computed from depth and pose.
        """
        ...


@runtime_checkable
class KnowsMemory(Protocol):
    """A source that says what one process which reads it takes at most, where that is more than `MEMORY_MB`."""

    memory_mb: int


MEMORY_MB = 1000
"""What one worker takes at most, in MB, where its source does not say otherwise."""


class Needs(NamedTuple):
    """What one job needs of the machine that runs it: a hint that an engine schedules by."""

    source: str = ""
    """The name of the source: machines that hold it on their own disks may be preferred."""
    memory_mb: int = MEMORY_MB


class Engine(Protocol):
    """Runs jobs somewhere; what a job does is none of its business."""

    def __call__(
        self,
        function: Callable[[Any], Any],
        jobs: Iterable[Any],
        *,
        workers: int | None = None,
        address: str | None = None,
        again: Callable[[Any], Any] | None = None,
        needs: Needs | None = None,
    ) -> Generator[tuple[Any, Any], None, None]:
        """Yield `(job, function(job))` as jobs finish, in any order; raise what a job raises.

        A job whose worker process died is done again, by `again` where that is given. Jobs are taken from the iterable
        as there is room for them.
        """
        ...


class Calibrator(Protocol):
    """A method that estimates the camera from one image, for sources without intrinsics."""

    Options: ClassVar[type[Config]]

    def __init__(self, options: Any) -> None: ...

    def about(self) -> Mapping[str, Any]:
        """Return what shapes this method's estimates (options, digest of its tables), for the config digest."""
        ...

    def calibrate(self, rgb: UInt8Array, encoded: bytes | None) -> Calibration:
        """Return the pinhole camera of the image `rgb` (h, w, 3), whose size is the camera's; or raise `Drop`.

        `encoded` is the file it was decoded from, if there was one: `rgb` may be that picture turned upright.
        The same image always gives the same camera.
        """
        ...


class Task(Protocol):
    """A question with its answer, parser and metric in one place."""

    name: str
    num_views: int
    Options: ClassVar[type[Config]]

    def __init__(self, options: Any) -> None: ...

    def about(self) -> Mapping[str, Any]:
        """Return what shapes this task's questions (options, digest of the wordings), for the config digest."""
        ...

    def ask(
        self, views: Sequence[View], facts: SourceFacts, depth_kind: str, rng: np.random.Generator
    ) -> list[Question]:
        """Return the questions that these views support, or raise `Drop`."""
        ...

    @classmethod
    def problem_with(cls, question: Question, record: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a stored question of this task, or None; `record` is its sample's JSON."""
        ...

    def parse(self, answer: str, truth: Mapping[str, Any]) -> Any:
        """Return the prediction that `answer` holds, or None where there is none.

        Of `truth` only what the question has told may be used: its kind, the names to choose from.
        """
        ...

    def score(self, prediction: Any, truth: Mapping[str, Any]) -> dict[str, float]:
        """Return this task's metrics for one answer; an unparsed one (None) counts as wrong."""
        ...

    def summary(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Return the metrics over many answers; where nothing else is called for, `metrics.mean_of_each` score."""
        ...


@runtime_checkable
class Draws(Protocol):
    """A task that may draw into the images that its questions are about."""

    def drawn(self, views: Sequence[View], questions: Sequence[Question]) -> Sequence[View]:
        """Return the views as a model shall see them; `questions` are the sample's, of all tasks."""
        ...


@runtime_checkable
class Rerenders(Protocol):
    """A task that can ask again from what shards hold: other wordings, another grid, fewer questions, no source.

    With the options of the build, and the same `rng`, it returns what `ask` had returned, to the byte; with other
    ones what `ask` would have.
    """

    def missing_from(self, held: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return in words what of these options shards do not hold; `held` has each stored task's `about`."""
        ...

    def ask_again(self, held: Held, depth_kind: DepthKind, rng: np.random.Generator) -> list[Question]:
        """Return the questions that a stored sample supports, or raise `Drop`; none where it holds nothing for them."""
        ...


@runtime_checkable
class MovesLabels(Rerenders, Protocol):
    """A task whose labels can be kept in the pixels of the source images, and moved when they are read.

    Both methods change the truths alone, and leave out what has no place there; `ask_again` then words them.
    """

    def why_not_moved(self) -> str | None:
        """Return in words why these options cannot be asked of images that are unified when they are read."""
        ...

    def to_source(self, asked: Sequence[Question], views: Sequence[View]) -> list[Question]:
        """Return this task's questions about the views with labels in the pixels of their source images."""
        ...

    def to_view(self, stored: Sequence[Question], moves: Sequence[Move], cut: Counter[str]) -> list[Question]:
        """Return them with labels in the pixels of the moved images; those left out are counted by reason in `cut`."""
        ...


@runtime_checkable
class ScoresSamples(Protocol):
    """A task with metrics of whole samples that are no means over questions, such as areas under curves."""

    def of_sample(self, answered: Sequence[Answered]) -> Sequence[float] | None:
        """Return the numbers of one sample, from all its answers; None where it has none."""
        ...

    def over_samples(self, values: Float64Array) -> dict[str, float]:
        """Return the metrics over the (n, k) numbers of n samples, in which a sample may be repeated."""
        ...


class Member(NamedTuple):
    """What a weighting scheme is told of one dataset, or group of datasets, of a mixture."""

    name: str
    weight: float | None
    repeat: float | None
    samples: int
    answer_chars: Callable[[], float | None]
    """Returns the characters in the answers that are drawn of a sample, on average; None without shards."""


class Scheme(Protocol):
    """How a mixture's weights become shares; a `Config`, whose fields stand beside `scheme:` in the YAML."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return a number of at least 0 for each member: its share, not yet normalised.

        `planned` is the length of the run in samples. Raises UserError where something it needs is missing.
        """
        ...


class Layout(Protocol):
    """Writes a synthetic dataset in the files of a real one, with the exact truth beside them."""

    Options: ClassVar[type[Config]]

    def __init__(self, options: Any, seed: int) -> None: ...

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write the dataset below the directory `out` and return what was written, counts first.

        `progress` is told how many of how many scenes are done. The same options and seed give the same bytes.
        """
        ...


__all__ = [
    "MEMORY_MB",
    "Calibrator",
    "Config",
    "Draws",
    "Engine",
    "KnowsMemory",
    "KnowsOverlap",
    "Layout",
    "Member",
    "MovesLabels",
    "Needs",
    "Rerenders",
    "Scheme",
    "Source",
    "Task",
]
