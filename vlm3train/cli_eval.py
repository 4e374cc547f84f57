"""The command `vlm3train eval`. Nothing heavy is imported until it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from vlm3data.command import Place, UsageError, progress_bar

if TYPE_CHECKING:
    from vlm3train.families.contract import ImageResize
    from vlm3train.models import Weights

Flag = Annotated[bool, Parameter(negative=())]


def evaluate(
    *,
    model: tuple[str, ...] = (),
    shards: tuple[str, ...] = (),
    source: str | None = None,
    root: str = "",
    split: str | None = None,
    tasks: str = "depth",
    calibrator: str | None = None,
    focal: float | None = None,
    focal_mode: Literal["uniform", "square", "none"] | None = None,
    align: Literal["crop", "pad", "none"] | None = None,
    label_depth: Literal["z", "euclidean"] | None = None,
    published: Flag = False,
    pairs: int = 1,
    seed: int = 0,
    train_shards: tuple[str, ...] = (),
    limit: PositiveInt | None = None,
    questions_per_image: PositiveInt = 10,
    batch_size: PositiveInt = 64,
    batch_tokens: PositiveInt = 131_072,
    max_new_tokens: PositiveInt = 64,
    image_resize: Literal["refuse", "processor"] = "refuse",
    engine: Literal["transformers", "vllm"] = "transformers",
    weights: Literal["float32", "bfloat16"] | None = None,
    predictions: Place | None = None,
    rescore: str | None = None,
    plots: Place | None = None,
    paper: Flag = False,
    json: Place | None = None,
    **options: str,
) -> None:
    """Score models on shards or raw datasets, beside what could be guessed and their answers to swapped images.

    Every question is asked by itself, answered greedily, parsed and scored by its task; an image goes through the
    model once for all its questions. The intervals are over images. Stopped, the same command goes on where its
    file of predictions ends. Flags beyond these belong to the source, its tasks or the calibrator, as in
    `vlm3data build`.

    Example: vlm3train eval --model out/run --shards out/test --train-shards out/train --json out/eval.json

    Parameters
    ----------
    model
        Directory or hub name of a vision-language model; may be given several times, for one table.
    shards
        Datasets to score on; may be given several times.
    source
        Score on a dataset as its owner distributes it, without building shards; `vlm3data sources` lists the kinds.
    root
        URL of that dataset.
    split
        One of its splits.
    tasks
        What to ask of it, separated by commas.
    calibrator
        How to estimate the cameras it lacks.
    focal
        The focal length its images are resized to; by default the one that the first model was trained with.
    focal_mode
        One scale for both axes, or one per axis; by default as the model was trained.
    align
        How its images' sizes become multiples of 32; by default as the model was trained.
    label_depth
        The kind of depth to ask for; by default the one that the model was trained with.
    published
        Move its pixels by the released rule int(u * s).
    pairs
        Pairs of views that each of its frames begins.
    seed
        Of its pixels and wordings.
    train_shards
        Datasets that the guesses are fitted on: those the model was trained on.
    limit
        Score the first so many samples of each dataset.
    questions_per_image
        The first so many stored questions of each sample and task.
    batch_size
        Questions answered at a time, at most.
    batch_tokens
        Tokens of them held at a time, at most; fewer need less memory.
    max_new_tokens
        The longest answer; a model that thinks first wants 256.
    image_resize
        What becomes of an image that the model's processor would resize, changing its focal length: an error, or that.
    engine
        What runs the model; vllm must be installed, and chooses its batches by itself.
    weights
        What the weights are while it answers: as saved, but those saved as float32 are bfloat16 on a GPU that has it.
    predictions
        Keep the answers in this file; by default beside --json.
    rescore
        Parse and score the answers of this file again, without a model.
    plots
        Write PNGs of predicted depths and their errors into this directory.
    paper
        Print the paper's table beside the models' scores, and what differs.
    json
        Also write everything to this file.
    """
    _check(model, shards, source, rescore, options)
    from vlm3data.shards import Dataset
    from vlm3train.controls import fit_on
    from vlm3train.evaluate import write_json
    from vlm3train.predictions import Prediction, read_predictions
    from vlm3train.quiet import quieten
    from vlm3train.scoring import rows_of
    from vlm3train.tables import print_rows

    quieten()
    notes: list[str] = []
    answered: list[Prediction]
    if rescore:
        identity, answered = read_predictions(rescore)
    else:
        from vlm3train.label_facts import read_label_facts

        facts = [read_label_facts(name) for name in model]
        data = _of_shards(shards, limit)
        if source:
            flags = {"focal_px": focal, "focal_mode": focal_mode, "align": align, "label_depth": label_depth}
            flags = {name: getattr(facts[0], name) if value is None else value for name, value in flags.items()}
            settings = {name: value for name, value in flags.items() if value is not None}
            settings |= {"root": root, "split": split, "published": published, "pairs": pairs, "seed": seed}
            data |= _of_source(source, tasks, calibrator, options, settings | {"limit": limit})
        notes = _notes(model, facts, data)
        identity = _identity(model, data, max_new_tokens, image_resize, engine, weights)
        kept = predictions or (
            f"{Path(json).with_name(Path(json).name.split('.')[0])}.predictions.arrow" if json else None
        )
        asking = {"batch_size": batch_size, "batch_tokens": batch_tokens, "max_new_tokens": max_new_tokens}
        asking |= {"image_resize": image_resize, "weights": weights}
        answered = _answered(model, data, questions_per_image, asking, engine, kept, identity)
    rows = rows_of(answered, fit_on(train_shards))
    print_rows(rows, bool(train_shards), notes)
    about = {"guessed_from": {url: Dataset(url).fingerprint for url in train_shards}, "notes": notes, **identity}
    if paper:
        from vlm3train.paper import beside, print_beside

        about["paper"] = beside(rows)
        print_beside(rows)
    if plots:
        from vlm3train.plots import plot_depth

        for path in plot_depth(answered, Path(plots)):
            print(f"wrote {path}")
    if json:
        write_json(json, about, rows)


class Data(NamedTuple):
    """One dataset to score on."""

    samples: list[Any]
    digest: str
    facts: Any
    """What its labels are; None where its questions are not our build's."""


def _check(
    model: Sequence[str], shards: Sequence[str], source: str | None, rescore: str | None, options: Mapping[str, str]
) -> None:
    if rescore and (model or shards or source):
        raise UsageError("--rescore needs no model and no data: its answers are in the file")
    if not rescore and not model:
        raise UsageError("--model: say which model to score, or --rescore a file of predictions")
    if not rescore and not shards and not source:
        raise UsageError("--shards (built ones) or --source (a raw dataset): say what to score on")
    if options and not source:
        raise UsageError(f"unknown flag --{next(iter(options))}")


def _of_shards(urls: Sequence[str], limit: int | None) -> dict[str, Data]:
    from vlm3data.shards import Dataset
    from vlm3train.asking import read_for_evaluation
    from vlm3train.label_facts import facts_of

    found = {}
    for url in urls:
        dataset = Dataset(url)
        found[url] = Data(read_for_evaluation(url, limit), dataset.fingerprint, facts_of(dataset.about["config"]))
    return found


def _of_source(
    source: str, tasks: str, calibrator: str | None, options: dict[str, str], settings: dict[str, Any]
) -> dict[str, Data]:
    from vlm3data.build import samples
    from vlm3data.build_config import about_config, open_tasks
    from vlm3data.cli import build_config
    from vlm3train.identity import config_digest
    from vlm3train.label_facts import facts_of

    config = build_config("vlm3train eval", source, tasks, calibrator, options, **settings)
    digest, facts = config_digest(config), facts_of(about_config(config, open_tasks(config)))
    with progress_bar("reading") as progress:
        read = []
        for sample in samples(config):
            read.append(sample)
            progress(len(read), settings["limit"] or 0)
    return {f"{source} {config.split or 'all'}": Data(read, digest, facts)}


def _notes(models: Sequence[str], facts: Sequence[Any], data: Mapping[str, Data]) -> list[str]:
    from vlm3train.label_facts import differences

    return [
        f"note: {url}: {difference} ({model})"
        for model, trained in zip(models, facts, strict=True)
        for url, scored in data.items()
        for difference in differences(trained, scored.facts)
    ]


def _identity(
    models: Sequence[str],
    data: Mapping[str, Data],
    max_new_tokens: int,
    image_resize: ImageResize,
    engine: str,
    weights: Weights | None,
) -> dict[str, Any]:
    from vlm3train.identity import model_digest
    from vlm3train.models import answering_weights, load_processor

    for name in models:  # what is no model, or none that can be asked, shows before a minute of reading weights
        load_processor(name, image_resize)
    return {
        "models": {name: model_digest(name) for name in models},
        "datasets": {url: one.digest for url, one in data.items()},
        "max_new_tokens": max_new_tokens,
        "image_resize": image_resize,
        # What rounds differently is another answerer: a greedy answer may turn on it.
        "engine": engine,
        "weights": {name: answering_weights(name, weights) for name in models},
    }


def _answered(
    models: Sequence[str],
    data: Mapping[str, Data],
    per_image: int,
    asking: Mapping[str, Any],
    engine: str,
    kept: str | None,
    identity: Mapping[str, Any],
) -> list[Any]:
    """Return every model's answers about every dataset; a model whose answers are all known is not loaded."""
    from contextlib import nullcontext

    from vlm3train.asking import ask_all, asks_of
    from vlm3train.predictions import PredictionFile

    total = len(models) * sum(len(asks_of(one.samples, per_image)) for one in data.values())
    answered: list[Any] = []
    done = 0
    with progress_bar("answering") as progress, PredictionFile(kept, identity) if kept else nullcontext() as file:
        done = 0 if file is None else len(file)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, max(done, total))

        for name in models:
            generators: list[Any] = []

            def answer(asked: Sequence[Any], name: str = name, loaded: list[Any] = generators) -> list[str]:
                if not loaded:
                    loaded.append(_generator(engine, name, asking, advance))
                return loaded[0](asked)

            for url, one in data.items():
                answered += ask_all(answer, (name, url), one.samples, per_image, file)
    return answered


def _generator(engine: str, name: str, asking: Mapping[str, Any], advance: Callable[[int], None]) -> Any:
    if engine == "vllm":
        from vlm3train.generate_vllm import VllmGenerator

        return VllmGenerator(name, asking["max_new_tokens"], advance, asking["weights"])
    from vlm3train.generate import Generator

    return Generator.load(name, advance=advance, **asking)
