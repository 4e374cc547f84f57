"""A mixture as a page with sliders: what its weights mean, and what other weights would.

The page computes shares by the formulas of `weighting/` and `schedule.py`, written again in `page/shares.js`; tests
hold the two against each other in a browser. A change is saved as a small YAML that `extends` the mixture's file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from vlm3data import __version__, registry
from vlm3data.mixture import Mixture, Part
from vlm3data.mixture_spec import Entry
from vlm3data.report.mixtures import CHARS_PER_TOKEN, FEW, warnings_of
from vlm3data.report.page_file import data_block, json_block, page_frame
from vlm3data.report.palette import dataset_colours
from vlm3data.storage import open_store, write_whole
from vlm3data.types import UserError

STYLES = ("frame.css", "mixture.css")
SCRIPTS = ("dom.js", "shares.js", "yaml.js", "mixture_state.js", "mixture_rows.js", "mixture.js")
SCHEMES = ("explicit", "uniform", "size", "temperature", "unimax", "repeat", "tokens", "imported")
"""Those that `shares.js` knows; `imported` as the weights that its file has now."""


def write_mixture_page(mixture: Mixture, samples: int | None, max_epochs: float, out: str) -> int:
    """Write the page to the URL `out`, as if the file said `samples`; return its size in bytes.

    Raises UserError for a weighting scheme from outside, whose formula the page cannot know.
    """
    file_samples = mixture.samples
    if samples is not None:
        mixture = Mixture(mixture.spec.model_copy(update={"samples": samples}), mixture.where)
    about = {
        "version": __version__,
        "file": mixture.where if "://" in mixture.where else posixpath.basename(mixture.where),
        "file_samples": file_samples,
        "samples": mixture.samples or sum(part.size for part in mixture.parts),
        "max_epochs": max_epochs,
        "few": FEW,
        "chars_per_token": CHARS_PER_TOKEN,
        "lasting_warnings": warnings_of(mixture, [], max_epochs),
        "weighting": _weighting(mixture.spec.weighting, mixture.where),
        "datasets": _nodes(mixture, mixture.spec.datasets, mixture.spec.weighting, ""),
        "stages": [stage.model_dump() for stage in mixture.spec.schedule],
    }
    mixture.shares()  # what is wrong with the weights is said here, not on the page
    head, tail = page_frame("mixture.html", STYLES, SCRIPTS)
    data = head + data_block("about", "application/json", json_block(about)) + tail
    fs, path = open_store(out)
    fs.makedirs(path.rpartition("/")[0] or ".", exist_ok=True)
    write_whole(fs, path, data)
    return len(data)


def _weighting(weighting: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a scheme with all its options, those that are not given as they are by default."""
    options = dict(weighting)
    name = str(options.pop("scheme", "explicit"))
    if name not in SCHEMES:
        raise UserError(f"{where}: weighting: --html knows the schemes {', '.join(SCHEMES)}, not {name!r}")
    return {"scheme": name, **registry.load("weighting", name).check(options, where).model_dump()}


def _nodes(mixture: Mixture, entries: Mapping[str, Entry], above: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    """Return the datasets and groups of one level; `above` is the weighting that holds there."""
    members = [mixture.member(f"{at}{name}", entry, {}, above, mixture.samples) for name, entry in entries.items()]
    fixed = [None] * len(members)
    if above.get("scheme") == "imported":
        options = {key: value for key, value in above.items() if key != "scheme"}
        fixed = registry.load("weighting", "imported").check(options, mixture.where).shares(members, None)
    parts = mixture.parts
    colours = dataset_colours(part.name for part in parts)
    nodes = []
    for (name, entry), member, imported in zip(entries.items(), members, fixed, strict=True):
        path = f"{at}{name}"
        node: dict[str, Any] = {
            "name": name,
            "path": path,
            "weight": entry.weight,
            "repeat": entry.repeat,
            "imported": imported,
            "samples": member.samples,
            "answer_chars": member.answer_chars(),
            "weighting": None if entry.weighting is None else _weighting(entry.weighting, mixture.where),
        }
        if entry.datasets is not None:
            node["datasets"] = _nodes(mixture, entry.datasets, entry.weighting or above, f"{path}/")
        else:
            own = [part for part in parts if part.name.partition("#")[0] == path]
            node["parts"] = [_part(part, colours[part.name]) for part in own]
        nodes.append(node)
    return nodes


def _part(part: Part, colour: str) -> dict[str, Any]:
    held = part.dataset
    return {
        "name": part.name,
        "colour": colour,
        "share": part.share_of_dataset,
        "size": part.size,
        "answer_chars": None if held is None else part.answer_chars or 0.0,
        "bytes": None if held is None else held.about["bytes"] / len(held),
    }
