"""What is claimed of the method, and the arms that it is tested with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from benchmarks.claims.arms import Arm, depth, held_out
from benchmarks.claims.pictures import WORDINGS, Pictures

DOMAIN = "court"
MIXED_FOCAL_PX = 195.0
"""Brings pictures of 40 to 90 degrees to the mean area that they have: what is unified is on average as large."""


@dataclass(frozen=True)
class Claim:
    """One claim, and what its table compares."""

    number: int
    title: str
    what: str
    """How it is tested."""
    arms: tuple[str, ...]
    """The one that the claim favours first."""
    unequal: str = ""
    """What is not the same for its arms besides what is compared."""


CLAIMS = (
    Claim(
        1,
        "One focal length",
        "Pictures of 40 to 90 degrees, all brought to one focal length, or left as they were taken.",
        ("unified", "not-unified"),
        "Unified pictures have 48 to 400 % of the pixels of those left as they are, 100 % on average; cropping them to "
        "multiples of 32 takes away up to 31 px of each side, with the labels there.",
    ),
    Claim(
        2,
        "Pixels named by text",
        "One question a picture: the pixel named by its coordinates, or pointed at by strokes in the picture.",
        ("text", "marker"),
    ),
    Claim(
        3,
        "Ten pixels a sample",
        "Ten questions about every picture, or one, for as many samples or for as much arithmetic.",
        ("ten-pixels", "one-pixel", "one-pixel-longer"),
    ),
    Claim(
        4,
        "The mixture's weights",
        "Four domains with 16,000 to 250 pictures, scored by the mean over the domains: shares found by "
        "`vlm3train study --fit` on short runs, in proportion to size, or equal.",
        ("tuned", "by-size", "uniform"),
    ),
    Claim(
        5,
        "Depth along the axis",
        "Labels along the optical axis, or along the ray, each scored on its own kind.",
        ("unified", "euclidean"),
    ),
    Claim(
        6,
        "Aligned pictures",
        "Unified pictures cropped to multiples of 32 when built, or resized by the model's processor.",
        ("unified", "processor-resized"),
    ),
    Claim(
        7,
        "One model for all tasks",
        "One model that is trained on depth, correspondence, pose and objects, or one a task; each task has as many "
        "samples either way.",
        ("all-tasks", "only-depth", "only-correspondence", "only-pose", "only-objects"),
    ),
)


def arms(scale: float = 1.0) -> dict[str, Arm]:
    """Return every arm but those of claim 4 by name; `scale` shrinks the datasets, for a look at the path."""
    images, tests = max(20, int(32_000 * scale)), max(12, int(400 * scale))
    plain, plain_test = depth(DOMAIN, images), held_out(DOMAIN, tests)

    def both(kind: str, **changes: Any) -> tuple[tuple[Pictures, ...], tuple[Pictures, ...]]:
        return (replace(plain, kind=kind, **changes),), (replace(plain_test, kind=kind, **changes),)

    mixed = {"hfov_deg": [40, 90]}
    unified = {"focal_px": MIXED_FOCAL_PX}
    one = {"pixels": 1, "wordings": WORDINGS["depth"]}
    by_mark = {"pixels": 1, "reference": "marker", "wordings": WORDINGS["depth by marker"]}
    found = [
        Arm("unified", *both("mixed", options=mixed, config=unified)),
        Arm("not-unified", *both("as-taken", options=mixed, config={"focal_mode": "none"})),
        Arm("euclidean", *both("euclidean", options=mixed, config=unified | {"label_depth": "euclidean"})),
        Arm(
            "processor-resized",
            *both("unaligned", options=mixed, config=unified | {"align": "none"}),
            train_settings={"image_resize": "processor"},
            score_flags=("--image-resize", "processor"),
        ),
        Arm("text", *both("text", config={"tasks": {"depth": one}}), length=ALONE),
        Arm("marker", *both("marker", config={"tasks": {"depth": by_mark}}), length=ALONE),
        Arm("ten-pixels", (plain,), (plain_test,)),
        Arm("one-pixel", (plain,), (plain_test,), pixels=1),
        Arm("one-pixel-longer", (plain,), (plain_test,), pixels=1, length=LONGER),
        *_of_tasks(plain, plain_test),
    ]
    return {arm.name: arm for arm in found}


def main_arm(scale: float = 1.0) -> Arm:
    """Return the longest run: every domain in which depth cannot be guessed from where a pixel is."""
    train = tuple(depth(domain, max(20, int(30_000 * scale))) for domain in MAIN_DOMAINS)
    tests = tuple(held_out(domain, max(12, int(300 * scale))) for domain in MAIN_DOMAINS)
    return Arm("main", train, tests, train_settings={"batch_size": 256, "weight_decay": 0.05})


MAIN_DOMAINS = ("court", "room", "hall", "yard", "street")
ALONE = 2.0
"""Steps of runs that see one question a sample, over those with ten: less is no time to learn to look."""
LONGER = 1.81
"""Arithmetic of a training sample with ten questions over that of one with one."""
TASKS = ("depth", "correspondence", "pose", "objects")
OF_A_TASK = 0.4
"""Steps on each task, over those of other arms."""


def _of_tasks(train: Pictures, test: Pictures) -> list[Arm]:
    """Return the arms of claim 7: pairs of views, from which every task asks."""

    def of(picture: Pictures, kind: str, tasks: tuple[str, ...]) -> Pictures:
        config = {"tasks": {task: {"wordings": WORDINGS[task]} for task in tasks}, "max_drop_rate": 0.2}
        return replace(picture, kind=kind, config=config, options={"views": 2})

    everything = (of(train, "all-tasks", TASKS),)
    tests = {task: (of(test, task, (task,)),) for task in TASKS}
    together = Arm(
        "all-tasks", everything, sum(tests.values(), ()), tasks=dict.fromkeys(TASKS, 1.0), length=len(TASKS) * OF_A_TASK
    )
    return [
        together,
        *(Arm(f"only-{task}", everything, tests[task], tasks={task: 1.0}, length=OF_A_TASK) for task in TASKS),
    ]
