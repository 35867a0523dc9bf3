"""A small tokenizer folder with every trap of the book's tokenizer: Llama-like pieces, tokens added
after the vocabulary, BOS, left padding, pad = eos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers

ADDED = ("<|endoftext|>", "<|assistant|>", "<|user|>")
"""Tokens after the learned ones: `len(tokenizer)` counts them, `vocab_size` doesn't."""


def write_tokenizer(
    folder: Path, lines: Sequence[str], size: int, config: Mapping[str, object] | None = None
) -> int:
    """Learn `size` types from the lines and save them with the added ones; returns
    `len(tokenizer)`.

    Args:
        config: changes to tokenizer_config.json; None removes a key.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ],
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False, max_token_length=16
    )
    words = (
        word for line in lines for word in line.split()
    )  # like sentencepiece, no piece crosses a space
    tokenizer.train_from_iterator(words, trainer=trainer)
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in ADDED]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.enable_padding(
        direction="left", pad_id=tokenizer.token_to_id(ADDED[0]), pad_token=ADDED[0]
    )
    tokenizer.enable_truncation(8)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    facts: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": ADDED[0],
        "pad_token": ADDED[0],
        "unk_token": "<unk>",
        "padding_side": "left",
        "add_bos_token": True,
        "model_max_length": 8,
        "clean_up_tokenization_spaces": False,
    }
    facts = {key: value for key, value in {**facts, **(config or {})}.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")
    return int(tokenizer.get_vocab_size(with_added_tokens=True))
