"""Read the book's state dict (.pth) and write it as the model files of a checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.tokenizers import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, build_tokenizer
from rnnlm_tui.engine.book import book_model, plain_logits, read_state_dict
from rnnlm_tui.engine.checkpoint import GENERATION_NAME, load_model, write_model
from rnnlm_tui.errors import TokenizerError, WorkerError
from rnnlm_tui.schema.config import DataMode, TokenizerConfig
from rnnlm_tui.schema.exports import (
    CHECKED_TOKENS,
    GREEDY_TOKENS,
    LOGIT_TOLERANCE,
    MARKER_NAME,
    ImportDone,
    ImportRequest,
)
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.system.files import read_at_most, storage_errors
from rnnlm_tui.worker.checkpointing import CONTEXT_LENGTH_KEY, DATA_MODE_KEY
from rnnlm_tui.worker.models import read_data_mode

MOST_CONFIG_BYTES = 16 * 2**20
"""A longer file isn't a tokenizer's config."""


def import_state_dict(request: ImportRequest, report: Callable[[str], None]) -> ImportDone:
    """Write the model and tokenizer files of a state dict into the request's folder.

    Raises:
        CheckpointError: the file isn't a state dict of the book's model.
        TokenizerError: the tokenizer can't be loaded, or has another size.
    """
    report("loading")
    file, folder = Path(request.file), Path(request.target)
    with storage_errors("read", file):
        tensors = read_state_dict(file)
    report("writing")
    vocab_size, width = tensors["embedding.weight"].shape
    with (
        storage_errors("write", folder),
        tempfile.TemporaryDirectory(dir=folder.parent) as place,
    ):
        data_mode, context_length = _data_mode(file.parent)
        kind = _tokenizer_files(request.tokenizer, vocab_size, Path(place))
        codec = TextCodec(Path(place))
        model = book_model(tensors, codec.pad_id)
        generation = {
            "do_sample": False,
            "max_new_tokens": GREEDY_TOKENS,
            DATA_MODE_KEY: data_mode,
            CONTEXT_LENGTH_KEY: context_length,
        }
        write_model(folder, model, Path(place), generation=generation)
    report("checking")
    ids = torch.randint(vocab_size, (CHECKED_TOKENS,), generator=torch.Generator().manual_seed(1))
    loaded = load_model(folder)
    with torch.no_grad():
        ours, _ = loaded(ids[None], loaded.initial_state(1))
    difference = float((plain_logits(tensors, ids.tolist()) - ours[0]).abs().max())
    if not difference <= LOGIT_TOLERANCE * max(1.0, float(ours.abs().max())):
        raise WorkerError(f"the imported model differs from the file, a logit by {difference:.1e}")
    return ImportDone(
        vocab_size=vocab_size,
        width=width,
        num_layers=model.num_layers,
        parameters=model.num_parameters(),
        tokenizer_kind=kind,
        end_of_sentence=codec.eos_id is not None,
        layout=codec.layout,
        data_mode=data_mode,
        context_length=context_length,
        logits_compared=ours.numel(),
        largest_difference=difference,
    )


def _data_mode(folder: Path) -> tuple[DataMode, int]:
    """The data mode and longest sentence of a model that was exported into a folder; those of the
    book for any other."""
    length = PRESETS["book"].training.context_length
    if not (folder / MARKER_NAME).is_file() or not (folder / GENERATION_NAME).is_file():
        return "sentences", length
    data_mode, known = read_data_mode(folder)
    return data_mode, known or length


def _tokenizer_files(name: str, vocab_size: int, folder: Path) -> str:
    """Write the tokenizer as for the book's text (digits masked), or copy ours; returns its kind.

    Raises:
        TokenizerError: it can't be loaded, or its size isn't `vocab_size`.
    """
    own = user_path(name)
    if "rnnlm_kind" in _tokenizer_config(own / TOKENIZER_CONFIG_NAME):
        codec = TextCodec(own)
        if codec.vocab_size != vocab_size:
            raise TokenizerError(
                f"the tokenizer in {own} has {codec.vocab_size:,} types, the model {vocab_size:,}",
                hint="use the tokenizer that the model was trained with",
            )
        for part in (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME):
            shutil.copyfile(own / part, folder / part)
        return codec.kind
    config = TokenizerConfig(
        kind="pretrained", name=name, vocab_size=vocab_size, end_of_sentence=False
    )
    corpus = PRESETS["book"].corpus
    built = build_tokenizer(config, corpus, lambda: iter(()), size=0, tokenized=None)
    built.save(folder, "\n")
    return "pretrained"


def _tokenizer_config(path: Path) -> dict[str, object]:
    """The settings of a tokenizer; empty if it has none, or is one of the hub.

    Raises:
        TokenizerError: they can't be read.
    """
    if not path.is_file():
        return {}
    try:
        return TypeAdapter(dict[str, object]).validate_json(read_at_most(path, MOST_CONFIG_BYTES))
    except OSError as error:
        raise TokenizerError(f"can't read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise TokenizerError(
            f"{path} is not a JSON object: {error.errors()[0]['msg']}",
            hint="use a folder with the tokenizer's own files",
        ) from error
