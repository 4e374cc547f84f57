"""Random models of other families with processors and chat templates of their own, written where no torchvision is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    CLIPImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from vlm3train.tiny import _tokenizer, example_texts

TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2} | {
    "intermediate_size": 64,
    "max_position_embeddings": 4096,
}
VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}

LLAVA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}{{ '[ask] ' }}{% else %}{{ ' ' }}"
    "{% endif %}{% for part in message.content %}{% if part.type == 'image' %}{{ '<image>\n' }}{% else %}"
    "{{ part.text }}{% endif %}{% endfor %}{% if message.role == 'user' %}{{ ' [say]' }}{% else %}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
IDEFICS_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}"
    "{{ ':' if message.content[0].type == 'image' else ': ' }}{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ '<image>' }}{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{{ '<end_of_utterance>\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def write_qwen2_5_vl(out: Path) -> None:
    torch.manual_seed(0)
    tokenizer = _tokenizer(list(example_texts(count=300)))
    ids = tokenizer.get_vocab()
    config = Qwen2_5_VLConfig(
        text_config=TEXT
        | {"vocab_size": len(tokenizer), "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
        | {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": ids["<|im_end|>"], "bos_token_id": None},
        vision_config={"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 32}
        | {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "fullatt_block_indexes": [1]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    config.text_config.rope_parameters["mrope_section"] = [2, 3, 3]
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=1 << 20).save_pretrained(out)


def write_llava(out: Path) -> None:
    torch.manual_seed(0)
    tokenizer = _byte_tokenizer(["<s>", "</s>", "<pad>", "<image>"])
    config = LlavaConfig(
        vision_config=VISION | {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8},
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokenizer)} | _ends(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(out)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images, tokenizer, 8, "default", chat_template=LLAVA_TEMPLATE, num_additional_image_tokens=1
    ).save_pretrained(out)


def write_idefics3(out: Path) -> None:
    torch.manual_seed(0)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    marks = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *tiles]
    tokenizer = _byte_tokenizer(["<s>", "</s>", "<pad>", "<image>", *marks])
    config = Idefics3Config(
        vision_config=VISION | {"image_size": 32, "patch_size": 8},
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokenizer)} | _ends(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(out)
    images = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=IDEFICS_TEMPLATE).save_pretrained(out)


WRITERS: dict[str, Callable[[Path], None]] = {
    "qwen2_5_vl": write_qwen2_5_vl,
    "llava": write_llava,
    "idefics3": write_idefics3,
}


def _byte_tokenizer(specials: list[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE in the manner of GPT-2, which joins a space with the word behind it."""
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    raw.train_from_iterator(example_texts(count=300), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
