"""Start a run or resume it, and report its worker's errors and damaged files.

Checks before a run is created, and the probe that measures a config's first steps.

Both find out whether a config can run on this machine. The probe is a child process, and its
measurement is stored for later estimates.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

from rnnlm_tui.client.child import DoneT, run_child
from rnnlm_tui.client.config_files import check_draft
from rnnlm_tui.client.control import WORKER_SETTINGS, launch, resume, wanted_niceness
from rnnlm_tui.client.estimate import (
    estimate,
    planned_steps,
    smaller_batch_words,
    training_text,
    warning_before_start,
)
from rnnlm_tui.client.gpus import (
    check_device,
    check_precision,
    process_problems,
    training_devices,
)
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.pretrained import check_tokenizer
from rnnlm_tui.corpus.datasets import check_trusted, remember_dataset
from rnnlm_tui.corpus.news import NEWS, news_files
from rnnlm_tui.corpus.sources import missing_splits, open_source, source_path
from rnnlm_tui.errors import (
    ConfigError,
    CorpusError,
    DeviceError,
    InputError,
    RnnlmError,
    RunStateError,
    UnknownCheckpointError,
    UnknownRunError,
    WorkerError,
    error_kind,
)
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, CorpusConfig, RunConfig, TrainingConfig
from rnnlm_tui.schema.corpora import PYTHON_SOURCE, DatasetName, dataset_names
from rnnlm_tui.schema.estimates import (
    checkpoint_bytes,
    warmup_note,
)
from rnnlm_tui.schema.facts import OptimizerStart
from rnnlm_tui.schema.protocol import Calibration, ProbeDone, TaskProgress
from rnnlm_tui.schema.rules import share_problems, text_problems
from rnnlm_tui.schema.status import LIVING, RESUMABLE
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.schema.tuning import RangeRequest
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.corpora import add_calibration
from rnnlm_tui.store.lineage import ParentCheckpoint, check_fits, read_parent
from rnnlm_tui.store.paths import RunDirectory, corpora_dir, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, run_named, set_device
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.store.verify import damaged_folders
from rnnlm_tui.system.disk import ROOM_FOR_ROWS, SPACE_FACTOR, require_space
from rnnlm_tui.system.locks import read_lock

MAX_READ_BYTES = 8_000_000
"""How much of a user's text is read, which takes a tenth of a second. The worker reads the rest."""


def check_before_start(config: RunConfig, *, ranks: int = 0) -> None:
    """Refuse a config that can't run on this machine. The worker repeats these checks, and does
    more.

    Args:
        ranks: the processes of a job on machines with other devices; 0: it runs on this one.

    Raises:
        DeviceError: this machine lacks the device, or it doesn't support the precision.
        UntrustedDatasetError: it would run code that the user hasn't named in this home.
        CorpusError: the source is missing or not text, or files of the Penn Treebank are missing
            for its preset.
        TokenizerError: the tokenizer's folder is missing, or its size differs from the config's.
        ConfigError: the text's length is known, and the batch is larger; or there are more
            processes than GPUs or rows of a batch.
        InputError: RNNLM_TUI_NICENESS is invalid.
    """
    wanted_niceness()
    if not ranks:
        check_device(config.training.device)
        check_precision(config.training)
    check_tokenizer(config.tokenizer)
    text = training_text(config)
    problems = text_problems(config, tokens=text.tokens, sentences=text.sentences)
    shares = share_problems(config.training, ranks) if ranks else process_problems(config)
    if problems := (*problems, *shares):
        raise ConfigError(problems)
    check_corpus(config.corpus)
    if config.preset.startswith("ptb-"):
        check_treebank(config.corpus)


def check_disk(config: RunConfig) -> None:
    """Raise StorageError if the disk has too little space for a run of this config."""
    text = training_text(config)
    # the text may have fewer types: the worker checks again
    vocab_size = text.vocab_size if text.vocab_exact else 1
    checkpoint = checkpoint_bytes(config, vocab_size)
    require_space(runs_dir(), SPACE_FACTOR * checkpoint + ROOM_FOR_ROWS, "a run of this size")


def check_source(corpus: CorpusConfig) -> None:
    """Raise CorpusError if a source is neither built in nor an existing file or folder. Reads
    nothing."""
    for name in (corpus.source, corpus.test_source):
        if name is None or name in BUILT_IN_SOURCES:
            continue
        if name.startswith(PYTHON_SOURCE):
            DatasetName.parse(name)  # only the worker imports it: that runs the user's code
        else:
            source_path(name)


def check_datasets(corpus: CorpusConfig) -> list[Path]:
    """Refuse datasets of Python that the user hasn't named in this home. Imports nothing.

    Returns:
        The files of those that a config names.

    Raises:
        UntrustedDatasetError: with the first file that isn't trusted.
        CorpusError: there is no such module.
    """
    names = [name.found_from(Path.cwd()) for name in dataset_names(corpus)]
    return [check_trusted(name, corpora_dir()) for name in names]


def trust_dataset(source: str) -> None:
    """Let a dataset of Python run from now on, with its files as they are.

    Raises:
        CorpusError: there is no such module.
        StorageError: the list of trusted datasets can't be written.
    """
    if source.startswith(PYTHON_SOURCE):
        remember_dataset(DatasetName.parse(source).found_from(Path.cwd()), corpora_dir())


def check_corpus(corpus: CorpusConfig) -> None:
    """Raise CorpusError if the source can't be opened, or its beginning isn't text."""
    if NEWS in (corpus.source, corpus.test_source) and news_files(corpora_dir()) is None:
        return  # the worker downloads it
    if dataset_names(corpus):
        check_source(corpus)
        check_datasets(corpus)
        return
    source = open_source(corpus, corpora_dir())
    if corpus.source in BUILT_IN_SOURCES and corpus.test_source is None:
        return
    read = 0

    def advance(count: int) -> None:
        nonlocal read
        read += count

    units = (unit for found in source.documents(advance) for unit in found.sentences)
    deque(takewhile(lambda _: read < MAX_READ_BYTES, units), maxlen=0)


def check_treebank(corpus: CorpusConfig) -> None:
    """Raise CorpusError if a folder has a training set but lacks the standard validation or test
    set."""
    if corpus.source in BUILT_IN_SOURCES or corpus.source.startswith(PYTHON_SOURCE):
        return
    folder = source_path(corpus.source)
    train, missing = missing_splits(folder) if folder.is_dir() else ("", {})
    if missing:
        names = " and no ".join(missing.values())
        raise CorpusError(
            f"no {names} beside {train}: Penn Treebank perplexities are only comparable on its"
            " standard split",
            hint="put all three files into that folder",
        )


def run_probe(
    config: RunConfig,
    report: Callable[[TaskProgress], None],
    *,
    warn: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Measure a config in a child process and store the calibration. The child ends with this call.

    Args:
        report: called with each progress message.
        warn: called if it measured the CPU beside a GPU that torch can't use.

    Raises:
        InputError: the config can't run here, or a step doesn't fit into memory.
        WorkerError: the probe died.
        StorageError: the corpus or the calibration can't be written.
    """
    answer = probe(config, ProbeDone, report)
    if answer.warning:
        warn(answer.warning)
    add_calibration(answer.calibration)
    return answer.calibration


def probe(
    wanted: RunConfig | RangeRequest,
    done: type[DoneT],
    report: Callable[[TaskProgress], None],
    check: Callable[[], None] | None = None,
) -> DoneT:
    """Measure a config, or test a range of learning rates, in a child process.

    Args:
        done: the model of the result.
        report: called with each progress message; an exception ends the child.
        check: as of `run_child`.

    Raises: as `run_probe`.
    """
    config = wanted.config if isinstance(wanted, RangeRequest) else wanted
    check_before_start(config)
    return run_child(
        "probe",
        wanted,
        done,
        report,
        what="the probe",
        hint_for_memory=lambda: smaller_batch_words(config, estimate(config)),
        settings=WORKER_SETTINGS,
        check=check,
    )


_LOOK_SECONDS = 0.1

BEGIN_SECONDS = 30.0
"""Longest wait for the first step, usually five seconds: errors that only the worker can find are
shown where the user asked for the resume."""


def start_run(
    config: RunConfig,
    name: str | None = None,
    parent: ParentCheckpoint | None = None,
    *,
    warn: Callable[[str], None] | None = None,
) -> RunDirectory:
    """Create a run and launch its worker.

    Args:
        parent: the checkpoint whose weights it starts from: see `parent_at`.
        warn: called before the start with warnings: too little memory, or a shortened warm-up.

    Raises:
        InputError: the config can't run here, or doesn't fit the parent; no run was created.
        CheckpointError: the parent's checkpoint is damaged; no run was created.
        StorageError: not enough disk space; no run was created.
        WorkerError: the worker failed to start; the run stays as a draft with its log.
    """
    check_before_start(config)
    check_disk(config)
    if warn is not None:
        for warning in (warning_before_start(config), warmup_note(config, planned_steps(config))):
            if warning:
                warn(warning)
    run = create_run(config, name, parent)
    launch(run)
    return run


def parent_at(address: str, optimizer: OptimizerStart = "fresh") -> ParentCheckpoint:
    """The checkpoint that `run@checkpoint` names, to start a new run from.

    Args:
        address: with the run's whole name or a former one, and a step, `best`, `last` or
            `average-STEP`.

    Raises:
        UnknownRunError, UnknownCheckpointError: it is gone; says whether the run is in the trash.
    """
    name, _, which = address.partition("@")
    run = run_named(name)
    return ParentCheckpoint(run, checkpoint_path(run, which or "last"), optimizer)


def check_draft_before_start(run: RunDirectory) -> None:
    """Refuse a run that was never started and can't run on this machine.

    Raises:
        InputError: the config has problems, can't run here, or doesn't fit the parent.
        StorageError: its files can't be read.
    """
    check_draft(run)
    config, parent = run.read_config(), read_parent(run)
    check_before_start(config)
    if parent is not None:
        # if it is gone, the worker checks the run's own copy of the weights
        with suppress(UnknownRunError, UnknownCheckpointError):
            checkpoint = parent_at(parent.address, parent.optimizer)
            if checkpoint.run.created() == parent.created:
                check_fits(config, checkpoint)


def start_draft(run: RunDirectory) -> RunDirectory:
    """Launch the worker of a run that was never started.

    Raises: as `check_draft_before_start` and `control.resume`, and
        StorageError: not enough disk space; nothing was started.
    """
    check_draft_before_start(run)
    check_disk(run.read_config())
    resume(run)
    return run


def wait_for_training(run: RunDirectory, seconds: float, *, new: bool = True) -> None:
    """Wait until a run's newest attempt trains, at most `seconds`: preparing a large corpus takes
    longer.

    Args:
        new: it is a new run, which is moved to the trash if the worker rejects its config.

    Raises:
        RnnlmError: the worker rejected the config, refused to resume, or failed at once; the run's
            checkpoints are unchanged.
        WorkerError: the worker exited without an event, for example because it was killed.
    """
    deadline = time.monotonic() + seconds
    with RunReader(run) as reader:
        while time.monotonic() < deadline and read_lock(run.lock_path).held:
            reader.refresh()
            state = reader.last_state()
            if state is not None and state.kind not in ("started", "resumed", "preparing"):
                break
            time.sleep(_LOOK_SECONDS)
    if (failure := (discard_refused(run) if new else None) or failure_of(run)) is not None:
        raise failure
    summary = summarize(run)
    if summary.status == "crashed":
        raise WorkerError(f"{run.name}: {summary.message}", hint=summary.hint or "")


def failure_of(run: RunDirectory) -> RnnlmError | None:
    """The error that ended a run's newest attempt, as its worker recorded it; None: it didn't
    fail."""
    with RunReader(run) as reader:
        state, facts = reader.last_state(), reader.facts()
    if state is None or state.kind != "failed":
        return None
    return error_kind(facts.exit_code)(facts.message or state.text, hint=facts.hint)


def discard_refused(run: RunDirectory) -> RnnlmError | None:
    """Move a run to the trash if it failed with an InputError before its first step; returns the
    error."""
    failure = failure_of(run)
    with RunReader(run) as reader:
        state = reader.last_state()
    first = state is not None and (state.attempt, state.step) == (1, 0)
    if not first or not isinstance(failure, InputError):
        return None
    delete_run(run)
    return failure


@dataclass(frozen=True, slots=True)
class PendingResume:
    """A run about to be resumed: `start` resumes it, `wait` returns from which step."""

    run: RunDirectory
    before: RunSummary
    """The run's summary before."""
    known: frozenset[Path]
    """Damaged checkpoints that were already moved aside before."""

    @classmethod
    def of(cls, run: RunDirectory) -> PendingResume:
        """Read the run's summary.

        Raises:
            RnnlmError: the run can't be read.
        """
        return cls(run, summarize(run), frozenset(damaged_folders(run)))

    def start(self, device: str = "") -> int:
        """Resume the run; returns the worker's pid.

        Args:
            device: trains there from now on; empty: where it trained before.

        Raises: as `control.resume`, and
            DeviceError: this machine lacks the device that is asked for or the run's own, or it
                doesn't support the run's precision.
            UntrustedDatasetError: it would run code that the user hasn't named in this home.
            RunStateError: the run has a worker, on another device.
        """
        run, before = self.run, self.before
        if device and (before.status in LIVING or read_lock(run.lock_path).held):
            raise RunStateError(
                f"{run.name} has a worker: its device can't change now",
                hint=f"rnnlm-tui stop {run.name}, then resume it with --device {device}",
            )
        if before.status in {"draft", *RESUMABLE}:  # else resuming reports why it isn't possible
            config = run.read_config()
            check_datasets(config.corpus)
            if device:
                config = parse_config(merge(config, {"training.device": device}))
                check_device(config.training.device)
                check_precision(config.training)
                set_device(run, device)
            else:
                self._check_own_device(config.training)
        return resume(run)

    def _check_own_device(self, training: TrainingConfig) -> None:
        try:
            check_device(training.device)
        except DeviceError as error:
            others = (one.name for one in training_devices(training) if one.name != "auto")
            moves = [
                f"`rnnlm-tui resume {self.run.name} --device {name}` continues there"
                for name in islice(others, 1)
            ]
            hint = "; ".join(filter(None, (*moves, error.hint)))
            raise DeviceError(error.message, hint=hint) from None

    def wait(self, seconds: float = BEGIN_SECONDS) -> str:
        """Wait until it trains, at most `seconds`; returns `plain-otter resumed at step 600`.

        Raises:
            RnnlmError: the worker refused to resume, or failed at once.
        """
        step, status = self.before.step, self.before.status
        if status != "paused":
            wait_for_training(self.run, seconds, new=False)
        if status == "draft":
            return f"{self.run.name} started"
        if status != "paused":
            with RunReader(self.run) as reader:
                step = reader.attempts()[-1].start_step
        return (
            f"{self.run.name} resumed at step {step:,}"
            if step
            else f"{self.run.name} restarted from step 0: it has no checkpoint"
        )

    def damaged_files(self) -> str:
        """A message about newly found damaged checkpoints; empty if there are none."""
        new = [path for path in damaged_folders(self.run) if path not in self.known]
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in new)
        return f"damaged and moved aside: {names}" if names else ""


def resume_run(run: RunDirectory, device: str = "") -> str:
    """Resume a run and wait until it trains, as `PendingResume` does.

    Returns:
        From which step, and which damaged files were moved aside.
    """
    resuming = PendingResume.of(run)
    resuming.start(device)
    return "; ".join(filter(None, (resuming.wait(), resuming.damaged_files())))
