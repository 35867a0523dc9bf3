"""Average checkpoints of runs in a child process that holds torch, and keep or discard the mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.client.child import run_child
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.start import check_datasets, parent_at
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.schema.protocol import AverageDone, AveragePart, AverageRequest, TaskProgress
from rnnlm_tui.store.averages import keep_average, list_averages, remove_average
from rnnlm_tui.store.checkpoints import CheckpointEntry, checkpoint_folders
from rnnlm_tui.store.lineage import ParentCheckpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.locks import reading, staging


@dataclass(frozen=True, slots=True)
class StagedAverage:
    """An average that was evaluated and waits to be kept or discarded."""

    run: RunDirectory
    """The run that gets it."""
    result: AverageDone
    folder: Path
    """The average."""
    place: ExitStack
    """Holds the hidden folder that the average is in, and removes it."""

    @property
    def best_part(self) -> float:
        """The lowest loss of its parts, in nats per token."""
        return min(part.loss for part in self.result.parts)

    @property
    def is_better(self) -> bool:
        """Whether its loss is lower than that of each part."""
        return math.isfinite(self.result.loss) and self.result.loss < self.best_part

    def keep(self) -> CheckpointEntry:
        """Keep it.

        Raises:
            CheckpointError: it is gone or damaged.
            StorageError: it can't be renamed.
        """
        kept = keep_average(self.run, self.folder)
        self.place.close()
        return kept

    def discard(self) -> None:
        """Remove it."""
        self.place.close()

    def lines(self) -> list[tuple[str, str, str]]:
        """(address, perplexity, difference to the best part) of each part, and of the average."""
        rows = [(part.address, part.loss) for part in self.result.parts]
        best = perplexity(self.best_part)
        return [
            (name, f"{perplexity(loss):,.2f}", f"{perplexity(loss) - best:+,.2f}")
            for name, loss in (*rows, ("average", self.result.loss))
        ]


def newest_parts(run: RunDirectory, count: int) -> list[ParentCheckpoint]:
    """The newest checkpoints of a run, oldest first.

    Raises:
        InputError: the run has fewer.
    """
    if count < 2:
        raise InputError(
            f"an average needs at least 2 checkpoints, not {count}", hint="use --last 2 or more"
        )
    paths = [path for _, path in checkpoint_folders(run)]
    if len(paths) < count:
        raise InputError(
            f"{run.name} has {counted(len(paths), 'checkpoint')}, not {count}",
            hint="checkpoint.keep_last or keep_every keep more of a run's checkpoints",
        )
    return [ParentCheckpoint(run, path) for path in paths[-count:]]


def parts_at(addresses: Sequence[str]) -> list[ParentCheckpoint]:
    """The checkpoints that `run@checkpoint` name, with whole names of runs.

    Raises:
        UnknownRunError, UnknownCheckpointError: one is gone.
    """
    return [parent_at(address) for address in addresses]


def average_checkpoints(
    parts: Sequence[ParentCheckpoint], report: Callable[[TaskProgress], None]
) -> StagedAverage:
    """Average checkpoints and evaluate the mean beside them, on the first one's validation set.

    Args:
        parts: the first one's run gets the average.
        report: called with the progress.

    Raises:
        InputError: fewer than two different checkpoints, or they differ in shape or vocabulary.
        UntrustedDatasetError: the validation set is from code that the user hasn't named here.
        CheckpointError: one is damaged.
        StorageError: the disk is full or not writable, or the run's folder has a link.
        DeviceError: out of memory.
        WorkerError: the process died.
    """
    different = list({part.path: part for part in parts}.values())
    if len(different) < 2:
        raise InputError(
            "an average needs at least 2 different checkpoints",
            hint="name them as RUN@STEP, or use --last N",
        )
    run = different[0].run
    run.check_own_files()
    check_datasets(run.read_config().corpus)
    with ExitStack() as held:
        make_private_directory(run.checkpoints_path, parents=False)
        place = held.enter_context(staging(run.checkpoints_path))
        request = AverageRequest(
            run=str(run.path),
            parts=tuple(
                AveragePart(address=part.address, path=str(part.path.absolute()))
                for part in different
            ),
            folder=str(place / "average"),
        )
        with reading(*(part.path for part in different)):
            result = run_child(
                "average",
                request,
                AverageDone,
                report,
                what="averaging",
                settings=WORKER_SETTINGS,
            )
        return StagedAverage(run, result, Path(request.folder), held.pop_all())


def remove(run: RunDirectory, name: str) -> CheckpointEntry:
    """Remove a kept average permanently; returns what it was.

    Raises:
        InputError: there is no such average; lists those that exist.
        StorageError: it can't be removed.
    """
    entries = {entry.name: entry for entry in list_averages(run)}
    entry = entries.get(name.replace(",", ""))
    if entry is None:
        raise InputError(
            f'{run.name} has no average "{name[:40]}"',
            hint=f"it has {', '.join(entries) or 'none'}",
        )
    remove_average(entry.path)
    return entry
