"""What the app asks of store and supervisor, in one place: tests put a fake here, and imports wait for the first paint.

Every method blocks for as long as disk or worker need, so the app calls them in threads.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rnnlm_tui.contract.commands import CommandResult, Verb
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.corpora import CorpusManifest
    from rnnlm_tui.contract.metrics import SampleRow
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.errors import InputError, Problem
    from rnnlm_tui.store.labels import RunLabels
    from rnnlm_tui.store.manifest import Manifest
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.store.trash import TrashedRun
    from rnnlm_tui.supervisor.estimate import Estimate
    from rnnlm_tui.supervisor.listing import RunList
    from rnnlm_tui.supervisor.login import EndsAtLogout
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.machine_reader import MachineReader
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.supervisor.preview import Preview
    from rnnlm_tui.supervisor.sampler_client import SamplerClient
    from rnnlm_tui.supervisor.worker_log import LogFollower


class Monitor(Protocol):
    """What is new in one run."""

    def poll(self) -> RunSnapshot | None:
        """The run as it is now; None when nothing changed since the last call."""
        ...

    def look_at(self, steps: tuple[int, int] | None) -> None:
        """From the next `poll` on, read these steps as fine as they lie; None: the whole run alone."""
        ...

    def close(self) -> None:
        """Let go of the run's files."""
        ...


LIST_PATIENCE = 0.25
"""Seconds after which a list that was never read whole shows what it has."""


class Services:
    """The real ones."""

    list_complete: bool = True
    """Whether `summaries` left no run for its next call."""

    @cached_property
    def _list(self) -> RunList:
        from rnnlm_tui.supervisor.listing import RunList

        return RunList()

    def monitor(self, run: RunDirectory) -> Monitor:
        """A monitor of one run; it must stay in the thread that asked for it."""
        from rnnlm_tui.supervisor.monitor import RunMonitor

        return RunMonitor(run)

    def summaries(self) -> list[RunSummary]:
        """All runs in figures, newest first; the first time, of hundreds, those that a moment is enough for: `list_complete` tells."""
        self.list_complete = True  # whatever goes wrong, the next look has time
        found = self._list.look(LIST_PATIENCE)
        self.list_complete = self._list.complete
        return found

    def machine(self) -> MachineFacts:
        """What this machine is and has free."""
        from rnnlm_tui.store.locations import home
        from rnnlm_tui.supervisor.machine import describe_machine

        return describe_machine(home())

    def machine_reader(self) -> MachineReader:
        """What reads how busy this machine is; it must stay in the thread that asked for it."""
        from rnnlm_tui.store.locations import home
        from rnnlm_tui.supervisor.machine_reader import MachineReader

        return MachineReader(home(), worker=False)

    def find(self, name: str) -> RunDirectory:
        """The run of that name; UnknownRunError when it is gone."""
        from rnnlm_tui.store.runs import find_run

        return find_run(name)

    def start(self, config: RunConfig, name: str | None) -> RunDirectory:
        """Create a run and launch its worker; InputError where the config can't run here, and then there is no run."""
        from rnnlm_tui.supervisor.start import start_run

        return start_run(config, name)

    def start_saved(self, run: RunDirectory) -> RunDirectory:
        """Launch the worker of a run that was saved and never started; InputError where its config can't run here, and then nothing was started."""
        from rnnlm_tui.supervisor.control_client import resume
        from rnnlm_tui.supervisor.preflight import check_before_start

        check_before_start(run.read_config())
        resume(run)
        return run

    def preview(self, config: RunConfig) -> Preview | None:
        """The first lines of a config's text as tokens, None if the text isn't available yet; raises CorpusError if it isn't text."""
        from rnnlm_tui.supervisor.preview import preview

        return preview(config)

    def warning_before_start(self, config: RunConfig) -> str | None:
        """That this machine's memory is too small for a run of this config, by estimate; None where it fits."""
        from rnnlm_tui.supervisor.estimate import warning_before_start

        return warning_before_start(config)

    def ends_at_logout(self) -> EndsAtLogout | None:
        """Why a run that is started here would end when its user logs out; None where it goes on."""
        from rnnlm_tui.supervisor.login import ends_at_logout

        return ends_at_logout()

    def send(self, run: RunDirectory, verb: Verb, **arguments: Any) -> CommandResult:
        """One command to the run's worker, answered after it acted; WorkerError or RunStateError when refused."""
        from rnnlm_tui.supervisor.control_client import send

        return send(run, verb, **arguments)

    def resume(self, run: RunDirectory) -> str:
        """Go on with a paused, stopped, crashed or failed run: from which step, and what was put aside as damaged."""
        from rnnlm_tui.supervisor.resuming import PendingResume

        resuming = PendingResume.of(run)
        resuming.start()
        return "; ".join(filter(None, (resuming.wait(), resuming.damaged_files())))

    def delete(self, run: RunDirectory) -> TrashedRun:
        """Move a run that nobody trains to the trash; RunStateError for a living one."""
        from rnnlm_tui.store.trash import delete_run

        return delete_run(run)

    def trash(self) -> list[TrashedRun]:
        """Every deleted run, the one deleted last first."""
        from rnnlm_tui.store.trash import list_trash

        return list_trash()

    def restore(self, trashed: TrashedRun, name: str | None = None) -> RunDirectory:
        """Put a deleted run back, under another name if one is given; RunNameError where a run has the name by now."""
        from rnnlm_tui.store.trash import restore_run

        return restore_run(trashed, name)

    def purge(self, trashed: TrashedRun) -> int:
        """Remove a deleted run for good; the bytes that this freed."""
        from rnnlm_tui.store.trash import purge

        return purge(trashed)

    def rename(self, run: RunDirectory, name: str) -> RunDirectory:
        """Give a run that nobody trains another name; RunNameError for one that is taken or impossible, RunStateError for a living run."""
        from rnnlm_tui.store.runs import rename_run

        return rename_run(run, name)

    def label(self, run: RunDirectory, *, tags: tuple[str, ...] | None = None, note: str | None = None, pinned: bool | None = None) -> RunLabels:
        """Change what a person says of a run, a living one too; None leaves that as it is. InputError for a tag or a note that can't be one."""
        from dataclasses import replace

        from rnnlm_tui.store.labels import change_labels

        changes: dict[str, Any] = {name: value for name, value in (("tags", tags), ("note", note), ("pinned", pinned)) if value is not None}
        return change_labels(run, lambda labels: replace(labels, **changes))

    def move_labels_aside(self, name: str) -> str:
        """Move a run's damaged labels aside; the file's new name, empty if they are usable after all."""
        from rnnlm_tui.store.labels import move_labels_aside
        from rnnlm_tui.store.runs import find_run

        return move_labels_aside(find_run(name))

    def move_damaged_prompts_aside(self) -> str:
        """Move unreadable lines of the prompt history aside; a warning about them, empty if there are none."""
        from rnnlm_tui.store.state import move_damaged_prompts_aside

        return move_damaged_prompts_aside()

    def configs(self, names: Sequence[str]) -> dict[str, RunConfig]:
        """The configs of runs by name, for a filter or an order that wants them; a run whose config can't be read is left out."""
        return self._list.configs(names)

    def demo(self) -> RunConfig:
        """The demo as it can run here: on another text where the extra `demo` is not installed."""
        from rnnlm_tui.contract.presets import DEMO
        from rnnlm_tui.supervisor.preflight import with_available_corpus

        return with_available_corpus(DEMO)

    def estimate(self, config: RunConfig) -> Estimate:
        """What a config gives before anything runs."""
        from rnnlm_tui.supervisor.estimate import estimate

        return estimate(config)

    def missing_source(self, config: RunConfig) -> InputError | None:
        """Why the config's text can't be found on this machine, as its name alone tells; None where it can, or will be fetched."""
        from rnnlm_tui.errors import CorpusError
        from rnnlm_tui.supervisor.preflight import check_source

        try:
            check_source(config.corpus)
        except CorpusError as error:
            return error
        return None

    def tokenizer_problem(self, config: RunConfig) -> InputError | None:
        """Why the config's pretrained tokenizer can't be used, judged by its files; None if it can, or if the files are missing."""
        from rnnlm_tui.errors import TokenizerError
        from rnnlm_tui.supervisor.preflight import check_tokenizer

        try:
            check_tokenizer(config.tokenizer)
        except TokenizerError as error:
            return error
        return None

    def tokenizer_size(self, config: RunConfig) -> int | None:
        """Vocabulary size of the config's pretrained tokenizer; None if unknown."""
        from rnnlm_tui.supervisor.tokenizer_size import tokenizer_size

        return tokenizer_size(config.tokenizer)

    def sampler(self) -> SamplerClient:
        """A sampler that is not started yet."""
        from rnnlm_tui.supervisor.sampler_client import SamplerClient

        return SamplerClient()

    def create(self, config: RunConfig, name: str | None) -> RunDirectory:
        """Create a run and start nothing: a draft."""
        from rnnlm_tui.store.runs import create_run

        return create_run(config, name)

    def suggest_name(self) -> str:
        """A free name for a new run."""
        from rnnlm_tui.store.runs import suggest_name

        return suggest_name()

    def corpus(self, config: RunConfig) -> CorpusManifest | None:
        """The prepared corpus of a config; None where it is still to be built."""
        from rnnlm_tui.store.corpora import find_corpus

        return find_corpus(config.corpus, config.tokenizer)

    def manifest(self, checkpoint: Path) -> Manifest:
        """What a checkpoint says of itself; CheckpointError when it can't be read."""
        from rnnlm_tui.store.manifest import read_manifest

        return read_manifest(checkpoint)

    def verify(self, checkpoint: Path) -> Manifest:
        """The same after every file was checked against its hash; CheckpointError that names the file."""
        from rnnlm_tui.store.manifest import verify_checkpoint

        return verify_checkpoint(checkpoint)

    def pin(self, run: RunDirectory, step: int, *, pinned: bool) -> None:
        """Keep a checkpoint for good, or no longer; UnknownCheckpointError when it is gone."""
        from rnnlm_tui.store.pins import pin_checkpoint, unpin_checkpoint

        if pinned:
            pin_checkpoint(run, step)
        else:
            unpin_checkpoint(run, step)

    def log(self, run: RunDirectory) -> LogFollower:
        """What the run's worker prints; not read yet."""
        from rnnlm_tui.supervisor.worker_log import LogFollower

        return LogFollower(run.log_path)

    def sample_steps(self, run: RunDirectory) -> list[int]:
        """The steps at which samples were drawn, in order."""
        from rnnlm_tui.store.reader import RunReader

        with RunReader(run) as reader:
            return reader.sample_steps()

    def samples_at(self, run: RunDirectory, step: int) -> list[SampleRow]:
        """What was drawn at that step, the newest first."""
        from rnnlm_tui.store.reader import RunReader

        with RunReader(run) as reader:
            return reader.samples_at(step)

    def history(self) -> list[str]:
        """Prompts of earlier days, oldest first."""
        from rnnlm_tui.store.state import load_history

        return load_history()

    def remember_prompt(self, prompt: str) -> None:
        """Keep a prompt for later days."""
        from rnnlm_tui.store.state import append_history

        append_history(prompt)

    def save_config(self, name: str, raw: Mapping[str, object], problems: Sequence[Problem]) -> Path:
        """Write a config that is not valid yet to a new TOML file in the current directory, its problems as comments on top; its path."""
        import tomli_w

        from rnnlm_tui.contract.outside_text import safe

        comments = "".join(f"# {safe(str(problem), keep='')}\n" for problem in problems)
        sections = {key: {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value for key, value in raw.items()}
        return self.save_text(name, comments + tomli_w.dumps(sections), ".toml")

    def save_text(self, name: str, text: str, ending: str = ".txt") -> Path:
        """Write text to a new file in the current directory, never over another; its path."""
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
                raise StorageError(f"can't write {path}: {error.strerror}", hint="start rnnlm-tui in a folder that you may write to") from error
            return path
        raise StorageError(f"{Path.cwd()} is full of {name}-N{ending}")
