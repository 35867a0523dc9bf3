"""`train --from RUN@CHECKPOINT`: where the weights come from, and what they allow to change."""

from __future__ import annotations

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.validation import config_to_raw
from rnnlm_tui.errors import ConfigError, Problem

FREE: frozenset[str] = frozenset(
    {
        "corpus.url",
        "model.dropout",
        "model.variational_dropout",
        "model.embedding_dropout",
        "model.weight_dropout",
        "model.initialization",
        "model.init_scale",
    }
)
"""Fields of the compared sections that say nothing of the shape of the weights or of the vocabulary."""


def config_of_parent(address: str) -> tuple[str, RunConfig]:
    """The address with the run's full name and the checkpoint's step, and that run's config; the default is the best checkpoint.

    Raises:
        UnknownRunError, UnknownCheckpointError: no such run or checkpoint.
        CheckpointError: a checkpoint that is damaged.
    """
    from rnnlm_tui.cli.sample import checkpoint_path, split_address
    from rnnlm_tui.store.checkpoints import verify_checkpoint

    directory, which = split_address(address)
    path = checkpoint_path(directory, which)
    verify_checkpoint(path)
    return f"{directory.name}@{int(path.name.rpartition('-')[2])}", directory.read_config()


def check_fits_parent(config: RunConfig, parent: RunConfig) -> None:
    """Raise ConfigError, naming every field, where the parent's weights and vocabulary can't serve the config."""
    sections = ("model", "tokenizer") if parent.tokenizer.kind in ("byte", "pretrained") else ("model", "tokenizer", "corpus")
    problems = []
    for section in sections:
        wanted, had = _values(config, section), _values(parent, section)
        for name in sorted({*wanted, *had}):
            path = f"{section}.{name}"
            if path not in FREE and wanted.get(name) != had.get(name):
                problems.append(
                    Problem(path, f"is {wanted.get(name)!r}, the checkpoint was trained with {had.get(name)!r}", "a new run without --from can have it")
                )
    if problems:
        raise ConfigError(problems)


def _values(config: RunConfig, section: str) -> dict[str, object]:
    values = config_to_raw(config)[section]
    return dict(values) if isinstance(values, dict) else {}
