"""The command `vlm3data new-source`: a source of one's own to start from."""

from __future__ import annotations

from pathlib import Path


def new_source(name: str, *, out: Path) -> None:
    """Write a small package that reads a folder of images with a CSV of labels, to be changed until it reads yours.

    It has comments, tests and example data, and works at once: pip install -e it, and `vlm3data build NAME` knows it.

    Example: vlm3data new-source my_rooms --out my_rooms

    Parameters
    ----------
    name
        What the source is called on the command line: small letters, digits and _.
    out
        Directory to write; must be new or empty.
    """
    from vlm3data.newsource import new_source as write

    for path in write(name, out):
        print(f"wrote {out / path}")
    print(
        f"\nnext:  pip install -e {out}\n"
        f"       vlm3data build {name} --root {out / 'example'} --out out/{name}\n"
        f"       pytest {out}\n"
        f"then change {out / f'vlm3_{name}' / 'source.py'} until it reads your data"
    )
