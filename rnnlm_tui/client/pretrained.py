"""Pretrained tokenizers: whether one is on this machine, and its size, without transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.schema.config import TokenizerConfig
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.schema.precedence import Origin, ResolvedConfig

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
    try:
        found = _types(folder if folder.is_dir() else _in_hub_cache(tokenizer.name))
        return len(set(found)) or None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # damaged, or in a format that only transformers reads, which reports errors when it loads
        # the tokenizer
        return None


def with_tokenizer_size(found: ResolvedConfig) -> ResolvedConfig:
    """Set `tokenizer.vocab_size` to the pretrained tokenizer's size, unless the user set it or the
    base has the same tokenizer.

    Raises:
        TokenizerError: the tokenizer isn't on this machine and can't be downloaded.
    """
    tokenizer, start = found.config.tokenizer, found.base.tokenizer
    if tokenizer.kind != "pretrained" or tokenizer.name is None or SIZE_PATH in found.chosen:
        return found
    if start.kind == "pretrained" and start.name == tokenizer.name:
        return found
    size = tokenizer_size(tokenizer)
    on_hub = not tokenizer.name.startswith(FOLDER_STARTS) and not user_path(tokenizer.name).exists()
    if size is None and on_hub:
        try:
            (_in_hub_cache(tokenizer.name, download=True) / _FILES[0]).stat()
        except (OSError, ValueError) as error:  # the hub's errors are an OSError, too
            reason = str(error).strip().split("\n")[0]
            raise TokenizerError(
                f'cannot download the tokenizer "{tokenizer.name}" to read its size: {reason}',
                hint=f"give a folder with tokenizer.json, or set {SIZE_PATH}",
            ) from error
        size = tokenizer_size(tokenizer)
    if size is None:
        return found
    sized = tokenizer.model_copy(update={"vocab_size": size})
    return replace(
        found,
        config=found.config.model_copy(update={"tokenizer": sized}),
        origins={**found.origins, SIZE_PATH: Origin("tokenizer")},
    )


def _types(folder: Path) -> Iterator[str]:
    """The names of all types of the tokenizer in a folder, with duplicates."""
    model, *configs = (folder / name for name in _FILES)
    tokenizer = json.loads(model.read_bytes())
    vocabulary = tokenizer["model"]["vocab"]
    yield from vocabulary if isinstance(vocabulary, dict) else (name for name, _ in vocabulary)
    yield from (added["content"] for added in tokenizer.get("added_tokens") or ())
    for settings in (json.loads(path.read_bytes()) for path in configs if path.is_file()):
        tokens = [
            *(settings.get("added_tokens_decoder") or {}).values(),
            *map(settings.get, _SPECIAL),
            *(settings.get("additional_special_tokens") or ()),
        ]
        yield from (one["content"] if isinstance(one, dict) else one for one in tokens if one)


def _in_hub_cache(name: str, *, download: bool = False) -> Path:
    """The folder of a tokenizer's files in the hub's cache, which the worker reads too.

    Raises:
        OSError, ValueError: there is none, or it can't be downloaded.
    """
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=[*_FILES], local_files_only=not download))
