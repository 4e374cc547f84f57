"""The command `vlm3train predict`. Nothing heavy is imported until it runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from vlm3data.command import Place, UsageError, print_json

Flag = Annotated[bool, Parameter(negative=())]
SHOWN_CHARACTERS = 60


def predict(
    image: str,
    *,
    model: str,
    at: tuple[str, ...] = (),
    question: tuple[str, ...] = (),
    cloud: Place | None = None,
    grid: PositiveInt = 32,
    focal_px: float | None = None,
    calibrator: str | None = None,
    label_depth: Literal["z", "euclidean"] | None = None,
    focal: float | None = None,
    focal_mode: Literal["uniform", "square", "none"] | None = None,
    align: Literal["crop", "pad", "none"] | None = None,
    wordings: str | None = None,
    batch_size: PositiveInt = 64,
    max_new_tokens: PositiveInt = 64,
    image_resize: Literal["refuse", "processor"] = "refuse",
    json: Flag = False,
    **options: str,
) -> None:
    """Ask a model about one photo: the metric depth of its pixels, or anything.

    Pixels are those of the photo as viewers show it, (0, 0) the top left one. Its focal length comes from --focal-px,
    from a --calibrator, or else from its EXIF. Flags beyond these belong to the calibrator.

    Example: vlm3train predict photo.jpg --model out/run --at 812,440 --at 100,600 --cloud out/photo.ply

    Parameters
    ----------
    image
        The photo.
    model
        Directory or hub name of a vision-language model.
    at
        Ask for the depth of this pixel, x,y; may be given several times.
    question
        Ask this; may be given several times.
    cloud
        Ask for the depths of a grid of pixels, and write them as a coloured point cloud (PLY, metres; x right, y down,
        z forward).
    grid
        Points of the cloud along the photo's longer side.
    focal_px
        The photo's focal length in its own pixels.
    calibrator
        How to estimate it; `vlm3data sources` lists the methods.
    label_depth
        The kind of depth that the model was trained on, where its vlm3.json does not say.
    focal
        The focal length that the photo is resized to; by default as the model was trained, else 1000.
    focal_mode
        One scale for both axes, or one per axis; by default as the model was trained.
    align
        How its sides become multiples of 32; by default as the model was trained.
    wordings
        Wording pack that the model was trained with, where it is not ours.
    batch_size
        Questions answered at a time, at most.
    max_new_tokens
        The longest answer; a model that thinks first wants 256.
    image_resize
        What becomes of an image that the model's processor would resize, changing its focal length: an error, or that.
    json
        Print everything as JSON.
    """
    if not (at or question or cloud):
        raise UsageError("say what to ask: --at x,y, --question TEXT or --cloud FILE.ply")
    if focal is not None and not 0 < focal < float("inf"):
        raise UsageError("--focal must be a positive number of pixels")
    pixels = [_pixel(text) for text in at]
    method = _calibrator(focal_px, calibrator, options)
    from vlm3train.label_facts import read_label_facts
    from vlm3train.predict import depth_task, depths, grid_of, open_photo, point_cloud, settled, write_cloud
    from vlm3train.quiet import quieten

    trained = read_label_facts(model)
    said = {"focal_px": focal, "focal_mode": focal_mode, "align": align, "published": None}
    if pixels or cloud:
        said |= {"label_depth": label_depth, "depth_grid": None}
    how = settled(model, trained, **said)
    kind = how.label_depth
    if (pixels or cloud) and kind is None:
        raise UsageError(f"{model} does not record which depth it was trained on: say --label-depth z or euclidean")
    photo = open_photo(image, how, focal_px, method)
    for pixel in pixels:
        photo.pixel_px(pixel)  # one outside the photo shows before the model is loaded
    task = (
        depth_task(how.model_copy(update={"depth_wordings": trained.depth_wordings}), wordings, model) if kind else None
    )

    quieten()
    from vlm3data.types import Question
    from vlm3train.generate import Generator

    ask = Generator.load(model, batch_size, max_new_tokens, image_resize=image_resize)
    camera, calibration = photo.view.source_camera, photo.view.calibration
    told: dict[str, Any] = {
        "image": image,
        "model": model,
        "size_px": [camera.width_px, camera.height_px],
        "focal_px": camera.fx_px,
        "focal_from": calibration.method if calibration else "--focal-px",
        "seen_px": [photo.view.camera.width_px, photo.view.camera.height_px],
        "label_depth": kind,
    }
    told["depths"] = (
        [one._asdict() for one in depths(photo, pixels, task, kind, ask)] if pixels and task and kind else []
    )
    sample = photo.sample
    answers = ask([(sample, Question("free", text, "", {})) for text in question]) if question else []
    told["answers"] = [{"question": text, "answer": said} for text, said in zip(question, answers, strict=True)]
    if cloud and task and kind:
        found = depths(photo, grid_of(camera, grid), task, kind, ask)
        points_m, rgb = point_cloud(photo, found, kind)
        write_cloud(cloud, points_m, rgb)
        cut = sum(one.pixel_px is None for one in found)
        told["cloud"] = {
            "path": cloud,
            "points": len(points_m),
            "cut": cut,
            "no_depth": len(found) - cut - len(points_m),
        }
    if json:
        print_json(told)
    else:
        _print(told)


def _pixel(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*(-?\d+)\s*,\s*(-?\d+)\s*", text)
    if not found:
        raise UsageError(f"--at {text!r}: is not two whole numbers x,y")
    return int(found[1]), int(found[2])


def _calibrator(focal_px: float | None, name: str | None, options: dict[str, str]) -> Any:
    """Return the method that is asked for; EXIF where nothing is said; None where the focal length is."""
    if focal_px is not None:
        if name or options:
            raise UsageError("--focal-px says the focal length; leave out the calibrator and unknown flags")
        if not 0 < focal_px < float("inf"):
            raise UsageError("--focal-px must be a positive number of pixels")
        return None
    from vlm3data.flags import check_options, known_names, options_of, take
    from vlm3train.predict import calibrator_named

    (name,) = known_names("calibrator", [name or "exif"])
    given: dict[str, Any] = {}
    for flag, value in options.items():
        take(flag, value, [(options_of("calibrator", name), given)], f"the calibrator {name} knows")
    check_options("calibrator", name, given)
    return calibrator_named(name, given)


def _print(told: dict[str, Any]) -> None:
    width, height = told["size_px"]
    camera = f"{told['image']}: {width}x{height}, focal length {told['focal_px']:.0f} px ({told['focal_from']})"
    print(f"{camera}; seen as {told['seen_px'][0]}x{told['seen_px'][1]}", file=sys.stderr)
    for line in _depth_lines(told["depths"], told["label_depth"]):
        print(line)
    for one in told["answers"]:
        print(one["answer"])
    if cloud := told.get("cloud"):
        left = [
            f"{cloud[name]:,} {what}"
            for name, what in (("cut", "cut away"), ("no_depth", "without a depth"))
            if cloud[name]
        ]
        print(f"wrote {cloud['path']}: {cloud['points']:,} points{', ' if left else ''}{', '.join(left)}")


def _depth_lines(found: Sequence[dict[str, Any]], kind: str) -> list[str]:
    lines = []
    for one in found:
        where = f"({one['at'][0]}, {one['at'][1]})"
        if one["pixel_px"] is None:
            lines.append(f"{where}: cut away where the photo was aligned to the model's patches")
        elif one["depth_m"] is None:
            lines.append(f"{where}: no depth in the answer {_shown(one['answer'])}")
        else:
            lines.append(f"{where}: {one['depth_m']:.2f} m ({kind})")
    return lines


def _shown(answer: str) -> str:
    """Return the beginning of what a model said, in one line."""
    return repr(answer if len(answer) <= SHOWN_CHARACTERS else f"{answer[:SHOWN_CHARACTERS]}...")
