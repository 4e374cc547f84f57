"""A dataset card: what shards hold, where they come from and what they are not good for, in Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from vlm3data import registry
from vlm3data.report.statistics import Statistics, left_out
from vlm3data.report.target import Progress, Target
from vlm3data.types import UserError

EXAMPLES = 2
"""Questions shown of each task, and kind of question, that the samples read hold."""
READ = 1000
"""Samples read for the table of values and the examples."""
CONFIG = {
    "focal_px": "focal length, px", "focal_mode": "focal mode", "align": "aligned by",
    "label_depth": "depth kind of the labels", "published": "released pixel rule", "pairs": "pairs per frame",
    "jpeg_quality": "JPEG quality", "seed": "seed", "split": "split", "limit": "limit",
}  # fmt: skip


def write_card(target: Target, progress: Progress) -> str:
    """Return the card of a dataset of shards; the same shards give the same text."""
    if target.mixture is not None:
        raise UserError(f"{target.name}: a card is of one dataset of shards, not of a mixture")
    statistics, examples = Statistics(target), dict[tuple[str, str], list[Mapping[str, Any]]]()
    licences: dict[str, int] = {}
    for seen in target.seen(READ, progress):
        statistics.add(seen)
        record = seen.sample.record
        licences[record["licence"]] = licences.get(record["licence"], 0) + 1
        for question in seen.questions:
            kind = str(question["truth"].get("kind") or "")
            some = examples.setdefault((question["task"], kind), [])
            if len(some) < EXAMPLES and all(question["question"] != other["question"] for other in some):
                some.append(question)
    found, about = statistics.as_dict(), target.members[0].dataset.about
    (dataset,) = found["datasets"]
    sections = (
        _head(target.members[0].name, about, dataset),
        _counts(dataset, about),
        _config(about),
        _values(found),
        _limits(about),
        _left_out(about),
        _examples(examples, licences, about),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _head(name: str, about: Mapping[str, Any], dataset: Mapping[str, Any]) -> Iterator[str]:
    facts = about["facts"]
    yield f"# {_text(name)}"
    yield ""
    yield f"Images with text questions about 3D, built by vlm3 from the source `{_code(facts['name'])}`."
    said = _source_says(facts["name"])
    if said:
        yield f"The source, in its own words: {_text(said)}"
    yield ""
    yield f"**Licence of the source:** {_text(facts['licence'])}. The data stay under their owner's terms."
    yield ""


def _counts(dataset: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[str]:
    yield "## What it holds"
    yield ""
    rows = [
        ("samples", f"{dataset['samples']:,}"),
        ("scenes", f"{dataset['scenes']:,}"),
        ("questions", f"{dataset['questions']:,}"),
        ("labels kept", f"{about['labels']['kept']:,}"),
        ("shards", f"{dataset['shards']:,} ({dataset['bytes'] / 1e6:,.1f} MB)"),
        ("pixels of an image", f"{about['image_pixels']['min']:,} to {about['image_pixels']['max']:,}"),
        *((f"samples of split `{_code(split)}`", f"{count:,}") for split, count in dataset["splits"].items()),
        *((f"samples asked by `{_code(task)}`", f"{count:,}") for task, count in dataset["tasks"].items()),
    ]
    yield from _table(("what", "how many"), rows)


def _config(about: Mapping[str, Any]) -> Iterator[str]:
    config, facts = about["config"], about["facts"]
    yield "## How it was built"
    yield ""
    rows = [(title, f"`{_code(config[key])}`") for key, title in CONFIG.items() if config.get(key) is not None]
    if config.get("store") == "original":
        rows.insert(0, ("images", "the source's own; unified whenever they are read, as below or as the mixture says"))
    else:
        rows.insert(0, ("images", "unified as below"))
    rows += [
        ("depth kind of the source", f"`{_code(facts['depth_kind'])}`"),
        ("pixel centres of the source", _text(facts["pixel_centre"])),
        ("config digest", f"`{_code(about['digest'])}`"),
        ("fingerprint", f"`{_code(about['fingerprint'])}`"),
    ]
    yield from _table(("setting", "value"), rows)
    own = {"source": config.get("options", {}), **config.get("tasks", {})}
    if "calibrator" in config:
        own["calibrator"] = config["calibrator"]
    yield from _table(
        ("of", "options"), [(_text(name), f"`{_code(_compact(options))}`") for name, options in own.items()]
    )


def _values(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Values"
    yield ""
    yield f"Focal lengths in the source are of all samples, the rest of {found['read']:,} of them."
    yield ""
    rows = []
    for histogram in found["histograms"]:
        (series,) = histogram["series"]
        numbers = [f"{series[key]:,.4g}" for key in ("p5", "p50", "p95", "max")]
        rows.append((f"{histogram['title']} ({histogram['unit']})", *numbers, f"{series['count']:,}"))
    yield from _table(("value", "5 %", "median", "95 %", "largest", "count"), rows)


def _limits(about: Mapping[str, Any]) -> Iterator[str]:
    facts, config = about["facts"], about["config"]
    low, high = facts["depth_range_m"]
    noise_m, noise_share = facts["depth_noise"]
    yield "## Known limits"
    yield ""
    if facts["metric"]:
        yield f"- Depths beyond {low:g} to {high:g} m are not used."
        good = " and ".join([f"{noise_m:g} m"] * (noise_m > 0) + [f"{noise_share:.2%} of it"])
        yield f"- A depth is good to about {good}, by what the source says of its sensor."
    else:
        yield "- The scale is unknown: no answer holds a metre."
    if facts["world_up"] is None:
        yield "- Which way is up is not known: nothing that needs gravity is asked."
    if config["label_depth"] != facts["depth_kind"]:
        yield f"- The source stores {facts['depth_kind']} depth; labels were converted to {config['label_depth']}."
    if "calibrator" in config:
        yield "- Cameras were estimated from the images where the source has none: their focal lengths are uncertain."
    if config["align"] == "crop":
        yield "- Images are cropped at their borders to multiples of 32 pixels; labels there are gone."
    yield "- Questions are made from templates: there are few ways of asking, and every answer is short."
    yield ""


def _left_out(about: Mapping[str, Any]) -> Iterator[str]:
    yield "## What was left out"
    yield ""
    rows = [
        (kind, f"`{_code(reason)}`", f"{count:,}")
        for kind, reasons in left_out(about).items()
        for reason, count in reasons.items()
    ]
    if rows:
        yield from _table(("what", "reason", "count"), rows)
    else:
        yield "Nothing."
        yield ""


def _examples(
    examples: Mapping[tuple[str, str], list[Mapping[str, Any]]], licences: Mapping[str, int], about: Mapping[str, Any]
) -> Iterator[str]:
    others = sorted(set(licences) - {about["facts"]["licence"]})
    if others:
        yield "## Licences of samples"
        yield ""
        yield from (f"- {_text(licence)}" for licence in others)
        yield ""
    yield "## Examples"
    for (task, kind), some in sorted(examples.items()):
        yield ""
        yield f"**{_text(f'{task}, {kind}' if kind else task)}**"
        yield ""
        for question in some:
            yield f"- {_text(question['question'])}<br>{_text(question['answer'])}"


def _source_says(name: str) -> str:
    """Return the first paragraph that the source's module says of itself; nothing where it is not installed."""
    if name not in registry.names("source"):
        return ""
    module = inspect.getmodule(registry.load("source", name))
    return re.sub(r"\s+", " ", (inspect.getdoc(module) or "").split("\n\n")[0]).strip()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _text(value: Any) -> str:
    """Return data as Markdown that shows it and does nothing else."""
    inline = re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(str(value).split()))
    return re.sub(
        r"^(\d*)([-+.)](?=\s|$)|[~=])", r"\1\\\2", inline
    )  # a list, a fence or an underline, where a line begins


def _code(value: Any) -> str:
    """Return data that may stand between backticks in a table."""
    return " ".join(str(value).replace("`", "'").replace("|", r"\|").split())


def _compact(options: Any) -> str:
    return ", ".join(f"{key}={orjson.dumps(value).decode()}" for key, value in options.items()) or "none"
