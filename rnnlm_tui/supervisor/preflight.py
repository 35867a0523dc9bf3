"""What can be known to be wrong before a run is created: no such text, device or tokenizer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rnnlm_tui.contract.config import CorpusConfig, RunConfig, TokenizerConfig
from rnnlm_tui.corpus.sources import BUILT_IN, open_source
from rnnlm_tui.errors import CorpusError, DeviceError, TokenizerError
from rnnlm_tui.supervisor.gpu import GpuProbe

MAX_READ_BYTES = 8_000_000
"""The beginning of a user's text that is looked through: a tenth of a second. The worker reads the rest."""


def check_before_start(config: RunConfig) -> None:
    """Refuse a config that can't run here, so that no run is created for it. The worker checks all of it again, and more.

    Raises:
        DeviceError: the device is of a kind that this machine lacks.
        CorpusError: the source is missing, empty, no text, or shorter than one batch.
        TokenizerError: the tokenizer's folder is missing.
    """
    check_device(config.training.device)
    check_tokenizer(config.tokenizer)
    shortest = config.training.batch_size + 1 if config.training.data_mode == "stream" else 2
    check_corpus(config.corpus, shortest)


def check_device(device: str) -> None:
    """Raise DeviceError for cuda without any driver, or mps off a Mac."""
    if device.startswith("cuda") and not (GpuProbe().there or Path("/dev/kfd").exists()):
        raise DeviceError(f'no device "{device}" on this machine: no graphics driver is loaded', hint="training.device=auto takes the best there is")
    if device == "mps" and sys.platform != "darwin":
        raise DeviceError('no device "mps" on this machine: it is a Mac\'s', hint="training.device=auto takes the best there is")


def check_tokenizer(tokenizer: TokenizerConfig) -> None:
    """Raise TokenizerError where the name of a pretrained tokenizer is a path to nothing."""
    name = tokenizer.name or ""
    if tokenizer.kind == "pretrained" and name.startswith(("/", "./", "../", "~")) and not Path(name).expanduser().is_dir():
        raise TokenizerError(f"no tokenizer in {name}: there is no such folder", hint="a hub name has the form owner/name")


def check_corpus(corpus: CorpusConfig, shortest: int) -> None:
    """Raise CorpusError where the source can't be opened, its beginning is no text, or all of it is under `shortest` tokens."""
    source = open_source(corpus)
    if corpus.source in BUILT_IN and corpus.test_source is None:
        return
    read = 0

    def advance(count: int) -> None:
        nonlocal read
        read += count

    most_tokens = 0
    for document in source.documents(advance):
        if document.split == "test":
            continue
        for sentence in document.sentences:
            most_tokens += len(os.fsencode(sentence)) + 1  # a token covers a byte at least, and one ends the sentence
            if read > MAX_READ_BYTES:
                return
    if not most_tokens:
        raise CorpusError(f"{source.title} is empty: there is no text to train on", hint="a sentence is a line that is not empty")
    if most_tokens < shortest:
        raise CorpusError(
            f"{source.title} has {most_tokens:,} tokens at most, a batch needs {shortest:,}", hint="take a longer text or a smaller training.batch_size"
        )
