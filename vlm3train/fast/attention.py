"""Attention within each image of a batch, in one call where the stock code loops over the images."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "vlm3_flash_by_image"
"""The name must hold "flash": then the model hands over all images at once, with their lengths."""


def attention_by_image(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None = None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention of (1, heads, patches, width) within each image, as (1, patches, heads, width).

    `max_length_q` is the number of patches of each image where all have as many; images of several sizes go through
    torch's own variable-length kernel on a GPU, one by one elsewhere.
    """
    heads, patches, width = query.shape[1:]
    images = cu_seq_lens_q.shape[0] - 1
    if images * max_length_q == patches:
        split = [t.view(heads, images, max_length_q, width).transpose(0, 1) for t in (query, key, value)]
        out = scaled_dot_product_attention(split[0], split[1], split[2], scale=scaling)
        return out.transpose(1, 2).reshape(1, patches, heads, width), None
    flat = [t.squeeze(0).transpose(0, 1) for t in (query, key, value)]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = cu_seq_lens_q, max_length_q
        out: Any = varlen_attn(flat[0], flat[1], flat[2], bounds, bounds, longest, longest, scale=scaling)
        return out.unsqueeze(0), None
    bounds = cu_seq_lens_q.tolist()
    parts = [
        scaled_dot_product_attention(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scale=scaling)
        for a, b in pairwise(bounds)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None
