"""Pretrained tokenizers: whether one is on this machine, and its size, without transformers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import cast

from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.config import RunConfig, TokenizerConfig
from rnnlm_tui.schema.formatting import user_path

SIZE_PATH = "tokenizer.vocab_size"
FOLDER_STARTS = ("/", "./", "../", "~")
"""How the name of a tokenizer begins that is a path, not one of the hub."""
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_SPECIAL = [f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]


def check_tokenizer(tokenizer: TokenizerConfig) -> None:
    """Raise TokenizerError if a pretrained tokenizer's path has no tokenizer, or if its size
    differs from the config's."""
    if tokenizer.kind != "pretrained" or tokenizer.name is None:
        return
    folder = user_path(tokenizer.name)
    if folder.is_dir():
        if not any(
            (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")
        ):
            raise TokenizerError(
                f"no tokenizer in {folder}: it has neither tokenizer.json nor tokenizer_config.json"
            )
    elif folder.is_file():
        raise TokenizerError(
            f"{folder} is a file: a pretrained tokenizer is a folder with tokenizer.json, or a hub"
            " name",
            hint="pickles and .pt files are never opened",
        )
    elif tokenizer.name.startswith(FOLDER_STARTS):
        raise TokenizerError(
            f"tokenizer folder not found: {folder}", hint="a hub name has the form owner/name"
        )
    size = tokenizer_size(tokenizer)
    if size is not None and size != tokenizer.vocab_size:
        raise TokenizerError(
            f'the tokenizer "{tokenizer.name}" has {size:,} types, but {SIZE_PATH} is'
            f" {tokenizer.vocab_size:,}",
            hint=f"set {SIZE_PATH}={size}, or leave it out",
        )


def tokenizer_size(tokenizer: TokenizerConfig) -> int | None:
    """`len(tokenizer)` of a pretrained tokenizer in a local folder or in the hub's cache; None if
    unknown."""
    if tokenizer.kind != "pretrained" or tokenizer.name is None:
        return None
    folder = user_path(tokenizer.name)
    paths = [folder / name for name in _FILES] if folder.is_dir() else _cached(tokenizer.name)
    try:
        return len(set(_types(paths))) or None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # damaged, or in a format that only transformers reads, which reports errors when it loads
        # the tokenizer
        return None


def with_tokenizer_size(config: RunConfig, chosen: Collection[str], start: RunConfig) -> RunConfig:
    """Set `tokenizer.vocab_size` to the pretrained tokenizer's size, unless the user set it or
    `start` has the same tokenizer.

    Args:
        chosen: the dotted paths of the fields that the user set.
        start: the config that these fields override.

    Raises:
        TokenizerError: the tokenizer isn't on this machine and can't be downloaded.
    """
    tokenizer = config.tokenizer
    if tokenizer.kind != "pretrained" or tokenizer.name is None or SIZE_PATH in chosen:
        return config
    if start.tokenizer.kind == "pretrained" and start.tokenizer.name == tokenizer.name:
        return config
    size = tokenizer_size(tokenizer)
    if size is None and _is_on_the_hub(tokenizer.name):
        _fetch(tokenizer.name)
        size = tokenizer_size(tokenizer)
    return (
        config
        if size is None
        else config.model_copy(
            update={"tokenizer": tokenizer.model_copy(update={"vocab_size": size})}
        )
    )


def _types(paths: list[Path]) -> Iterator[str]:
    """The names of all types, with duplicates."""
    model, *configs = paths
    tokenizer = json.loads(model.read_bytes())
    vocabulary = tokenizer["model"]["vocab"]
    yield from vocabulary if isinstance(vocabulary, dict) else (name for name, _ in vocabulary)
    yield from (added["content"] for added in tokenizer.get("added_tokens") or ())
    for path in configs:
        if path.is_file():
            settings = json.loads(path.read_bytes())
            yield from (
                added["content"] for added in (settings.get("added_tokens_decoder") or {}).values()
            )
            tokens = [settings.get(name) for name in _SPECIAL] + list(
                settings.get("additional_special_tokens") or ()
            )
            yield from (
                cast(str, token["content"] if isinstance(token, dict) else token)
                for token in tokens
                if token
            )


def _is_on_the_hub(name: str) -> bool:
    return not name.startswith(FOLDER_STARTS) and not user_path(name).exists()


def _cached(name: str) -> list[Path]:
    """The files of a tokenizer that are in the hub's cache, in the order of `_FILES`."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(name, file) for file in _FILES]
    except HFValidationError:
        return []
    return [Path(path) for path in found if isinstance(path, str)]


def _fetch(name: str) -> None:
    """Download a tokenizer's files into the hub's cache, which the worker reads too.

    Raises:
        TokenizerError: the download failed.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        hf_hub_download(name, _FILES[0])
        for file in _FILES[1:]:
            try:
                hf_hub_download(name, file)
            except EntryNotFoundError:
                continue
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise TokenizerError(
            f'cannot download the tokenizer "{name}" to read its size: {reason}',
            hint=f"give a folder with tokenizer.json, or set {SIZE_PATH}",
        ) from error
