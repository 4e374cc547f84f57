"""A Qwen3-VL's forward pass for training: the stock modules, without what makes the GPU wait.

The stock forward asks the GPU for lengths and masks a dozen times per pass and computes logits where no loss is. Here
everything that follows from the batch's shape is worked out beforehand, on the CPU, in the loader's workers.
"""

from vlm3train.fast.compiled import compile_blocks
from vlm3train.fast.forward import hidden_states, install, is_fast, plain
from vlm3train.fast.places import IGNORED, Places, answers_of, places_of

__all__ = [
    "IGNORED",
    "Places",
    "answers_of",
    "compile_blocks",
    "hidden_states",
    "install",
    "is_fast",
    "places_of",
    "plain",
]
