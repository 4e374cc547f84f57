"""Silence from the libraries below, so that what a command prints is ours; errors still come through."""

from __future__ import annotations

import logging
import os
import warnings


def quieten() -> None:
    """Turn off the notices and progress bars of transformers, datasets and torch in this process."""
    # The tokenizer's threads and the loader's processes do not mix, and it says so on every fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=r"(torch|transformers|trl|accelerate|datasets)\b")
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    for name in ("accelerate", "huggingface_hub", "torch.distributed", "trl"):
        logging.getLogger(name).setLevel(logging.ERROR)
