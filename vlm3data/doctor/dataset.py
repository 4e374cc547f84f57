"""Is a dataset whole, and does it work? The official files first, then the source itself, opened and tried."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import islice
from typing import Any

from vlm3data import registry
from vlm3data.contracts import Source
from vlm3data.doctor.agreement import check_agreement
from vlm3data.doctor.check import Check
from vlm3data.doctor.downloads import Downloads, File, Form
from vlm3data.images import decode_rgb
from vlm3data.storage import open_store
from vlm3data.types import Drop, Frame, UserError

TRIED_SCENES, TRIED_FRAMES = 8, 3
"""Scenes that are opened and frames of each that are read, spread evenly."""
NAMED = 3


def check_dataset(name: str, root: str, options: Mapping[str, Any]) -> Iterator[Check]:
    """Yield what is there of the dataset that the source `name` reads, what is missing, and what reading it says."""
    downloads = Downloads.of(name)
    if downloads is not None and root:
        yield from Tree(root).check(downloads, by_hand=downloads.by_hand in options)
    plugin = registry.load("source", name)
    try:
        source = plugin(root, plugin.Options.check(options, where=f"source {name}"), 0)
        yield from _splits(source)
    except UserError as error:
        yield Check("fail", "reading", str(error), f"--root is {downloads.root}" if downloads else "")
        return
    yield from _tried(source)


class Tree:
    """A directory, listed as far as it is asked about."""

    def __init__(self, root: str) -> None:
        self._fs, self._root = open_store(root)
        self._entries = cache(self._list)

    def check(self, downloads: Downloads, by_hand: bool = False) -> Iterator[Check]:
        """Yield a line for each form, or version, of the dataset that is there, and each mistake that shows.

        `by_hand`: the user says how files are named, so none of the known forms need be there.
        """
        page = f"from {downloads.page}"
        if not self._fs.isdir(self._root):
            if not self._fs.exists(self._root):
                yield Check("fail", "root", f"there is no {self._root}", f"{downloads.root}; {page}")
            return
        for mistake in downloads.mistakes:
            if self.find(mistake.there) and not (mistake.but_not and self.find(mistake.but_not)):
                yield Check("fail", "layout", f"{self.find(mistake.there)[0]} is there", mistake.say)
        there = [form for form in downloads.forms if self.find(form.when)]
        if not there and not by_hand:
            forms = "; ".join(form.name + (f" ({form.size})" if form.size else "") for form in downloads.forms)
            yield Check("fail", "download", f"none of: {forms}", f"--root is {downloads.root}; {page}")
        for form in there:
            yield from self._form(form, form.page or downloads.page)

    def _form(self, form: Form, page: str) -> Iterator[Check]:
        places = [place for place in self.find(form.each) if self._is_one(place, form)]
        splits = f", for {', '.join(form.splits)}" if form.splits not in ((), ("all",)) else ""
        many = "there" if form.each == "." else f"{len(places):,} director{'y' if len(places) == 1 else 'ies'} of it"
        size = f"; the whole of it is {form.size}" if form.size else ""
        yield Check("ok", form.name, f"{many}{splits}{size}")
        by_name: dict[str, list[File]] = {}
        for file in form.files:
            by_name.setdefault(file.what, []).append(file)
        for files in by_name.values():
            yield from self._files(files, places, page)

    def _is_one(self, place: str, form: Form) -> bool:
        """Tell whether a directory holds anything of the form: a root may have others beside it."""
        return form.each == "." or any(self._matching(place, file.path) for file in form.files)

    def _files(self, files: list[File], places: list[str], page: str) -> Iterator[Check]:
        """Yield a line for what is missing of files that are named alike, if anything is."""
        counts = {(place, file): len(self._matching(place, file.path)) for file in files for place in places}
        lacking = [(place, file) for (place, file), count in counts.items() if count < (file.count or 1)]
        lacking.sort(key=lambda one: counts[one] > 0)  # what is not there at all comes first
        if not lacking:
            return
        shown = [
            _shown(place, file.path) + (f" ({count:,} of {file.count:,})" if file.count and count else "")
            for place, file in lacking[:NAMED]
            for count in (counts[place, file],)
        ]
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        file, any_left = lacking[0][1], len(lacking) < len(counts) or any(counts[one] for one in lacking)
        do = f"{file.archive} from {page}" if file.archive else f"see {page}"
        if file.without:
            do = f"only needed for {file.without}; {do}"
        elif any_left:
            do = f"what is there can be used; {do}"
        status = "warn" if file.without or any_left else "fail"
        yield Check(status, file.what, f"missing: {', '.join(shown)}{more}", do)

    def _matching(self, place: str, patterns: str) -> list[str]:
        return self.find(patterns.replace("{name}", posixpath.basename(place) or posixpath.basename(self._root)), place)

    def find(self, patterns: str, below: str = ".") -> list[str]:
        """Return the paths, relative to the root, that match any of the patterns."""
        found: list[str] = []
        for pattern in patterns.split(" | "):
            paths = [below]
            for part in pattern.split("/"):
                paths = [one for path in paths for one in self._below(path, part)]
            found += paths
        return list(dict.fromkeys(found))

    def _below(self, path: str, part: str) -> list[str]:
        if part == ".":
            return [path]
        names = (name for name in self._entries(path) if fnmatchcase(name, part))
        return [name if path == "." else f"{path}/{name}" for name in names]

    def _list(self, path: str) -> tuple[str, ...]:
        directory = self._root if path == "." else f"{self._root}/{path}"
        try:
            found = self._fs.ls(directory, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        below = (str(name).rstrip("/") for name in found)
        return tuple(sorted(posixpath.basename(name) for name in below if name != directory))  # a file lists itself


def _shown(place: str, pattern: str) -> str:
    name = pattern.partition(" | ")[0].replace("{name}", posixpath.basename(place))
    return name if place == "." else f"{place}/{name}"


def _splits(source: Source) -> Iterator[Check]:
    """Yield how many scenes and frames each split has."""
    if source.facts.endless:
        yield Check("ok", "splits", "scenes without end: say how many samples with --limit")
        return
    scenes, frames = Counter[str](), Counter[str]()
    for scene in source.scenes(None):
        scenes[scene.split] += 1
        frames[scene.split] += scene.num_frames
    for split in dict.fromkeys((*source.facts.splits, *scenes)):
        if scenes[split]:
            many = f"{scenes[split]:,} scene{'s' * (scenes[split] != 1)}"
            yield Check("ok", f"split {split}", f"{many}, {frames[split]:,} frame{'s' * (frames[split] != 1)}")
        else:
            yield Check("ok", f"split {split}", "nothing of it is here")
    if not scenes:
        yield Check("fail", "reading", "there is no scene in it")


def _tried(source: Source) -> Iterator[Check]:
    """Yield what reading some frames says, image and labels, as a build would drop them."""
    scenes = list(islice(source.scenes(None), 10_000 if not source.facts.endless else TRIED_SCENES))
    tried, reasons, details = 0, Counter[str](), dict[str, str]()
    for scene in scenes[:: max(1, -(-len(scenes) // TRIED_SCENES))]:
        step = max(1, scene.num_frames // TRIED_FRAMES)
        for frame in islice(source.frames(scene), 0, step * TRIED_FRAMES, step):
            tried += 1
            try:
                _read(frame)
            except Drop as drop:
                reasons[drop.reason] += 1
                details.setdefault(drop.reason, drop.detail or frame.key)
    for reason, count in reasons.most_common():
        status = "warn" if count < tried else "fail"
        yield Check(
            status, "frames", f"{count} of {tried} tried: {reason}: {details[reason]}", "a build drops such frames"
        )
    if tried and len(reasons) == 0:
        yield Check("ok", "frames", f"{tried} tried, image and labels can be read")
    yield from check_agreement(source, scenes)


def _read(frame: Frame) -> None:
    image = frame.image()
    if isinstance(image, bytes):
        size = (frame.camera.width_px, frame.camera.height_px) if frame.camera else frame.size_px
        decode_rgb(image, size, upright=frame.upright)
    for call in (frame.points, frame.depth_m, frame.boxes):
        if call is not None:
            call()
