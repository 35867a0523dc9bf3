"""`train --from RUN@CHECKPOINT`: find the parent checkpoint and check that the config fits it."""

from __future__ import annotations

from rnnlm_tui.cli.arguments import checkpoint_path, split_address
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
"""Fields that may differ from the parent: they affect neither weight shapes nor vocabulary."""


def config_of_parent(address: str) -> tuple[str, RunConfig]:
    """Return the full address `RUN@STEP` and the run's config; the default is the best checkpoint.

    Raises:
        UnknownRunError, UnknownCheckpointError: no such run or checkpoint.
        CheckpointError: the checkpoint is damaged.
    """
    from rnnlm_tui.store.checkpoints import verify_checkpoint

    directory, which = split_address(address)
    path = checkpoint_path(directory, which)
    verify_checkpoint(path)
    return f"{directory.name}@{int(path.name.rpartition('-')[2])}", directory.read_config()


def check_fits_parent(config: RunConfig, parent: RunConfig) -> None:
    """Raise ConfigError if the config doesn't fit the parent's weights and vocabulary."""
    sections = ("model", "tokenizer") if parent.tokenizer.kind in ("byte", "pretrained") else ("model", "tokenizer", "corpus")
    problems = []
    for section in sections:
        wanted, trained = _values(config, section), _values(parent, section)
        for name in sorted({*wanted, *trained}):
            path = f"{section}.{name}"
            if path not in FREE and wanted.get(name) != trained.get(name):
                problems.append(
                    Problem(
                        path, f"is {wanted.get(name)!r}, but the checkpoint was trained with {trained.get(name)!r}", "start a run without --from to change it"
                    )
                )
    if problems:
        raise ConfigError(problems)


def _values(config: RunConfig, section: str) -> dict[str, object]:
    values = config_to_raw(config)[section]
    return dict(values) if isinstance(values, dict) else {}
