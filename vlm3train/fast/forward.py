"""The hidden states of a Qwen3-VL, composed of the model's own modules; nothing in it waits for the GPU.

Equal to the stock forward pass (tests compare the two); what differs is where its shapes come from.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch

from vlm3train.fast.attention import NAME, attention_by_image
from vlm3train.fast.places import Places

MODEL_TYPES = ("qwen3_vl",)
CAUSAL_ALONE = ("sdpa", "flash_attention")
"""Transformers' attentions that do not look ahead when they are given no mask."""


def is_fast(model: Any) -> bool:
    """Tell whether `model` is one that `hidden_states` knows."""
    return getattr(plain(model).config, "model_type", "") in MODEL_TYPES


def plain(model: Any) -> Any:
    """Return the architecture inside `model`, adapters in place: what peft wraps, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def hidden_states(
    model: Any,
    *,
    input_ids: torch.Tensor,
    pixel_values: torch.Tensor,
    places: Places,
) -> torch.Tensor:
    """Return the (batch, tokens, hidden) states of a right-padded batch after the final norm.

    No attention mask: padding stands behind what is asked about, where causal attention does not look. `pixel_values`
    is (patches, channels x time x height x width) of all images.
    """
    image_at = places.image_at
    assert image_at is not None
    text, embed = model.model.language_model, model.model.get_input_embeddings()
    images, deepstack = _images(model.model.visual, pixel_values, places.grids)
    states = embed(input_ids)
    if torch.is_autocast_enabled(states.device.type):
        # The embedding is no operation that autocast knows; its float32 would make every layer's sum one.
        states = states.to(torch.get_autocast_dtype(states.device.type))
    flat = states.reshape(-1, states.shape[-1])
    states = flat.index_copy(0, image_at, images.to(flat.dtype)).view_as(states)
    rotary = text.rotary_emb(states, places.position_ids)
    for number, layer in enumerate(text.layers):
        states = layer(states, attention_mask=None, position_embeddings=rotary)
        if number < len(deepstack):
            flat = states.reshape(-1, states.shape[-1])
            states = flat.index_add(0, image_at, deepstack[number].to(flat.dtype)).view_as(states)
    return text.norm(states)


def _images(
    visual: Any, pixels: torch.Tensor, grids: tuple[tuple[int, int], ...]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the image tokens, and what the deepstack adds to them behind the first layers of the language model."""
    tables = [_tables(grid, visual.num_grid_per_side, visual.spatial_merge_size, pixels.device) for grid in grids]
    positions, taps, weights = (torch.cat(column) for column in zip(*tables, strict=True))
    lengths = [rows * columns for rows, columns in grids]
    bounds = _bounds(tuple(lengths), pixels.device)
    # A convolution whose kernel is its stride is a matrix product, and as one it is several times as fast.
    embed = visual.patch_embed.proj
    states = torch.nn.functional.linear(pixels.to(embed.weight.dtype), embed.weight.flatten(1), embed.bias)
    states = states + (visual.pos_embed(taps) * weights[..., None]).sum(1).to(states.dtype)
    rotary = visual.rotary_pos_emb(states, positions)
    deepstack = []
    for number, block in enumerate(visual.blocks):
        states = block(states, cu_seqlens=bounds, max_seqlen=max(lengths), position_embeddings=rotary)
        if number in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(number)]
            deepstack.append(merger(states))
    return visual.merger(states), deepstack


@lru_cache(maxsize=512)
def _tables(grid: tuple[int, int], side: int, merge: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return, a patch of an image of `grid`, its row and column, and which learned positions it mixes how."""
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

    thw = torch.tensor([[1, *grid]])
    taps, weights = get_vision_interpolation_indices_and_weights(
        thw, num_grid_per_side=side, mode="bilinear", align_corners=True, spatial_merge_size=merge
    )
    positions = get_vision_position_ids(thw, merge)
    # What is copied so waits for nothing that the GPU still does.
    return tuple(table.to(device, non_blocking=True) for table in (positions, taps, weights))


@lru_cache(maxsize=512)
def _bounds(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device, non_blocking=True)


def install(model: Any) -> None:
    """Let the images of a batch attend to themselves in one call, here and in the stock forward pass.

    The text's attention becomes one that is causal without a mask: a checkpoint may ask for transformers' `eager`,
    which then sees the answers ahead.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention_by_image)
    model.model.visual.config._attn_implementation = NAME
    text = model.model.language_model.config
    if not text._attn_implementation.startswith(CAUSAL_ALONE):
        text._attn_implementation = "sdpa"
