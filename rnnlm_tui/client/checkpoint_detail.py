"""One checkpoint in detail: its files, its place in the training, its settings and its tensors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui import store
from rnnlm_tui.client.checkpoints import short_problem
from rnnlm_tui.errors import StorageError
from rnnlm_tui.system.files import read_at_most

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import CheckpointRow, SampleRow
    from rnnlm_tui.schema.protocol import Setting
    from rnnlm_tui.schema.steering import JournalledChange
    from rnnlm_tui.store.manifest import Manifest, ManifestFile
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.tensors import TensorInfo

MODEL_NAME = "model.safetensors"
STATE_NAME = "training_state.json"
FIRST_FILES = (MODEL_NAME, "training_state.safetensors", STATE_NAME)
"""The files that matter most, in the order in which they are listed."""
_MOST_STATE_BYTES = 4_000_000
"""A longer training state isn't read for the detail."""


@dataclass(frozen=True, slots=True)
class CheckpointDetail:
    """What is known about a checkpoint beside its row in the list."""

    step: int
    path: str
    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    """Of its manifest by name, the most important first."""
    changes: tuple[Setting, ...] = ()
    """What `set` had changed since the run started."""
    changed_at: Mapping[str, int] = field(default_factory=dict)
    """The steps at which that was changed, by path, as far as they are known."""
    parent: str = ""
    """`plain-otter@1500` if the run is a fork."""
    parent_changes: tuple[Setting, ...] = ()
    """What the fork changed in its parent's config."""
    position: str = ""
    """Where a run resumes: `step 3,700, token 104,960 of epoch 7`."""
    random_state: str = ""
    """`saved, continues bit for bit`."""
    written_by: str = ""
    """`rnnlm-tui 0.1, torch 2.13, gpu1`."""
    tensors: tuple[TensorInfo, ...] = ()
    """Of the model, in the order of the file."""
    tensor_problem: str = ""
    """Why the header of the weights can't be read."""
    before: str = ""
    """Folder of the checkpoint with which the weights are compared; empty: there is none."""
    before_name: str = ""
    """`step 3,500`, or the parent's address."""
    verified: float | None = None
    """Unix seconds when all hashes were last checked; None if not checked in this session."""
    damage: str = ""
    """What is wrong with the checkpoint, in one sentence."""


@dataclass(frozen=True, slots=True)
class FoundSamples:
    """The samples of a step, and one of an earlier step for contrast."""

    samples: tuple[SampleRow, ...] = ()
    """In the order in which they were written."""
    step: int = 0
    """The step of the samples: the checkpoint's, or the nearest before it."""
    earlier: SampleRow | None = None
    """The first sample's prompt, continued much earlier."""


def read_detail(
    run: RunDirectory,
    row: CheckpointRow,
    *,
    others: Iterable[CheckpointRow] = (),
    journal: Sequence[JournalledChange] = (),
) -> CheckpointDetail:
    """Read a checkpoint's manifest, training state and header; a damaged one says so in `damage`.

    Args:
        others: the run's checkpoints, to compare with the one before.
        journal: the run's changes of settings, which say at which step they were made.

    Raises:
        StorageError: the run's config can't be read.
    """
    # after the app's first paint
    from rnnlm_tui.schema.protocol import Setting
    from rnnlm_tui.schema.steering import kept_changes, settings_of
    from rnnlm_tui.store.lineage import PARENT_FOLDER, config_at, read_parent
    from rnnlm_tui.store.manifest import read_manifest
    from rnnlm_tui.store.tensors import read_header

    folder = run.path / row.path
    try:
        manifest = read_manifest(folder)
    except (StorageError, OSError) as error:
        message = error.message if isinstance(error, StorageError) else str(error)
        return CheckpointDetail(row.step, str(folder), damage=short_problem(message, folder))
    try:
        (_, tensors), problem = read_header(folder / MODEL_NAME), ""
    except StorageError as error:
        tensors, problem = (), short_problem(error.message, folder)
    parent = None
    with suppress(StorageError):
        parent = read_parent(run)
    before = before_name = ""
    if earlier := [other for other in others if other.step < row.step]:
        nearest = max(earlier, key=lambda other: other.step)
        before, before_name = str(run.path / nearest.path), f"step {nearest.step:,}"
    elif parent is not None and (run.path / PARENT_FOLDER / MODEL_NAME).is_file():
        before, before_name = str(run.path / PARENT_FOLDER), parent.address
    changes = settings_of(run.read_config(), config_at(run, manifest))
    made = {(one.path, one.new) for one in changes}
    files = manifest.files
    names = [name for name in FIRST_FILES if name in files]
    return CheckpointDetail(
        step=row.step,
        path=str(folder),
        files={name: files[name] for name in dict.fromkeys((*names, *sorted(files)))},
        changes=changes,
        changed_at={
            one.path: change.step
            for change in kept_changes(journal)
            if change.step <= row.step
            for one in change.settings
            if (one.path, one.new) in made
        },
        parent="" if parent is None else parent.address,
        parent_changes=tuple(
            Setting(path=path, old=old, new=new)
            for path, (old, new) in ({} if parent is None else parent.changed).items()
        ),
        position=_position(folder, row),
        random_state=_random_state(manifest),
        written_by=_written_by(manifest),
        tensors=tensors,
        tensor_problem=problem,
        before=before,
        before_name=before_name,
        damage=problem,
    )


def read_samples(run: RunDirectory, step: int) -> FoundSamples:
    """Read the samples of a step or of the nearest before it, and one to contrast it with.

    The best contrast is near a quarter of its step: the text is readable and still much worse.
    """
    with store.reader.RunReader(run) as reader:
        known = sorted(other for other in reader.sample_steps() if other <= step)
        if not known:
            return FoundSamples()
        newest = sorted(reader.samples_at(known[-1]), key=lambda sample: sample.time)
        chosen = {sample.prompt: sample for sample in newest}
        first = next(iter(chosen), None)
        before = sorted(known[:-1], key=lambda other: abs(other - known[-1] / 4))[:3]
        rows = (row for other in before for row in reader.samples_at(other) if row.prompt == first)
        return FoundSamples(tuple(chosen.values()), known[-1], next(rows, None))


def _position(folder: Path, row: CheckpointRow) -> str:
    """Where training continues; without a readable state, its epoch."""
    place = f"epoch {row.epoch:.1f}"
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        state = json.loads(read_at_most(folder / STATE_NAME, _MOST_STATE_BYTES))
        epoch, index, data = int(state["epoch"]), int(state["index"]), state["data"]
        batch = int(data["batch_size"])
        if data["data_mode"] == "stream":
            place = f"token {index * batch * int(data['bptt']):,} of epoch {epoch + 1:,}"
        else:
            place = f"sentence {index * batch:,} of epoch {epoch + 1:,}"
    return f"step {row.step:,}, {place}"


def _random_state(manifest: Manifest) -> str:
    if STATE_NAME not in manifest.files:
        return "not saved: weights only"
    environment = manifest.facts.get("environment")
    exact = isinstance(environment, dict) and environment.get("deterministic") is True
    return "saved, continues bit for bit" if exact else "saved, continues within rounding"


def _written_by(manifest: Manifest) -> str:
    environment = manifest.facts.get("environment")
    known: dict[str, str] = dict(manifest.versions)
    if isinstance(environment, dict):
        known |= {name: str(value) for name, value in environment.items() if value}
    parts = [
        f"{label}{known[name].partition('+')[0]}"
        for name, label in (("rnnlm_tui", "rnnlm-tui "), ("torch", "torch "))
        if name in known
    ]
    return ", ".join([*parts, *(known[name] for name in ("device", "host") if name in known)])
