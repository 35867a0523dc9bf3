"""A run's parent: the checkpoint whose weights the run starts from, kept in the run's own folder.

`parent.json` says which checkpoint it was, and `parent/` has its weights and its tokenizer. A run
therefore starts, and restarts from step 0, without its parent, which may be renamed, pruned or
deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rnnlm_tui.errors import ConfigError, InputError, Problem, StorageError, UnknownCheckpointError
from rnnlm_tui.schema.cells import HEADED_CELLS
from rnnlm_tui.schema.config import ModelConfig
from rnnlm_tui.schema.lineage import CHANGED_FACT, OptimizerStart, Parent
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_checkpoint
from rnnlm_tui.store.paths import PARENT_NAME, RunDirectory, weights_name
from rnnlm_tui.system.files import (
    fsync_directory,
    link_or_copy,
    make_private_directory,
    storage_errors,
    write_text_atomically,
)
from rnnlm_tui.system.json_files import JsonFile

if TYPE_CHECKING:
    from pydantic import JsonValue

    from rnnlm_tui.schema.config import RunConfig


PARENT_FOLDER = "parent"
STATE_FILES: tuple[str, ...] = ("training_state.json", "training_state.safetensors")
"""The files of a checkpoint that only a resume and a kept optimizer state need."""
_MOST_BYTES = 1_000_000
"""Longer files are not read."""


class ParentCheckpoint(NamedTuple):
    """A checkpoint to start a new run from."""

    run: RunDirectory
    path: Path
    """The checkpoint's folder."""
    optimizer: OptimizerStart = "fresh"

    @property
    def checkpoint(self) -> str:
        """The step, or `average-1500`."""
        return weights_name(str(self.path))

    @property
    def address(self) -> str:
        """`plain-otter@1500`."""
        return f"{self.run.name}@{self.checkpoint}"

    def config(self) -> RunConfig:
        """The config in effect at the checkpoint: the run's, with what was changed while it trained
        until then.

        Raises:
            CheckpointError: the checkpoint's manifest is gone or damaged.
            StorageError: the run's config can't be read.
        """
        return config_at(self.run, read_manifest(self.path))


def config_at(run: RunDirectory, manifest: Manifest) -> RunConfig:
    """The config in effect at a run's checkpoint, from its manifest.

    Raises:
        StorageError: the run's config can't be read.
    """
    from rnnlm_tui.schema.steering import config_in_effect

    changed = manifest.facts.get(CHANGED_FACT, {})
    return config_in_effect(run.read_config(), changed if isinstance(changed, dict) else {})


def read_parent(run: RunDirectory) -> Parent | None:
    """A run's parent; None if it starts from initial weights.

    Raises:
        StorageError: `parent.json` can't be read.
    """
    parent, damage = _record_file(run).read()
    if damage:
        raise StorageError(
            f"{run.path / PARENT_NAME} is damaged, so the checkpoint that {run.name} starts from is"
            " unknown",
            hint="restore the file, or start a new run",
        )
    return parent


def _record_file(run: RunDirectory) -> JsonFile[Parent | None]:
    return JsonFile(run.path / PARENT_NAME, Parent, None, _MOST_BYTES)


def parent_config(parent: Parent, config: RunConfig) -> RunConfig:
    """The config in effect at a run's parent.

    Args:
        config: the run's own, from which `parent.changed` leads back.
    """
    from rnnlm_tui.schema.validation import merge, parse_config

    before = {path: value for path, (value, _) in parent.changed.items()}
    return parse_config(merge(config, before))


def record_changes(run: RunDirectory, before: RunConfig, after: RunConfig) -> None:
    """Say what another config of a draft changes from its parent's; nothing without a parent.

    Raises:
        StorageError: `parent.json` can't be read or written.
    """
    parent = read_parent(run)
    if parent is None:
        return
    changed = changed_fields(parent_config(parent, before), after)
    _record_file(run).write(parent.model_copy(update={"changed": changed}))


def take_parent(target: RunDirectory, parent: ParentCheckpoint, config: RunConfig) -> Parent:
    """Put a checkpoint's weights and tokenizer into a new run's folder, and say where from.

    The files are hard links where the disk has them: checkpoints are never changed in place, so
    they cost no space as long as the parent has them too.

    Args:
        config: the new run's.

    Raises:
        ConfigError: the weights or the vocabulary don't fit the config; names both sides.
        InputError: the optimizer's state can't be kept.
        UnknownCheckpointError: the checkpoint is gone.
        CheckpointError: it is damaged or of another kind.
        StorageError: the files can't be written.
    """
    check_fits(config, parent)
    manifest = read_manifest(parent.path)
    folder = target.path / PARENT_FOLDER
    files = {
        name: facts
        for name, facts in manifest.files.items()
        if name not in STATE_FILES or parent.optimizer == "keep"
    }
    kept = manifest.model_copy(
        update={"files": files, "kind": manifest.kind if parent.optimizer == "keep" else "snapshot"}
    )
    make_private_directory(folder, parents=False)
    with storage_errors("copy the weights to", folder):
        try:
            for name in files:
                link_or_copy(parent.path / name, folder / name)
        except FileNotFoundError:
            raise _gone(parent) from None
        fsync_directory(folder)
    write_text_atomically(folder / MANIFEST_NAME, kept.text())
    verify_checkpoint(folder)
    record = _record(parent, manifest, config)
    _record_file(target).write(record)
    return record


def check_fits(config: RunConfig, parent: ParentCheckpoint) -> None:
    """Check that a checkpoint's weights and vocabulary fit a config, and its optimizer's state.

    Untied weights start as two copies of a tied matrix; nothing else changes a shape.

    Raises:
        ConfigError: every field that doesn't fit, with both values.
        InputError: the optimizer's state can't be kept.
        UnknownCheckpointError: the checkpoint is gone.
        StorageError: the parent's config can't be read.
    """
    if not parent.path.is_dir():
        raise _gone(parent)
    before = parent.run.read_config()
    if problems := list(_problems(config, before)):
        raise ConfigError(problems)
    if parent.optimizer == "keep":
        _check_optimizer(config, before, parent)


def changed_fields(before: RunConfig, after: RunConfig) -> dict[str, tuple[JsonValue, JsonValue]]:
    """The fields that differ, by dotted path, with both values; None: empty."""
    from rnnlm_tui.schema.steering import settings_of
    from rnnlm_tui.schema.validation import field_paths

    return {one.path: (one.old, one.new) for one in settings_of(before, after, field_paths())}


def _record(parent: ParentCheckpoint, manifest: Manifest, config: RunConfig) -> Parent:
    corpus = manifest.facts.get("corpus_hash")
    return Parent(
        run=parent.run.name,
        checkpoint=parent.checkpoint,
        step=manifest.step,
        hash=manifest.checksum,
        created=parent.run.created(),
        optimizer=parent.optimizer,
        validation_loss=manifest.number("validation_loss"),
        corpus_hash=corpus if isinstance(corpus, str) else None,
        changed=changed_fields(config_at(parent.run, manifest), config),
    )


def _gone(parent: ParentCheckpoint) -> UnknownCheckpointError:
    return UnknownCheckpointError(
        f"{parent.address} is gone: it was deleted or pruned since it was chosen",
        hint=f"`rnnlm-tui checkpoints {parent.run.name}` lists what is left",
    )


_SHAPES = ("cell_type", "embedding_dim", "hidden_size", "num_layers", "num_heads")
"""Fields of a model that decide its weights' shapes."""
KEPT_BY_FORKS = ("tokenizer.", "model.tie_weights", *(f"model.{name}" for name in _SHAPES))
"""Beginnings of the fields in which a fork can't differ from its checkpoint."""


def _problems(wanted: RunConfig, trained: RunConfig) -> Iterator[Problem]:
    """The fields in which a config doesn't fit its checkpoint, with both values."""
    from rnnlm_tui.schema.corpora import unused_tokenizer_fields

    unused = unused_tokenizer_fields(trained.tokenizer)
    if not {wanted.model.cell_type, trained.model.cell_type}.intersection(HEADED_CELLS):
        unused.add("num_heads")
    hints = {
        "tokenizer": f"its vocabulary is {trained.tokenizer.kind}, and the new run keeps it;"
        " another vocabulary needs a run from initial weights",
        "model": f"weights: {_shape(trained.model)}, config: {_shape(wanted.model)};"
        " another shape needs a run from initial weights",
    }
    for path, (old, new) in changed_fields(trained, wanted).items():
        section, _, name = path.partition(".")
        if path.startswith(KEPT_BY_FORKS) and name not in {*unused, "tie_weights"}:
            text = f"is {new!r}, but the checkpoint was trained with {old!r}"
            yield Problem(path, text, hints[section])
    if wanted.model.tie_weights and not trained.model.tie_weights:
        yield Problem(
            "model.tie_weights",
            "is True, but the checkpoint has separate matrices for embedding and output",
            "only the other way is possible: tied weights can be separated",
        )


def _shape(model: ModelConfig) -> str:
    """`lstm 2 × 192, embedding 128`."""
    heads = f", {model.num_heads} heads" if model.cell_type in HEADED_CELLS else ""
    return (
        f"{model.cell_type} {model.num_layers} × {model.hidden_size},"
        f" embedding {model.embedding_dim}{heads}"
    )


def _check_optimizer(config: RunConfig, before: RunConfig, parent: ParentCheckpoint) -> None:
    """Raise InputError if the optimizer's state of the checkpoint can't be kept."""
    hint = "start with a fresh optimizer: --optimizer fresh"
    if not all((parent.path / name).is_file() for name in STATE_FILES):
        raise InputError(
            f"{parent.address} has weights only: no optimizer state to keep", hint=hint
        )
    wanted, trained = config.optimizer.algorithm, before.optimizer.algorithm
    if wanted != trained:
        raise InputError(
            f"the optimizer's state can't be kept: it is of {trained}, the config has {wanted}",
            hint=hint,
        )
    if before.model.tie_weights != config.model.tie_weights:
        raise InputError(
            "the optimizer's state can't be kept: it has one state for the tied matrix, the config"
            " has two matrices",
            hint=hint,
        )
