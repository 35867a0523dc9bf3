"""Refuses a text that is shorter than a batch, with what it has and what is needed."""

from __future__ import annotations

from rnnlm_tui.contract.config import TrainingConfig
from rnnlm_tui.contract.corpora import CorpusManifest
from rnnlm_tui.contract.estimates import smallest_training_split
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.corpus.baseline import EVALUATED
from rnnlm_tui.errors import CorpusError


def check_bytes(size: int, training: TrainingConfig) -> None:
    """Refuse early, by its bytes, a text that can't fill a batch: no token is shorter than a byte.

    Raises:
        CorpusError: with what it has and what a batch needs.
    """
    wanted = smallest_training_split(training)
    if size < wanted:
        raise CorpusError(
            f"the text has {counted(size, 'byte')}, too short for a batch: {_need(training)}", hint="take more text, or lower training.batch_size"
        )


def check_length(manifest: CorpusManifest, training: TrainingConfig) -> None:
    """Refuse a corpus whose training split can't fill a batch, or whose other splits have nothing to predict.

    Raises:
        CorpusError: with what it has and what is needed.
    """
    train = manifest.splits["train"]
    have = train.tokens if training.data_mode == "stream" else train.sentences
    what = "token" if training.data_mode == "stream" else "sentence"
    if have < smallest_training_split(training):
        raise CorpusError(
            f"the training split has {counted(have, what)}, too short for a batch: {_need(training)}", hint="take more text, or lower training.batch_size"
        )
    for split in EVALUATED:
        if manifest.splits[split].tokens < 2:
            raise CorpusError(
                f"the {split} split has {counted(manifest.splits[split].tokens, 'token')}, it needs 2", hint=f"take more text, or raise corpus.{split}_fraction"
            )


def _need(training: TrainingConfig) -> str:
    if training.data_mode == "stream":
        return f"{counted(training.batch_size, 'stream')} need at least {counted(smallest_training_split(training), 'token')}"
    return f"a batch holds {counted(training.batch_size, 'sentence')}"
