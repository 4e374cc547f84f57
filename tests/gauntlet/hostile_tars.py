"""Datasets as an attacker would write them: tars that want out, with an index and hashes that agree with them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import xxhash

from tests import tiny_shards
from vlm3data.budget import total_of
from vlm3data.build_config import FORMAT
from vlm3data.shards import ShardTally, write_index, write_shard
from vlm3data.shards.write import MANIFEST, summary_of
from vlm3data.storage import open_store
from vlm3data.tasks.depth import DepthTask
from vlm3data.types import Sample

ELSEWHERE = Path("/dev/shm/gauntlet-elsewhere")
Member = tuple[tarfile.TarInfo, bytes]
Known = dict[str, tuple[tuple[bytes, ...], bytes]]


def elsewhere() -> dict[str, int]:
    """Return the files that absolute paths in these tars name, where they are."""
    return {str(path): 0 for path in ELSEWHERE.parent.glob(f"{ELSEWHERE.name}*")}


def _sample(key: str = "sample-0000", scene: str = "scene", label: str = "crate", **changes: Any) -> Sample:
    questions = [tiny_shards.depth_question((40, 30), 2.0), tiny_shards.box_question(label)]
    return tiny_shards.sample(0, questions, key=key, scene=scene, **changes)


def _named(name: str) -> list[Member]:
    sample = _sample(name if name.isprintable() else "sample-0000")
    return [_file(f"{name}.jpg", sample.images[0]), _file(f"{name}.json", sample.record_json)]


def _file(name: str, data: bytes, **changes: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, data


def _special(kind: bytes, target: str = "") -> list[Member]:
    """Return a member that is no file, and a sample behind it in the same block."""
    return [_file("sample-0000.0.jpg", b"", type=kind, linkname=target, devmajor=1, devminor=5), *_named("sample-0000")]


def _plain(*members: Member, form: int = tarfile.USTAR_FORMAT) -> bytes:
    blocks = []
    for info, data in members:
        blocks += [info.tobuf(form, "utf-8", "surrogateescape"), data, bytes(-len(data) % 512)]
    return b"".join(blocks)


def _lying(size_octal: bytes) -> bytes:
    """Return a sample whose JSON's header claims another size."""
    image, record = _named("sample-0000")
    header = bytearray(record[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size_octal.ljust(12, b"\0")[:12]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return _plain(image) + bytes(header) + record[1] + bytes(-len(record[1]) % 512)


def _pax(headers: dict[str, str]) -> bytes:
    image, record = _named("sample-0000")
    record[0].pax_headers = headers
    return _plain(image) + _plain(record, form=tarfile.PAX_FORMAT)


BOMB_PX = 60_000


def _bomb(form: str) -> bytes:
    """Return an image of few bytes and many pixels."""
    import struct
    import zlib

    if form == "png":
        header = struct.pack(">2I5B", BOMB_PX, BOMB_PX, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b""))
        parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    jpeg = bytearray(tiny_shards.sample(0, []).images[0])
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">2H", BOMB_PX, BOMB_PX)
    return bytes(jpeg)


def _with_image(image: bytes, **changes: Any) -> list[Member]:
    sample = _sample(**changes)
    return [_file("sample-0000.jpg", image), _file("sample-0000.json", sample.record_json)]


def _claiming(form: str) -> list[Member]:
    """Return a bomb whose record claims the very size that the image has."""
    sample = _sample()
    record = dict(sample.record)
    camera = tiny_shards.CAMERA | {"width_px": BOMB_PX, "height_px": BOMB_PX}
    record["views"] = [record["views"][0] | {"camera": camera, "source_camera": camera}]
    return [_file("sample-0000.jpg", _bomb(form)), _file("sample-0000.json", orjson.dumps(record))]


MARKUP = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>${style}{{7*7}}<!-- data -->[/x]'
ANSI = "\x1b[2J\x1b]0;owned\x07\r\nerror: rm -rf\u202e\u2028[/x][red]"

BLOCKS: dict[str, Callable[[], bytes]] = {
    "sound": lambda: _plain(*_named("sample-0000")),
    "an absolute path": lambda: _plain(*_named(str(ELSEWHERE))),
    "a path upwards": lambda: _plain(*_named("../../../outside")),
    "a path upwards within": lambda: _plain(*_named("a/../../../../outside")),
    "a windows path": lambda: _plain(*_named("C:\\outside\\x")),
    "a path of dots": lambda: _plain(*_named("..")),
    "an empty name": lambda: _plain(*_named("")),
    "a null byte in a name": lambda: _plain(*_named("a\0b")),
    "a newline in a name": lambda: _plain(*_named("a\nb\x1b[31m")),
    "no utf-8 in a name": lambda: _plain(*_named("a\udcff")),
    "a very long name": lambda: _plain(*_named("a" * 90)),
    "a symbolic link": lambda: _plain(*_special(tarfile.SYMTYPE, "/etc/passwd")),
    "a link upwards": lambda: _plain(*_special(tarfile.LNKTYPE, "../../../outside")),
    "a character device": lambda: _plain(*_special(tarfile.CHRTYPE)),
    "a block device": lambda: _plain(*_special(tarfile.BLKTYPE)),
    "a fifo": lambda: _plain(*_special(tarfile.FIFOTYPE)),
    "a directory": lambda: _plain(*_special(tarfile.DIRTYPE)),
    "a sparse file": lambda: _plain(*_special(tarfile.GNUTYPE_SPARSE)),
    "an unknown type": lambda: _plain(*_special(b"Z")),
    "equal names": lambda: _plain(*_named("sample-0000"), *_named("sample-0000")),
    "names that differ in case": lambda: _plain(*_named("Sample-0000"), *_named("sample-0000")),
    "the record first": lambda: _plain(*reversed(_named("sample-0000"))),
    "no record": lambda: _plain(_named("sample-0000")[0]),
    "no image": lambda: _plain(_named("sample-0000")[1]),
    "nothing": lambda: b"",
    "zeros": lambda: bytes(2048),
    "a size of 8 GB": lambda: _lying(b"77777777777"),
    "a size of zero": lambda: _lying(b"00000000000"),
    "a negative size": lambda: _lying(b"-0000000001"),
    "a size that is no number": lambda: _lying(b"abcdefghijk"),
    "a size in base 256": lambda: _lying(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
    "a negative size in base 256": lambda: _lying(b"\xff" * 12),
    "a pax path": lambda: _pax({"path": "../../../outside.json"}),
    "a pax size": lambda: _pax({"size": "99999999999"}),
    "a negative pax size": lambda: _pax({"size": "-1024"}),
    "a pax sparse map": lambda: _pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "/x"}),
    "a huge pax header": lambda: _pax({"comment": "x" * (1 << 20)}),
    "a png bomb": lambda: _plain(*_with_image(_bomb("png"))),
    "a jpeg bomb": lambda: _plain(*_with_image(_bomb("jpeg"))),
    "a png bomb of the claimed size": lambda: _plain(*_claiming("png")),
    "a jpeg bomb of the claimed size": lambda: _plain(*_claiming("jpeg")),
    "an image that is text": lambda: _plain(*_with_image(b"<svg onload=alert(1)>")),
    "markup for a scene": lambda: _plain(*_with_image(_sample().images[0], scene=MARKUP)),
    "markup for a label": lambda: _plain(*_with_image(_sample().images[0], label=MARKUP)),
    "escapes for a scene": lambda: _plain(*_with_image(_sample().images[0], scene=ANSI, source=ANSI)),
    "escapes for a label": lambda: _plain(*_with_image(_sample().images[0], label=ANSI)),
    "a record that is a list": lambda: _plain(_named("sample-0000")[0], _file("sample-0000.json", b"[1, 2]")),
    "a record without views": lambda: _plain(_named("sample-0000")[0], _file("sample-0000.json", b'{"key": "x"}')),
    "a deep record": lambda: _plain(
        _named("sample-0000")[0], _file("sample-0000.json", b'{"questions":' + b"[" * 900 + b"]" * 900 + b"}")
    ),
}  # fmt: skip
"""One sample's members, by what is wrong with them."""

SHARDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a shard upwards": lambda manifest: manifest | {"shard": "../../../../outside.tar"},
    "a shard anywhere": lambda manifest: manifest | {"shard": "/etc/passwd"},
    "a shard in a device": lambda manifest: manifest | {"shard": "/dev/zero"},
    "a shard with escapes": lambda manifest: manifest | {"shard": ANSI},
    "members far away": lambda manifest: manifest
    | {"members": [member | {"offset": 2**62} for member in manifest["members"]]},
    "members of any length": lambda manifest: manifest
    | {"members": [member | {"length": 2**32 - 1} for member in manifest["members"]]},
    "a key with escapes": lambda manifest: manifest
    | {"members": [member | {"key": ANSI} for member in manifest["members"]]},
    "a reason with escapes": lambda manifest: manifest
    | {"drops": {ANSI: 3}, "quarantined": [{"scene": ANSI, "key": ANSI}]},
    "counts that are text": lambda manifest: manifest | {"samples": "many", "bytes": "x"},
}  # fmt: skip
"""What a manifest, and the index with it, says otherwise."""

WHOLE = ("a gzip of the tar", "a gzip bomb")
CRAFTS = (*BLOCKS, *SHARDS, *WHOLE)


def write(craft: str, directory: Path) -> Known:
    """Write the dataset; return what its samples hold where they are sound."""
    fs, path = open_store(str(directory))
    directory.mkdir(parents=True)
    sample = _sample()
    manifest = write_shard(fs, path, "shard-000000", [sample], ShardTally(), "x")
    block = BLOCKS[craft]() if craft in BLOCKS else BLOCKS["sound"]()
    data = block + bytes(1024)
    if craft == "a gzip of the tar":
        data = _gzip(data)
    if craft == "a gzip bomb":
        data = _gzip(_plain(_file("sample-0000.jpg", b"")) + _bomb_tar())
    member = manifest["members"][0] | {
        "offset": 0, "length": len(block), "xxh3": xxhash.xxh3_64_hexdigest(block), "files": _files(data)
    }  # fmt: skip
    manifest |= {"members": [member], "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest = SHARDS[craft](manifest) if craft in SHARDS else manifest
    (directory / "shard-000000.tar").write_bytes(data)
    (directory / f"shard-000000{MANIFEST}").write_bytes(orjson.dumps(manifest))
    config = tiny_shards.CONFIG | {
        "format": FORMAT, "source": "toy", "store": "unified", "focal_mode": "uniform", "seed": 0,
        "tasks": {"depth": dict(DepthTask(DepthTask.Options()).about())},
    }  # fmt: skip
    about = {"facts": tiny_shards.FACTS, "config": config, "digest": "0123"}
    try:
        totals = total_of([summary_of(manifest)])
    except TypeError:
        totals = {}
    write_index(fs, path, [manifest | {"samples": 1, "bytes": 1}], about | totals)
    found = {}
    for known in (sample, _sample("Sample-0000")):
        found[known.key] = (tuple(known.images), known.record_json)
    return _Anything(found)


class _Anything(dict[str, Any]):
    """Takes any sample for known: the hashes are the attacker's own."""

    def get(self, key: str, default: Any = None) -> Any:
        return _Equal()


class _Equal:
    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def _files(data: bytes) -> list[list[Any]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            return [[info.name.encode("utf-8", "replace").decode(), info.offset_data, info.size] for info in tar]
    except (tarfile.TarError, ValueError, OverflowError):
        return []


def _gzip(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, 9, mtime=0)


def _bomb_tar() -> bytes:
    """Return a member of 8 MB of zeros: packed, it takes a thousandth of that."""
    info = tarfile.TarInfo("sample-0000.json")
    info.size = 8 << 20
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(info.size)
