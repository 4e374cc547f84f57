"""A headless Chromium for tests of pages; they skip where the machine has none.

A page is opened from its file, without a network, and whatever goes wrong in it fails the test: an error, a refusal by
the page's own policy, a request for anything else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a running Chromium: the one that CHROMIUM names, or of the system."""
    required = os.environ.get("VLM3_BROWSER") == "required"  # CI: a test that is skipped there tests nothing
    api = import_module("playwright.sync_api") if required else pytest.importorskip("playwright.sync_api")
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        (pytest.fail if required else pytest.skip)(
            "no Chromium on this machine (apt-get install chromium, or CHROMIUM=its path)"
        )
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield running
        running.close()


@contextmanager
def opened(browser: Any, path: Path, width_px: int = 1280, height_px: int = 900, dark: bool = False) -> Iterator[Any]:
    """Open the page in a fresh profile; anything that goes wrong in it until the end is an AssertionError."""
    context = browser.new_context(
        viewport={"width": width_px, "height": height_px},
        color_scheme="dark" if dark else "light",
        offline=True,
        accept_downloads=True,
    )
    wrong: list[str] = []
    page = context.new_page()
    page.set_default_timeout(5000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else wrong.append(request.url),
    )
    page.goto(path.absolute().as_uri())
    try:
        yield page
    finally:
        context.close()
    assert not wrong, wrong
