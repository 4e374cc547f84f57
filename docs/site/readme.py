"""MkDocs hooks: README.md is the site's first page, and pictures follow the site's light and dark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

README = Path(__file__).parents[2] / "README.md"
PICTURE = re.compile(r'<picture><source [^>]*srcset="([^"]+)"><img [^>]*alt="([^"]+)" src="([^"]+)"></picture>')


def on_files(files: Files, config: Any) -> Files:
    """Add README.md as `index.md`, its links to pages as seen from beside them."""
    text = README.read_text(encoding="utf-8")
    for before, after in (("](docs/", "]("), ('="docs/', '="')):
        text = text.replace(before, after)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn what GitHub shows by the system's scheme into what the theme shows by its own; links to README into ours."""
    markdown = PICTURE.sub(r"![\2](\3#only-light)![\2](\1#only-dark)", markdown)
    return markdown.replace("](../README.md", "](index.md")
