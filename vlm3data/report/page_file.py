"""Pages of one file: markup, style, script and data together, opened from a disk, with no network.

What comes from data is only ever in JSON blocks, which the page turns into text nodes; a policy in the page allows
its own script and style by their hashes, images from `data:`, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

import orjson

UNSAFE = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]")
"""What could end a script element, begin a comment in one, or break a line of JavaScript (U+2028, U+2029)."""


def page_frame(markup: str, styles: Sequence[str], scripts: Sequence[str]) -> tuple[bytes, bytes]:
    """Return what stands before and after the data: files of `page/`, the scripts in one scope in their order.

    The first line of the markup is the page's title, in a comment; `head.html` comes in its place.
    """
    page = files("vlm3data.report") / "page"
    style = "\n".join((page / name).read_text("utf-8") for name in styles)
    script = "\n".join((page / name).read_text("utf-8") for name in scripts)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title, _, body = (page / markup).read_text("utf-8").partition("\n")
    template = Template((page / "head.html").read_text("utf-8") + body)
    text = template.substitute(title=title.strip("<!- >"), policy=policy, style=style, script=script)
    head, _, tail = text.partition("<!-- data -->")
    return head.encode(), tail.encode()


def data_block(name: str, kind: str, data: bytes) -> bytes:
    """Return a script element that no browser runs; `data` holds no `<`."""
    return b'<script type="%s" id="%s">%s</script>\n' % (kind.encode(), name.encode(), data)


def json_block(value: Any) -> bytes:
    """Return `value` as JSON that no HTML parser sees an end, a comment or an entity in."""
    plain = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return UNSAFE.sub(lambda found: rb"\u%04x" % ord(found[0].decode()), plain)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
