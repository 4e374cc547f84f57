"""Compiling the blocks of a model, each by itself: seconds instead of minutes, and any number of GPUs."""

from __future__ import annotations

from typing import Any

KINDS = 64
"""Variants that a block is compiled for; beyond these it runs as it is."""


def compile_blocks(model: Any) -> None:
    """Compile every decoder layer and every vision block of `model` when it first runs.

    The first shape gets code of its own; from the second on there is code for all of them, or a mixture of many image
    sizes would compile for hours.
    """
    from torch import _dynamo

    # pyright: ignore[reportPrivateUsage] on purpose: this is where torch keeps the setting
    _dynamo.config.recompile_limit = max(_dynamo.config.recompile_limit, KINDS)
    for layer in model.model.language_model.layers:
        layer.compile()
    for block in model.model.visual.blocks:
        block.compile()
