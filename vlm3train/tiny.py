"""A Qwen3-VL of a few million random parameters, with its own tokenizer: everything a run needs, with no download.

The architecture, the special tokens, the digit splitting and the chat format are Qwen3-VL's; only the
sizes and the vocabulary are small. What learns on it will run unchanged on the released weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm3data.randomness import rng_for
from vlm3data.types import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from transformers import Qwen2Tokenizer, Qwen3VLConfig

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
PLAIN_ADDED_TOKENS = ("<think>", "</think>")
"""One token each, but text: decoding with `skip_special_tokens` keeps them, as Qwen's does."""

VOCABULARY = 1024
MIN_PIXELS = 32 * 32
MAX_PIXELS = 4096 * 32 * 32


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers that tell one preset from another."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vision_hidden: int
    vision_depth: int
    vision_heads: int
    vision_intermediate: int
    deepstack: tuple[int, ...]
    smooth_positions: bool = False
    """Begin with learned image positions that are waves, as large as what the patches give, rather than small noise."""

    @property
    def head_dim(self) -> int:
        """Return the width of one attention head of the language model."""
        return self.hidden // self.heads


SIZES = {
    "tiny": Size(
        hidden=96,
        layers=3,
        heads=3,
        kv_heads=3,
        intermediate=288,
        vision_hidden=96,
        vision_depth=2,
        vision_heads=3,
        vision_intermediate=288,
        deepstack=(0,),
    ),
    "mini": Size(
        hidden=384,
        layers=6,
        heads=6,
        kv_heads=6,
        intermediate=1024,
        vision_hidden=384,
        vision_depth=8,
        vision_heads=6,
        vision_intermediate=1536,
        deepstack=(3,),
    ),
    "mini-smooth": Size(
        hidden=384,
        layers=6,
        heads=6,
        kv_heads=6,
        intermediate=1024,
        vision_hidden=384,
        vision_depth=8,
        vision_heads=6,
        vision_intermediate=1536,
        deepstack=(3,),
        smooth_positions=True,
    ),
    "small": Size(
        hidden=512,
        layers=8,
        heads=8,
        kv_heads=8,
        intermediate=1408,
        vision_hidden=384,
        vision_depth=6,
        vision_heads=6,
        vision_intermediate=1536,
        deepstack=(1, 3),
    ),
}

NANO = Size(
    hidden=32,
    layers=2,
    heads=2,
    kv_heads=2,
    intermediate=64,
    vision_hidden=32,
    vision_depth=2,
    vision_heads=2,
    vision_intermediate=64,
    deepstack=(0, 1),
)
"""Too small to learn, with every part that the others have: for tests and for benchmarks that are tried out."""


def write_tiny_model(out: Path, size: Size, texts: Iterable[str], seed: int) -> int:
    """Write a randomly initialised model with tokenizer, image processor and chat template to `out`.

    The tokenizer is trained on `texts`. Return the number of parameters.
    """
    import torch
    from transformers import GenerationConfig, Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration

    tokenizer = _tokenizer(texts)
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(_config(size, tokenizer))
    if size.smooth_positions:
        table: Any = model.model.visual.pos_embed.weight.data
        table.copy_(waves(model.model.visual.num_grid_per_side, size.vision_hidden))
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    Qwen2VLImageProcessorPil(
        min_pixels=MIN_PIXELS,
        max_pixels=MAX_PIXELS,
        patch_size=16,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(out)
    return model.num_parameters()


def example_texts(seed: int = 0, count: int = 4000) -> Iterator[str]:
    """Yield made-up questions and answers about metres and pixels, for a tokenizer without shards to read."""
    rng = rng_for(seed, "tokenizer")
    wordings = (resources.files("vlm3train") / "tokenizer_corpus.txt").read_text().splitlines()
    yield from ("user\n", "assistant\n") * count  # what the chat template writes around every turn
    for _ in range(count):
        x, y, x2, y2 = rng.integers(0, 2000, 4)
        wording = wordings[int(rng.integers(len(wordings)))]
        yield wording.format(x=x, y=y, x2=x2, y2=y2, number=f"{rng.gamma(2.0, 4.0):.2f}")


def size_named(name: str) -> Size:
    """Return a preset; an unknown name lists the choices."""
    if name not in SIZES:
        raise UserError(f"unknown size {name!r}; known: {', '.join(SIZES)}")
    return SIZES[name]


def waves(side: int, width: int) -> torch.Tensor:
    """Return (side * side, width) positions of a square grid: sines and cosines of the row, then of the column.

    Wavelengths grow from four cells to four times the side; the root of the mean square is 0.5.
    """
    import torch

    frequency = torch.pi / 2 * side ** -torch.linspace(0, 1, width // 4)
    angle = torch.arange(side)[:, None] * frequency
    along = torch.cat([angle.sin(), angle.cos()], 1)
    rows, columns = along[:, None].expand(side, side, -1), along[None].expand(side, side, -1)
    return 0.5**0.5 * torch.cat([rows, columns], 2).reshape(side * side, width)


def _tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """Train a byte-level BPE with Qwen's splitting rules: every digit is a token of its own."""
    import json

    from tokenizers import Tokenizer, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import AddedToken, Qwen2Tokenizer

    raw = Tokenizer(BPE())
    qwen: Any = Qwen2Tokenizer()
    raw.normalizer = qwen._tokenizer.normalizer
    raw.pre_tokenizer = qwen._tokenizer.pre_tokenizer
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    learnt = json.loads(raw.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=learnt["vocab"], merges=merges, eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in PLAIN_ADDED_TOKENS])
    tokenizer.chat_template = (resources.files("vlm3train") / "chat_template.jinja").read_text()
    return tokenizer


def _config(size: Size, tokenizer: Qwen2Tokenizer) -> Qwen3VLConfig:
    from transformers import Qwen3VLConfig

    pairs = size.head_dim // 2
    height = width = pairs * 5 // 16
    ids = tokenizer.get_vocab()
    return Qwen3VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "head_dim": size.head_dim,
            "intermediate_size": size.intermediate,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [pairs - height - width, height, width],
                "mrope_interleaved": True,
            },
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": ids["<|im_end|>"],
            "bos_token_id": None,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": size.vision_depth,
            "hidden_size": size.vision_hidden,
            "num_heads": size.vision_heads,
            "intermediate_size": size.vision_intermediate,
            "out_hidden_size": size.hidden,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": list(size.deepstack),
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
