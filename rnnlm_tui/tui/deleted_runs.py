"""DeletedRuns: moves runs to the trash and back, with their marks for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui import store
from rnnlm_tui.errors import RnnlmError, RunNameError
from rnnlm_tui.schema.formatting import counted, first_of
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.store.labels import read_labels
from rnnlm_tui.store.paths import RunDirectory, check_run_name, runs_dir
from rnnlm_tui.tui.screens.overlay import AskScreen, ConfirmScreen
from rnnlm_tui.tui.text import safe_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.trash import Trashed
    from rnnlm_tui.tui.app import RnnlmApp

LONGEST_NAME = 64
SHOWN_NAMES = 3
"""Runs that a message about several runs names."""


class DeletedRuns:
    """Runs deleted since the start, to be restored in the opposite order.

    Args:
        restored: called with a restored run that gets the cursor.
    """

    def __init__(self, context: RnnlmApp, restored: Callable[[RunDirectory], None]) -> None:
        self._context, self._restored = context, restored
        self._groups: list[tuple[Trashed, ...]] = []
        """Runs that are in the trash, newest last; runs deleted together are one group."""
        self._marked: dict[Path, int] = {}
        """The places of their marks for comparison."""
        self._mark_again: dict[str, int] = {}
        """The places of the marks of restored runs, until the list shows these runs."""
        self._restoring: set[Path] = set()

    async def delete(self, targets: Sequence[RunSummary]) -> None:
        """Move the runs that have ended to the trash, several or a pinned one after a question."""
        living = [run.run for run in targets if run.status in LIVING]
        ended = [run for run in targets if run.status not in LIVING]
        if not ended and living:
            self.report_if_alive(targets[0])
        if not ended or not await may_delete(ended, self._context):
            return
        watcher, marks = self._context.watcher, self._context.marks.places
        trashed: list[Trashed] = []
        for run in ended:
            watcher.mark_removed(run.run)
        for name in [run.run for run in ended]:
            try:
                trashed.append(await self._context.wait_for(partial(_delete, name)))
            except (RnnlmError, OSError) as error:
                watcher.unmark_removed(name)
                self._context.report_error(error)
        if not trashed:
            return
        self._groups.append(tuple(trashed))
        self._marked |= {run.path: marks.index(run.name) for run in trashed if run.name in marks}
        names, opened = [run.name for run in trashed], self._context.run_directory
        if opened is not None and opened.name in names:
            self._context.close_run()
        watcher.poll_now()
        message = f"{names[0]} moved to the trash, u undoes it"
        if len(names) > 1:
            message = (
                f"{counted(len(names), 'run')} moved to the trash, u undoes it: {few_names(names)}"
            )
        still = f"; still training: {few_names(living)}" if living else ""
        self._context.report(message + still)

    async def undo(self) -> None:
        """Restore what was deleted last; runs deleted together are restored together."""
        for group in reversed(self._groups):
            if not any(trashed.path in self._restoring for trashed in group):
                await self.restore(*group)
                return
        if not self._restoring:
            self._context.report("nothing to undo: T shows the trash")

    async def restore(self, *group: Trashed) -> None:
        """Restore runs, of which the first gets the cursor; if a name is taken, ask for another."""
        restored: list[str] = []
        self._restoring |= {trashed.path for trashed in group}
        for trashed in group:
            try:
                run = await self._restore_one(trashed)
            except (RnnlmError, OSError) as error:
                self._context.report_error(error)
                run = None
            finally:
                self._restoring.discard(trashed.path)
            if run is not None:
                self._context.watcher.unmark_removed(run.name)
                if not restored:
                    self._restored(run)
                if trashed.path in self._marked:
                    self._mark_again[run.name] = self._marked.pop(trashed.path)
                restored.append(run.name)
            if run is not None or not trashed.path.exists():
                self._forget(trashed)
        if restored:
            self._context.watcher.poll_now()
            self._context.report(
                f"{counted(len(restored), 'run')} restored: {few_names(restored)}"
                if len(restored) > 1
                else f"{restored[0]} restored"
            )

    async def _restore_one(self, trashed: Trashed) -> RunDirectory | None:
        """Restore a run; None if its name is taken and the user gives no other."""
        try:
            return await self._context.wait_for(lambda: store.trash.restore_run(trashed))
        except RunNameError:
            taken = {summary.run for summary in self._context.summaries or ()}
            question = AskScreen(
                "Restore under another name",
                _free_name(trashed.name, taken),
                partial(check_free, taken=taken),
                about=f"{safe_text(trashed.name, limit=30)} is the name of another run now",
            )
        name = await self._context.ask(question)
        if name is None:
            return None
        return await self._context.wait_for(lambda: store.trash.restore_run(trashed, name))

    def _forget(self, trashed: Trashed) -> None:
        """Drop a run that is no longer in the trash."""
        groups = (
            tuple(kept for kept in group if kept.path != trashed.path) for group in self._groups
        )
        self._groups = [group for group in groups if group]

    def mark_restored(self, summaries: Sequence[RunSummary]) -> None:
        """Restore the marks of restored runs, once the list shows them."""
        marks = self._context.marks
        for name in [run.run for run in summaries if run.run in self._mark_again]:
            marks = marks.marked_at(name, self._mark_again.pop(name))
        self._context.set_marks(marks)

    def report_if_alive(self, run: RunSummary) -> bool:
        """Return whether the run must be stopped first, and report it."""
        if run.status in LIVING:
            self._context.report(
                f"{run.run} is {run.status}: stop it first, on its train pane with S"
            )
        return run.status in LIVING


async def may_delete(runs: Sequence[RunSummary], app: RnnlmApp) -> bool:
    """Ask before several runs or a pinned one are deleted; for one, `undo` exists."""
    # read again: a pin that was set since the last poll isn't in the summary
    pinned = [
        run.run
        for run in runs
        if run.pinned or read_labels(RunDirectory(runs_dir() / run.run)).pinned
    ]
    if len(runs) == 1 and not pinned:
        return True
    what = counted(len(runs), "run") if len(runs) > 1 else "the pinned run"
    question = ConfirmScreen(
        f"Move {what} to the trash?",
        few_names(run.run for run in runs),
        f"pinned: {few_names(pinned)}" if len(runs) > 1 and pinned else "u undoes it.",
        "keep them" if len(runs) > 1 else "keep it",
        f"move {what} to the trash",
    )
    return await app.ask(question) is True


def _delete(name: str) -> Trashed:
    return store.trash.delete_run(store.runs.find_run(name))


def few_names(runs: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    return first_of([safe_text(name, limit=24) for name in runs], SHOWN_NAMES)


def check_free(name: str, *, taken: set[str]) -> None:
    """Raise RunNameError if the name is taken or invalid."""
    check_run_name(name)
    if name in taken:
        raise RunNameError(f'run "{name}" already exists')


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name with the first number that makes it free."""
    return next(
        free for number in count(2) if (free := f"{name[: LONGEST_NAME - 4]}-{number}") not in taken
    )
