"""Services: what the app needs from store and client, in one class that tests can replace.

Every method blocks while disk or worker respond, so the app calls them in its own threads. Imports
wait for the first paint.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from rnnlm_tui.client.average import StagedAverage
    from rnnlm_tui.client.config_files import ReadConfig
    from rnnlm_tui.client.control import LiveWeights, LogFollower
    from rnnlm_tui.client.corpora import Preview
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.client.gpus import DeviceChoice
    from rnnlm_tui.client.listing import RunList
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.errors import InputError
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.corpora import CorpusManifest
    from rnnlm_tui.schema.metrics import CheckpointRow, SampleRow
    from rnnlm_tui.schema.protocol import CommandResult, StopMark, Verb
    from rnnlm_tui.schema.queue import QueuedRun
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.kept_samples import KeptSample, SampleExport
    from rnnlm_tui.store.labels import RunLabels
    from rnnlm_tui.store.manifest import Manifest
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.states import DeletedState, StateInfo
    from rnnlm_tui.store.trash import Trashed
    from rnnlm_tui.system.machine import MachineFacts, MachineReader
    from rnnlm_tui.system.processes import EndsAtLogout
    from rnnlm_tui.tui.checkpoint_services import CheckpointServices
    from rnnlm_tui.tui.queue_services import QueueServices
    from rnnlm_tui.tui.views.form import Draft, DraftParent


class Monitor(Protocol):
    """Follows one run."""

    def poll(self) -> RunSnapshot | None:
        """Return the run's current state, None if nothing has changed since the last call."""
        ...

    def look_at(self, steps: tuple[int, int] | None) -> None:
        """From the next `poll` on, read these steps at full resolution.

        None: only the whole run.
        """
        ...

    def close(self) -> None:
        """Close the run's files."""
        ...


LIST_PATIENCE = 0.25
"""Seconds after which the first read of the list shows the runs that it has."""


class Services:
    """The real services."""

    list_complete: bool = True
    """Whether the last `summaries` read all runs."""

    def __init__(self) -> None:
        self.report_read: Callable[[str, int, int], None] = lambda *_: None
        """Called, while a run's logs are read, with its name, the bytes that were read and those to
        read."""

    @cached_property
    def _list(self) -> RunList:
        from rnnlm_tui.client.listing import RunList

        return RunList(self.report_read)

    @cached_property
    def checkpoint_files(self) -> CheckpointServices:
        """The files of checkpoints: details, notes, the trash, exports."""
        from rnnlm_tui.tui.checkpoint_services import CheckpointServices

        return CheckpointServices()

    @cached_property
    def queue(self) -> QueueServices:
        """The queue of runs."""
        from rnnlm_tui.tui.queue_services import QueueServices

        return QueueServices()

    def monitor(self, run: RunDirectory) -> Monitor:
        """Return a monitor of one run; it must stay in the thread that asked for it."""
        from rnnlm_tui.client.monitor import RunMonitor

        return RunMonitor(run, report=partial(self.report_read, run.name))

    def summaries(self) -> list[RunSummary]:
        """Return the summaries of all runs, newest first.

        Of hundreds, the first call returns those that it can read in a moment: see `list_complete`.
        """
        self.list_complete = True  # after an error, the next read has time
        found = self._list.look(LIST_PATIENCE)
        self.list_complete = self._list.complete
        return found

    def machine(self) -> MachineFacts:
        """Return the facts about this machine, with what is free."""
        from rnnlm_tui.store.paths import home
        from rnnlm_tui.system.machine import describe_machine

        return describe_machine(home())

    def machine_reader(self) -> MachineReader:
        """Return a reader of this machine's load; it must stay in the thread that asked for it."""
        from rnnlm_tui.store.paths import home
        from rnnlm_tui.system.machine import MachineReader

        return MachineReader(home(), worker=False)

    def find(self, name: str) -> RunDirectory:
        """Return the run of that name; raises UnknownRunError if there is none."""
        from rnnlm_tui.store.runs import find_run

        return find_run(name)

    def start(self, config: RunConfig) -> RunDirectory:
        """Create a run and launch its worker.

        If the config can't run here, raises InputError and creates nothing.
        """
        from rnnlm_tui.client.start import start_run

        return start_run(config)

    def start_saved(self, run: RunDirectory) -> RunDirectory:
        """Launch the worker of a draft.

        If its config can't run here, raises InputError and starts nothing.
        """
        from rnnlm_tui.client.control import resume
        from rnnlm_tui.client.start import check_disk, check_draft_before_start

        check_draft_before_start(run)
        check_disk(run.read_config())
        resume(run)
        return run

    def trust_dataset(self, source: str) -> None:
        """Let a dataset of Python run from now on, with its files as they are."""
        from rnnlm_tui.client.start import trust_dataset

        trust_dataset(source)

    def preview(self, config: RunConfig) -> Preview | None:
        """Return the first lines of a config's text as tokens, None if not available yet.

        Raises CorpusError if it isn't text.
        """
        from rnnlm_tui.client.corpora import preview

        return preview(config)

    def token_preview(self, config: RunConfig, cancelled: Callable[[], bool]) -> Preview | None:
        """Return the first lines of a config's text, split by its tokenizer in a child process.

        None if cancelled. Raises CorpusError or TokenizerError if they can't be used.
        """
        from rnnlm_tui.client.corpora import token_preview

        return token_preview(config, cancelled)

    def warning_before_start(self, config: RunConfig) -> str | None:
        """Return a warning if this machine's memory is too small for the config, by estimate."""
        from rnnlm_tui.client.estimate import warning_before_start

        return warning_before_start(config)

    def ends_at_logout(self) -> EndsAtLogout | None:
        """Return why a run started here would end when the user logs out, None if it wouldn't."""
        from rnnlm_tui.system.processes import ends_at_logout

        return ends_at_logout()

    def send(self, run: RunDirectory, verb: Verb, **arguments: Any) -> CommandResult:
        """Send a command to the run's worker and return its answer.

        Raises WorkerError or RunStateError if refused.
        """
        from rnnlm_tui.client.control import send

        return send(run, verb, **arguments)

    def steering(self, run: RunDirectory) -> SteeringState:
        """Return what can be steered of a run, live or ended."""
        from rnnlm_tui.client.steering import read_steering

        return read_steering(run)

    def check_steering(self, run: RunDirectory) -> SteeringState:
        """Return what can be steered of a live run; raises RunStateError for another."""
        from rnnlm_tui.client.steering import check_live

        state = self.steering(run)
        check_live(state.summary)
        return state

    def steer(self, run: RunDirectory, changes: Mapping[str, JsonValue]) -> CommandResult:
        """Change settings of a live run, all or none.

        Raises ConfigError with the problems by field, or RunStateError if refused.
        """
        from rnnlm_tui.client.steering import steer

        return steer(run, changes)

    def undo_setting(self, run: RunDirectory) -> CommandResult:
        """Undo a live run's newest change of settings; raises RunStateError if there is none."""
        from rnnlm_tui.client.steering import undo

        return undo(run)

    def stop_after(self, run: RunDirectory, mark: StopMark | None) -> CommandResult:
        """Stop a live run after this epoch or the next evaluation; None cancels that."""
        from rnnlm_tui.client.steering import stop_after

        return stop_after(run, mark)

    def snapshot(self, run: RunDirectory) -> LiveWeights:
        """Make a running run's worker save its weights for sampling.

        Raises WorkerError or RunStateError if refused.
        """
        from rnnlm_tui.client.control import live_weights

        return live_weights(run, self.send(run, "snapshot"))

    def device_choice(self, run: RunDirectory, *, always: bool) -> DeviceChoice:
        """Return where a run can continue, and why not where it trained."""
        from rnnlm_tui.client.gpus import device_choice

        return device_choice(run, always=always)

    def resume(self, run: RunDirectory, device: str = "") -> str:
        """Resume a paused, stopped, crashed or failed run, on another device if one is given.

        Return from which step, and which damaged files were moved aside.
        """
        from rnnlm_tui.client.start import PendingResume

        resuming = PendingResume.of(run)
        resuming.start(device)
        return "; ".join(filter(None, (resuming.wait(), resuming.damaged_files())))

    def delete(self, run: RunDirectory) -> Trashed:
        """Move a run without a worker to the trash; raises RunStateError for another."""
        from rnnlm_tui.store.trash import delete_run

        return delete_run(run)

    def trash(self, run: RunDirectory | None = None) -> list[Trashed]:
        """Return all deleted runs, or the deleted checkpoints of a run; last deleted first."""
        from rnnlm_tui.store.trash import list_trash

        return list_trash(run)

    def restore(self, trashed: Trashed, name: str | None = None) -> RunDirectory:
        """Restore a deleted run, under another name if given.

        Raises RunNameError if the name is taken.
        """
        from rnnlm_tui.store.trash import restore_run

        return restore_run(trashed, name)

    def purge(self, trashed: Sequence[Trashed]) -> int:
        """Purge deleted runs or checkpoints and return the freed bytes."""
        from rnnlm_tui.store.trash import purge

        return purge(trashed)

    def rename(self, run: RunDirectory, name: str) -> RunDirectory:
        """Rename a run without a worker.

        Raises RunNameError for a taken or invalid name, RunStateError for another run.
        """
        from rnnlm_tui.store.runs import rename_run

        return rename_run(run, name)

    def label(
        self,
        run: RunDirectory,
        *,
        tags: tuple[str, ...] | None = None,
        note: str | None = None,
        pinned: bool | None = None,
    ) -> RunLabels:
        """Change a run's labels, also while it trains.

        None leaves a label unchanged; raises InputError for an invalid tag or note.
        """
        from dataclasses import replace

        from rnnlm_tui.store.labels import change_labels

        changes: dict[str, Any] = {
            name: value
            for name, value in (("tags", tags), ("note", note), ("pinned", pinned))
            if value is not None
        }
        return change_labels(run, lambda labels: replace(labels, **changes))

    def move_labels_aside(self, name: str) -> str:
        """Move a run's damaged labels aside.

        Return the file's new name, empty if they are usable.
        """
        from rnnlm_tui.store.labels import labels_file
        from rnnlm_tui.store.runs import find_run

        kept = labels_file(find_run(name)).move_damaged_aside()
        return kept.name if kept else ""

    def move_damaged_prompts_aside(self) -> str:
        """Move unreadable lines of the prompt history aside.

        Return a warning, empty if there are none.
        """
        from rnnlm_tui.store.state import prompt_history

        return prompt_history().move_damaged_aside()

    def configs(self, names: Sequence[str]) -> dict[str, RunConfig]:
        """Return the readable configs of runs by name, for a filter or sort that needs them."""
        return self._list.configs(names)

    def fork_config(self, parent: DraftParent) -> RunConfig:
        """Return the config that was in effect at a checkpoint, for a run that starts from it."""
        from rnnlm_tui.client.start import parent_at

        return parent_at(parent.address).config()

    def demo(self) -> RunConfig:
        """Return the demo's config, with another text if the extra `demo` isn't installed."""
        from rnnlm_tui.client.start import with_available_corpus
        from rnnlm_tui.schema.presets import DEMO

        return with_available_corpus(DEMO)

    def estimate(self, config: RunConfig) -> Estimate:
        """Estimate a config before anything runs."""
        from rnnlm_tui.client.estimate import estimate

        return estimate(config)

    def missing_source(self, config: RunConfig) -> InputError | None:
        """Return why the config's text isn't on this machine, by its name.

        None if it is, or will be downloaded.
        """
        from rnnlm_tui.client.start import check_source
        from rnnlm_tui.errors import CorpusError

        try:
            check_source(config.corpus)
        except CorpusError as error:
            return error
        return None

    def tokenizer_problem(self, config: RunConfig) -> InputError | None:
        """Return why the config's pretrained tokenizer can't be used, by its files.

        None if it can, or they are missing.
        """
        from rnnlm_tui.client.pretrained import check_tokenizer
        from rnnlm_tui.errors import TokenizerError

        try:
            check_tokenizer(config.tokenizer)
        except TokenizerError as error:
            return error
        return None

    def tokenizer_size(self, config: RunConfig) -> int | None:
        """Return the vocabulary size of the config's pretrained tokenizer, None if unknown."""
        from rnnlm_tui.client.pretrained import tokenizer_size

        return tokenizer_size(config.tokenizer)

    def sampler(self) -> SamplerClient:
        """Return a sampler that isn't started yet."""
        from rnnlm_tui.client.sampler import SamplerClient

        return SamplerClient(yields="computing")

    def create_draft(self, draft: Draft, name: str | None) -> RunDirectory:
        """Create the run that keeps a draft; its changes are still to be written.

        Raises RunNameError for a taken name, InputError if its parent is gone.
        """
        from rnnlm_tui.client.start import parent_at
        from rnnlm_tui.store.runs import create_run

        start = draft.parent
        parent = None if start is None else parent_at(start.address, start.optimizer)
        return create_run(draft.base, name, parent)

    def write_draft(self, run: RunDirectory, draft: Draft) -> None:
        """Write a draft, valid or not, into its run's folder.

        Raises RunStateError if the run was started.
        """
        from rnnlm_tui.schema.toml import toml_text, updated_toml
        from rnnlm_tui.schema.validation import merge
        from rnnlm_tui.store.runs import change_draft, with_absolute_paths
        from rnnlm_tui.tui.views.form import PATH_FIELDS, value_at

        nearest = draft.nearest_config()
        config = with_absolute_paths(nearest)
        for path in PATH_FIELDS:
            if draft.value(path) == value_at(nearest, path):
                draft = draft.with_value(path, value_at(config, path))
        raw = merge(draft.base, draft.changes)
        text = updated_toml(draft.document, raw) if draft.document else toml_text(raw)
        change_draft(run, config, text)

    def read_draft(self, run: RunDirectory) -> Draft:
        """Return the draft that a run keeps, as changes to its preset or its parent's config."""
        from rnnlm_tui.client.config_files import read_config_text
        from rnnlm_tui.schema.presets import PRESETS
        from rnnlm_tui.schema.toml import parse_toml
        from rnnlm_tui.schema.validation import config_to_raw
        from rnnlm_tui.store.lineage import parent_config, read_parent
        from rnnlm_tui.tui.views.form import Draft, DraftParent, with_values

        config, parent = run.read_config(), read_parent(run)
        path = run.draft_path if run.draft_path.exists() else run.config_path
        text = read_config_text(path)
        document = text if "#" in text else ""
        if parent is not None:
            start = DraftParent(parent.address, parent.optimizer)
            draft = Draft(parent_config(parent, config), parent.run, {}, start, document)
        elif config.preset in PRESETS:
            draft = Draft(PRESETS[config.preset], f"preset {config.preset}", document=document)
        else:
            draft = Draft(config, run.name, document=document)
        raw = config_to_raw(config) if path == run.config_path else parse_toml(text, path.name).raw
        return with_values(draft, raw)

    def add_to_queue(self, run: RunDirectory) -> QueuedRun:
        """Put a draft at the end of the queue; raises InputError if it can't run here."""
        from rnnlm_tui.client.start import check_draft_before_start

        check_draft_before_start(run)
        return self.queue.add_run(run)

    def average(self, addresses: Sequence[str]) -> StagedAverage:
        """Average the checkpoints and evaluate the mean; it then waits to be kept or discarded.

        Raises InputError if they don't fit together.
        """
        from rnnlm_tui.client.average import average_checkpoints, parts_at

        return average_checkpoints(parts_at(addresses), lambda _progress: None)

    def suggest_name(self) -> str:
        """Return a free name for a new run."""
        from rnnlm_tui.store.runs import suggest_name

        return suggest_name()

    def corpus(self, config: RunConfig) -> CorpusManifest | None:
        """Return a config's prepared corpus, None if it has to be built."""
        from rnnlm_tui.store.corpora import find_corpus

        return find_corpus(config.corpus, config.tokenizer)

    def checkpoints(self, run: RunDirectory) -> list[CheckpointRow]:
        """Return the checkpoints and averages that a run has now.

        Raises RnnlmError if they can't be read.
        """
        from rnnlm_tui.client.checkpoints import rows_on_disk

        return rows_on_disk(run)

    def manifest(self, checkpoint: Path) -> Manifest:
        """Return a checkpoint's manifest; raises CheckpointError if it can't be read."""
        from rnnlm_tui.store.manifest import read_manifest

        return read_manifest(checkpoint)

    def verify(self, checkpoint: Path) -> Manifest:
        """Check every file against its hash and return the manifest.

        Raises CheckpointError with the file.
        """
        from rnnlm_tui.store.manifest import verify_checkpoint

        return verify_checkpoint(checkpoint)

    def pin(self, run: RunDirectory, step: int, *, pinned: bool) -> None:
        """Pin or unpin a checkpoint; raises UnknownCheckpointError if it is gone."""
        from rnnlm_tui.store.labels import pin_checkpoint

        pin_checkpoint(run, step, pinned=pinned)

    def log(self, run: RunDirectory) -> LogFollower:
        """Return a follower of the worker's output, which hasn't read it yet."""
        from rnnlm_tui.client.control import LogFollower

        return LogFollower(run.log_path)

    def sample_steps(self, run: RunDirectory) -> list[int]:
        """Return the steps with samples, in order."""
        from rnnlm_tui.store.reader import RunReader

        with RunReader(run) as reader:
            return reader.sample_steps()

    def samples_at(self, run: RunDirectory, step: int) -> list[SampleRow]:
        """Return the samples of a step, newest first."""
        from rnnlm_tui.store.reader import RunReader

        with RunReader(run) as reader:
            return reader.samples_at(step)

    def history(self) -> list[str]:
        """Return the prompt history, oldest first."""
        from rnnlm_tui.store.state import prompt_history

        return [line.prompt for line in prompt_history().read()]

    def remember_prompt(self, prompt: str) -> None:
        """Add a prompt to the history."""
        from rnnlm_tui.store.state import append_history

        append_history(prompt)

    def keep_sample(self, sample: KeptSample) -> None:
        """Add a sample to the kept ones; raises StorageError if the file can't be written."""
        from rnnlm_tui.store.kept_samples import all_samples

        all_samples().append(sample)

    def find_samples(self, query: str = "", run: str | None = None) -> list[KeptSample]:
        """Return the kept samples, newest first, that have all words of the query.

        Raises StorageError if the file can't be read.
        """
        from rnnlm_tui.store.kept_samples import search

        return search(query, run)

    def delete_samples(self, ids: Iterable[str]) -> list[KeptSample]:
        """Delete kept samples and return them for `restore_samples`, newest first."""
        from rnnlm_tui.store.kept_samples import delete

        return delete(ids)

    def restore_samples(self, samples: Iterable[KeptSample]) -> None:
        """Put deleted samples back in their place."""
        from rnnlm_tui.store.kept_samples import restore

        restore(samples)

    def export_samples(self, samples: Sequence[KeptSample], format: SampleExport = "text") -> Path:
        """Write samples to a new file `samples.…` in the current directory.

        Return the path.
        """
        from rnnlm_tui.store.kept_samples import EXPORT_ENDINGS, export

        return self.save_text("samples", export(samples, format), EXPORT_ENDINGS[format])

    def move_damaged_samples_aside(self) -> str:
        """Move unreadable lines of the kept samples aside.

        Return a warning, empty if there are none.
        """
        from rnnlm_tui.store.kept_samples import all_samples

        return all_samples().move_damaged_aside()

    def kept_states(self) -> list[StateInfo]:
        """Return the kept states, newest first; a damaged one has its `problem`."""
        from rnnlm_tui.store.states import list_states

        return list_states()

    def new_state_path(self, name: str) -> Path:
        """Return the file for a new state; raises InputError for an invalid or taken name."""
        from rnnlm_tui.store.states import new_state_path

        return new_state_path(name)

    def free_state_name(self, wanted: str) -> str:
        """Return a valid name for a state that isn't taken."""
        from rnnlm_tui.store.states import free_state_name

        return free_state_name(wanted)

    def delete_state(self, name: str) -> DeletedState:
        """Delete a kept state and return it for `restore_state`."""
        from rnnlm_tui.store.states import delete_state

        return delete_state(name)

    def restore_state(self, deleted: DeletedState) -> None:
        """Write a deleted state again; raises InputError if a new one has its name."""
        from rnnlm_tui.store.states import restore_state

        restore_state(deleted)

    def copy_state(self, state: Path, path: str) -> Path:
        """Copy a state's file to a new file and return its path.

        Raises InputError if the file exists, StorageError if it can't be written.
        """
        from rnnlm_tui.schema.formatting import user_path
        from rnnlm_tui.store.states import SUFFIX, write_state_file
        from rnnlm_tui.system.files import storage_errors

        target = user_path(path).absolute()
        if target.is_dir() or path.endswith("/"):
            target = target / state.name
        elif not target.suffix:
            target = target.with_suffix(SUFFIX)
        with storage_errors("read", state):
            data = state.read_bytes()
        write_state_file(target, data)
        return target

    def read_config_file(self, path: Path) -> ReadConfig:
        """Read a config file with all its problems.

        Raises InputError if it can't be read, or isn't TOML (with the line).
        """
        from rnnlm_tui.client.config_files import parse_config_text, read_config_text

        return parse_config_text(read_config_text(path), path.name)

    def write_config_file(self, path: Path, text: str) -> None:
        """Write a config file; raises InputError or StorageError if it can't be written."""
        from rnnlm_tui.client.config_files import write_config_text

        write_config_text(path, text)

    def save_text(self, name: str, text: str, ending: str = ".txt") -> Path:
        """Write text to a new file in the current directory, never over another.

        Return the path.
        """
        from pathlib import Path

        from rnnlm_tui.errors import StorageError

        for number in range(1, 10_000):
            path = Path.cwd() / (f"{name}{ending}" if number == 1 else f"{name}-{number}{ending}")
            try:
                with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text)
            except FileExistsError:
                continue
            except OSError as error:
                raise StorageError(
                    f"can't write {path}: {error.strerror}",
                    hint="start rnnlm-tui in a writable folder",
                ) from error
            return path
        raise StorageError(f"{Path.cwd()} has 9,999 files named {name}-N{ending}")
