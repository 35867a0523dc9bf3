"""What the checkpoints pane needs of a run's files; its methods block, as those of `Services`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rnnlm_tui.client.checkpoint_detail import CheckpointDetail, FoundSamples
    from rnnlm_tui.client.export import Exported
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.exports import ExportFormat
    from rnnlm_tui.schema.metrics import CheckpointRow
    from rnnlm_tui.schema.protocol import TaskProgress
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.retention import PrunePlan
    from rnnlm_tui.store.trash import Trashed


class CheckpointServices:
    """The real files. Imports wait for the first paint."""

    def problems(self, run: RunDirectory, rows: Sequence[CheckpointRow]) -> dict[str, str]:
        """Return what is wrong with checkpoints by names and sizes of their files, by path."""
        from rnnlm_tui.client.checkpoints import quick_problems

        return quick_problems(run, rows)

    def detail(
        self, run: RunDirectory, row: CheckpointRow, snapshot: RunSnapshot
    ) -> CheckpointDetail:
        """Return all that is known about a checkpoint; a damaged one says so."""
        from rnnlm_tui.client.checkpoint_detail import read_detail

        return read_detail(run, row, others=snapshot.checkpoints, journal=snapshot.changes)

    def samples(self, run: RunDirectory, step: int) -> FoundSamples:
        """Return the samples of a step or of the nearest before, and a much earlier one."""
        from rnnlm_tui.client.checkpoint_detail import find_samples
        from rnnlm_tui.store.reader import RunReader

        with RunReader(run) as reader:
            return find_samples(reader.sample_steps(), step, reader.samples_at)

    def note(self, run: RunDirectory, step: int, note: str) -> None:
        """Write the note on a checkpoint; raises InputError if it is too long."""
        from rnnlm_tui.store.labels import note_checkpoint

        note_checkpoint(run, step, note)

    def delete(
        self, run: RunDirectory, steps: Sequence[int]
    ) -> tuple[list[Trashed], dict[int, str]]:
        """Move those that need not be kept to the run's trash.

        Return what was deleted, and by step why others were not.
        """
        from rnnlm_tui.store.retention import why_kept
        from rnnlm_tui.store.trash import delete_checkpoints

        kept = why_kept(run, steps)
        return delete_checkpoints(run, [step for step in steps if step not in kept]), kept

    def restore(self, run: RunDirectory, trashed: Sequence[Trashed] | None = None) -> list[Trashed]:
        """Restore deleted checkpoints, by default those that were deleted together last."""
        from rnnlm_tui.store.trash import last_deleted, restore_checkpoints

        found = last_deleted(run) if trashed is None else list(trashed)
        restore_checkpoints(run, found)
        return found

    def plan_prune(self, run: RunDirectory, keep_last: int, keep_every: int) -> PrunePlan:
        """Return which checkpoints a prune would delete."""
        from rnnlm_tui.store.retention import plan_prune

        return plan_prune(run, keep_last, keep_every)

    def export(
        self,
        run: RunDirectory,
        checkpoint: Path,
        target: Path,
        format: ExportFormat,
        report: Callable[[TaskProgress], None],
    ) -> Exported:
        """Write a checkpoint in another format and compare the result with it.

        Raises InputError if the folder isn't empty or the format can't hold the model.
        """
        from rnnlm_tui.client.export import export_checkpoint

        return export_checkpoint(run, checkpoint, target, format, report=report)

    def export_folder(self, name: str) -> Path:
        """Return a free folder in the current directory for an export of this name."""
        from pathlib import Path

        folders = (
            Path.cwd() / (name if number == 1 else f"{name}-{number}") for number in range(1, 1_000)
        )
        return next(folder for folder in folders if not folder.exists())

    def remove_average(self, run: RunDirectory, name: str) -> None:
        """Remove an average permanently; raises InputError if it is gone."""
        from rnnlm_tui.client.average import remove

        remove(run, name)
