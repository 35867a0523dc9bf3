"""Tokenizer files for transformers' AutoTokenizer that give the same ids as our codec for a prompt.

What the codec does beside `tokenizer.json` becomes part of the files: the end token in front of a
prompt, line breaks as end tokens, removed spaces at the end, special tokens as ordinary text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnlm_tui.corpus.codec import EXPORTED, TextCodec
from rnnlm_tui.corpus.tokenizers import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME
from rnnlm_tui.errors import TokenizerError

LINE_BREAK = "\n"
_TRAILING_SPACE = r"[\s\x1c-\x1f]+\z"
"""What Python's `rstrip` removes."""
_START = "start"
"""Name of the end token in the post-processor's template."""


@dataclass(frozen=True, slots=True)
class AutoTokenizerFiles:
    """The content of tokenizer.json and tokenizer_config.json."""

    tokenizer: Mapping[str, Any]
    config: Mapping[str, Any]
    start_id: int | None
    """The token that an empty prompt consists of; None if it isn't one token."""
    notes: tuple[str, ...]
    """What differs from our codec, in sentences."""

    def write(self, folder: Path) -> None:
        """Write both files.

        Raises:
            OSError: they can't be written.
        """
        for name, values in (
            (TOKENIZER_NAME, self.tokenizer),
            (TOKENIZER_CONFIG_NAME, self.config),
        ):
            text = json.dumps(values, indent=2, ensure_ascii=False)
            (folder / name).write_text(text + "\n", encoding="utf-8")


def autotokenizer_files(
    directory: Path, codec: TextCodec, *, after_end: bool
) -> AutoTokenizerFiles:
    """The files for the tokenizer of a checkpoint.

    Args:
        codec: the checkpoint's.
        after_end: prompts follow an end token, as sentences do in a stream.
    """
    state = json.loads((directory / TOKENIZER_NAME).read_text(encoding="utf-8"))
    known = json.loads((directory / TOKENIZER_CONFIG_NAME).read_text(encoding="utf-8"))
    names = {name: known[f"{name}_token"] for name in ("eos", "pad", "unk")}
    own = {**known, "normalizer": state["normalizer"]}
    state["padding"] = state["truncation"] = None
    notes: list[str] = []
    if codec.layout == "lines" and names["eos"] is not None:
        end = names["eos"]
        if end != names["pad"] and _rename_end(state, end):
            # AutoTokenizer would make it a special token if it were declared
            own |= {f"{name}_token": LINE_BREAK for name, token in names.items() if token == end}
            names = {name: None if token == end else token for name, token in names.items()}
        else:
            notes.append(
                "a line break in a text isn't an end token for AutoTokenizer: give it one line at"
                f" a time and join the ids with {codec.eos_id}"
            )
    if codec.layout == "sentences" and codec.kind not in ("byte", "character"):
        if any(not token["special"] for token in state["added_tokens"]):
            notes.append("spaces at the end of a prompt aren't removed by AutoTokenizer")
        else:
            state["normalizer"] = _first_strip(state["normalizer"])
    starts = after_end and codec.eos_id is not None and codec.layout != "raw"
    start = names["eos"] if starts else None
    state["post_processor"] = _template(codec.eos_id, start or LINE_BREAK) if starts else None
    return AutoTokenizerFiles(
        tokenizer=state,
        config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "padding_side": "left",
            "split_special_tokens": True,
            "model_input_names": ["input_ids", "attention_mask"],
            EXPORTED: own,
            **({} if start is None else {"bos_token": start}),
            **{f"{name}_token": token for name, token in names.items() if token is not None},
        },
        start_id=_start_id(codec, after_end=after_end),
        notes=tuple(notes),
    )


def _rename_end(state: dict[str, Any], end: str) -> bool:
    """Name the end token `\\n`, an ordinary token that is found before the text is split; False if
    the vocabulary has that name or scores (unigrams)."""
    vocabulary = state["model"]["vocab"]
    added = [token for token in state["added_tokens"] if token["content"] == end]
    taken = {token["content"] for token in state["added_tokens"]}
    if not added or not isinstance(vocabulary, dict) or LINE_BREAK in taken | vocabulary.keys():
        return False
    state["model"]["vocab"] = {
        LINE_BREAK if piece == end else piece: index for piece, index in vocabulary.items()
    }
    if state["model"].get("unk_token") == end:
        state["model"]["unk_token"] = LINE_BREAK
    for token in added:
        token.update(
            content=LINE_BREAK,
            special=False,
            normalized=False,
            single_word=False,
            lstrip=False,
            rstrip=False,
        )
    return True


def _first_strip(normalizer: dict[str, Any] | None) -> dict[str, Any]:
    """The normalizer after a step that removes white space at the end."""
    strip = {"type": "Replace", "pattern": {"Regex": _TRAILING_SPACE}, "content": ""}
    if normalizer is None:
        return strip
    others = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    return {"type": "Sequence", "normalizers": [strip, *others]}


def _template(index: int | None, content: str | None) -> dict[str, Any]:
    """A post-processor that puts the end token in front of a text."""
    start = {"SpecialToken": {"id": _START, "type_id": 0}}
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    return {
        "type": "TemplateProcessing",
        "single": [start, text[0]],
        "pair": [start, *text],
        "special_tokens": {_START: {"id": _START, "ids": [index], "tokens": [content]}},
    }


def _start_id(codec: TextCodec, *, after_end: bool) -> int | None:
    try:
        ids = codec.prompt_ids("", after_end=after_end)
    except TokenizerError:  # no end token to start from
        return None
    return ids[0] if len(ids) == 1 else None
