"""Is this machine ready? Codec, cores, memory, disk, Ray, and the packages and GPUs that training needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vlm3data.doctor.check import Check

SLOW_DECODE, SLOW_WRITE = 60.0, 50.0
"""Megapixels and MB a second: below them something is wrong rather than old."""
CGROUP = Path("/sys/fs/cgroup")
TRAINING = ("torch", "transformers", "trl", "accelerate", "datasets")
IMPORTED_S = 120

_ASK_TORCH = """
import json, torch
gpus = [(p.name, p.total_memory) for p in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))]
print(json.dumps({"cuda": torch.version.cuda, "gpus": gpus, "bf16": bool(gpus) and torch.cuda.is_bf16_supported()}))
"""


def check_machine(place: str) -> Iterator[Check]:
    """Yield the checks, the quick ones first; `place` is the directory that builds would write to."""
    yield _python()
    yield _codec()
    yield from _cores()
    yield _memory()
    yield from _disk(place)
    yield _shared_memory()
    yield _open_files()
    yield _ray()
    yield from _training()


def _python() -> Check:
    found = f"{sys.version.split()[0]}, vlm3 {version('vlm3') if _version('vlm3') else '(from its source tree)'}"
    return Check("ok", "Python", found)


def _codec() -> Check:
    import simplejpeg

    from vlm3data.images import decode_rgb, encode_jpeg

    rng = np.random.default_rng(0)
    soft = rng.integers(0, 255, (45, 80, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    noisy = (soft // 2 + rng.integers(0, 60, soft.shape, dtype=np.uint8)).astype(np.uint8)
    data = encode_jpeg(noisy, 92)
    decode_rgb(data)
    began_s, rounds = time.perf_counter(), 8
    for _ in range(rounds):
        decode_rgb(data)
    rate = rounds * noisy.size / 3e6 / (time.perf_counter() - began_s)
    found = f"simplejpeg {simplejpeg.__version__} (libjpeg-turbo): {rate:.0f} megapixels/s on one core"
    if rate < SLOW_DECODE:
        return Check(
            "warn", "JPEG", found, "100 or more is usual: is the machine busy, or simplejpeg built without SIMD?"
        )
    return Check("ok", "JPEG", found)


def _cores() -> Iterator[Check]:
    cores, limit = len(os.sched_getaffinity(0)), cpu_limit(CGROUP)
    found = f"{cores} may be used" + (
        f", of which a container limit leaves {limit:g}" if limit and limit < cores else ""
    )
    if limit and limit < cores:
        do = f"--workers {max(1, int(limit))}: a worker for each of the {cores} cores would only wait"
        yield Check("warn", "cores", found, do)
    else:
        yield Check("ok", "cores", found)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if not threads and cores <= 4:
        do = "export OMP_NUM_THREADS=1 while several processes work (builds, DataLoader workers)"
        yield Check("warn", "threads", f"OMP_NUM_THREADS is not set, on {cores} cores", do)
    elif threads.isdigit() and int(threads) > cores:
        yield Check("warn", "threads", f"OMP_NUM_THREADS={threads} on {cores} cores", f"set it to {cores} or less")
    else:
        yield Check("ok", "threads", f"OMP_NUM_THREADS={threads}" if threads else "each process may use all cores")


def cpu_limit(cgroup: Path) -> float | None:
    """Return the cores that the container's quota amounts to (cgroup v2, then v1); None where there is none."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return int(quota) / int(period) if quota.isdigit() and int(period) else None


def memory_limit(cgroup: Path) -> int | None:
    """Return the bytes that the container may use (cgroup v2, then v1); None where there is no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() and int(text) < 1 << 60 else None
    return None


def _memory() -> Check:
    fields = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {field[0]: int(field[1]) * 1024 for field in fields}
    limit = memory_limit(CGROUP)
    total = min(sizes["MemTotal:"], limit or sizes["MemTotal:"])
    free = min(sizes["MemAvailable:"], total)
    found = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB" + (" (the container's limit)" if limit == total else "")
    needed = len(os.sched_getaffinity(0)) * 1e9
    if free < 1e9:
        return Check("fail", "memory", found, "a worker takes up to 1 GB: free some, or use another machine")
    if free < needed:
        return Check("warn", "memory", found, f"--workers {int(free / 1e9)}: a worker takes up to 1 GB")
    return Check("ok", "memory", found)


def _disk(place: str) -> Iterator[Check]:
    above = next((path for path in (Path(place), *Path(place).absolute().parents) if path.is_dir()), Path("/"))
    free = shutil.disk_usage(above).free
    what = f"disk of {place}"
    try:
        with tempfile.NamedTemporaryFile(dir=above) as file:
            block, began_s = os.urandom(8 << 20), time.perf_counter()
            for _ in range(8):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            rate = 8 * len(block) / 1e6 / (time.perf_counter() - began_s)
    except OSError as error:
        yield Check("fail", what, f"cannot be written: {error}", "choose another place: vlm3data doctor --out DIR")
        return
    found = f"{free / 1e9:.1f} GB free, writes {rate:.0f} MB/s"
    if free < 1e9:
        yield Check("fail", what, found, "an image takes about 0.3 MB in shards: make room, or choose another --out")
    elif free < 20e9 or rate < SLOW_WRITE:
        yield Check("warn", what, found, "an image takes about 0.3 MB in shards: 100,000 of them 30 GB")
    else:
        yield Check("ok", what, found)


def _shared_memory() -> Check:
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        return Check("warn", "shared memory", "there is no /dev/shm", "train with --workers 0")
    found = f"/dev/shm has {usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    if usage.free < 0.5e9:
        do = "DataLoader workers hand over batches there: docker run --shm-size=8g, or train with --workers 0"
        return Check("warn", "shared memory", found, do)
    return Check("ok", "shared memory", found)


def _open_files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 1024:
        do = f"ulimit -n {min(hard, 65536) if hard > 0 else 65536}: a reader keeps a file open for each shard"
        return Check("warn", "open files", f"{soft} at once", do)
    return Check("ok", "open files", f"{soft:,} at once" if soft >= 0 else "no limit")


def _ray() -> Check:
    found = _version("ray")
    if found is None:
        return Check("ok", "Ray", "not installed; only --engine ray needs it (pip install 'vlm3[ray]')")
    return _in_range("ray", found, "ray") or Check("ok", "Ray", found)


def _training() -> Iterator[Check]:
    """What `vlm3train` needs; nothing of it is imported here, but in a process of its own, where that can fail."""
    found = {name: _version(name) for name in TRAINING}
    if found["torch"] is None:
        yield Check("ok", "training", "torch is not installed; only vlm3train needs it (pip install 'vlm3[train]')")
        return
    for name, has in found.items():
        if has is None:
            yield Check("warn", name, "not installed", "vlm3train needs it: pip install 'vlm3[train]'")
        else:
            yield _in_range(name, has, "train") or Check("ok", name, has)
    yield _torch()
    if _version("torchvision") is not None:
        yield _pair()


def _torch() -> Check:
    import json

    code, said = _in_a_process(_ASK_TORCH)
    if code:
        return Check("fail", "GPU", f"torch does not import: {said}", "install torch anew: https://pytorch.org")
    about = json.loads(said)
    if not about["gpus"]:
        built = f"for CUDA {about['cuda']}, but sees none" if about["cuda"] else "for CPU"
        do = (
            "nvidia-smi shows whether the driver works"
            if about["cuda"]
            else "fine for the tiny models, not for a 4B one"
        )
        return Check("warn", "GPU", f"none: torch is built {built}", do)
    names = ", ".join(f"{name} ({size / 1e9:.0f} GB)" for name, size in about["gpus"])
    if not about["bf16"]:
        return Check("warn", "GPU", names, "it has no bfloat16: train with --no-bf16")
    return Check("ok", "GPU", f"{names}, CUDA {about['cuda']}, bfloat16")


def _pair() -> Check:
    """A torchvision linked to another build of torch imports with an error, and transformers' processors with it."""
    code, said = _in_a_process("import torchvision.ops; print(torchvision.__version__)")
    versions = f"torch {_version('torch')}, torchvision {_version('torchvision')}"
    if code:
        do = (
            "transformers breaks on it: pip uninstall torchvision (vlm3 does not need it), or install both from the "
            "same index, https://pytorch.org"
        )
        return Check("fail", "torch + torchvision", f"{versions} do not fit together: {said}", do)
    return Check("ok", "torch + torchvision", versions)


def _in_a_process(code: str) -> tuple[int, str]:
    """Return the exit code of a Python program and the last line that it printed, or its error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORTED_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, f"took over {IMPORTED_S} s"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else f"ended with {done.returncode}"


def _in_range(name: str, found: str, extra: str) -> Check | None:
    """Return what is wrong with a version that our own metadata does not allow."""
    wanted = _wanted(name, extra)
    if wanted is None or wanted.contains(found, prereleases=True):
        return None
    return Check("warn", name, f"{found}, tested with {wanted}", f"pip install '{name}{wanted}'")


def _wanted(name: str, extra: str) -> SpecifierSet | None:
    try:
        ours = requires("vlm3") or []
    except PackageNotFoundError:
        return None
    for line in ours:
        needed = Requirement(line)
        if needed.name == name and (needed.marker is None or needed.marker.evaluate({"extra": extra})):
            return needed.specifier
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


__all__ = ["check_machine", "cpu_limit", "memory_limit"]
