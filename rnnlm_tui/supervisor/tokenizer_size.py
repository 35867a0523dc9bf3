"""How many types a pretrained tokenizer has, read from its files: no library that could load it is imported."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import cast

from rnnlm_tui.contract.config import RunConfig, TokenizerConfig
from rnnlm_tui.contract.outside_text import user_path
from rnnlm_tui.errors import TokenizerError

SIZE_PATH = "tokenizer.vocab_size"
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def tokenizer_size(tokenizer: TokenizerConfig) -> int | None:
    """`len(tokenizer)` of a pretrained one in a local folder or in the cache of the hub; None where it can't be told."""
    if tokenizer.kind != "pretrained" or tokenizer.name is None:
        return None
    folder = user_path(tokenizer.name)
    paths = [folder / name for name in _FILES] if folder.is_dir() else _cached(tokenizer.name)
    try:
        return len(set(_types(paths))) or None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # damaged, or of a form that only the library reads: it says so when the tokenizer is loaded


def with_tokenizer_size(config: RunConfig, chosen: Collection[str], start: RunConfig) -> RunConfig:
    """The config with the size that its pretrained tokenizer brings, unless the size was chosen, or `start` has it from the same tokenizer.

    Args:
        chosen: the dotted paths of the fields that the user set.
        start: the config that those fields were laid over.

    Raises:
        TokenizerError: the tokenizer is on the hub alone, and can't be fetched to look.
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
    return config if size is None else config.model_copy(update={"tokenizer": tokenizer.model_copy(update={"vocab_size": size})})


def check_tokenizer_size(tokenizer: TokenizerConfig) -> None:
    """Raise TokenizerError where a pretrained tokenizer is known to have another size than the config says."""
    size = tokenizer_size(tokenizer)
    if size is not None and size != tokenizer.vocab_size:
        raise TokenizerError(
            f'the tokenizer "{tokenizer.name}" has {size:,} types, {SIZE_PATH} says {tokenizer.vocab_size:,}', hint=f"set {SIZE_PATH}={size}, or leave it out"
        )


def _types(paths: list[Path]) -> Iterator[str]:
    """The names of all types, some of them more than once."""
    model, *configs = paths
    tokenizer = json.loads(model.read_bytes())
    vocabulary = tokenizer["model"]["vocab"]
    yield from vocabulary if isinstance(vocabulary, dict) else (name for name, _ in vocabulary)
    yield from (added["content"] for added in tokenizer.get("added_tokens") or ())
    for path in configs:
        if path.is_file():
            settings = json.loads(path.read_bytes())
            yield from (added["content"] for added in (settings.get("added_tokens_decoder") or {}).values())
            tokens = [settings.get(name) for name in _SPECIAL] + list(settings.get("additional_special_tokens") or ())
            yield from (cast(str, token["content"] if isinstance(token, dict) else token) for token in tokens if token)


def _is_on_the_hub(name: str) -> bool:
    return not name.startswith(("/", "./", "../", "~")) and not user_path(name).exists()


def _cached(name: str) -> list[Path]:
    """The files of a hub's tokenizer as they lie in its cache; a missing one has a path that leads nowhere."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return [Path(str(try_to_load_from_cache(name, file))) for file in _FILES]
    except HFValidationError:
        return [Path("None")] * len(_FILES)


def _fetch(name: str) -> None:
    """Bring the files of a hub's tokenizer into its cache, where the worker looks for them as well.

    Raises:
        TokenizerError: they can't be fetched.
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
            f'the tokenizer "{name}" is not on this machine and can\'t be fetched, so its size is unknown: {reason}',
            hint=f"give a folder with tokenizer.json, or set {SIZE_PATH}",
        ) from error
