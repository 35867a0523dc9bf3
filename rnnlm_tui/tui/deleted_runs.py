"""DeletedRuns: moves runs to the trash and back, with their marks for comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    def delete(self, targets: Sequence[RunSummary]) -> None:
        """Move the runs that have ended to the trash, several or a pinned one after a question."""
        living = [run.run for run in targets if run.status in LIVING]
        ended = [run for run in targets if run.status not in LIVING]
        if ended:
            confirm_delete(
                ended, self._context, lambda: self._delete([run.run for run in ended], living)
            )
        elif living:
            self.report_if_alive(targets[0])

    def _delete(self, runs: Sequence[str], living: Sequence[str]) -> None:
        places = self._context.marks.places
        marked = {run: places.index(run) for run in runs if run in places}

        def delete() -> tuple[list[Trashed], list[tuple[str, RnnlmError | OSError]]]:
            done: list[Trashed] = []
            failed: list[tuple[str, RnnlmError | OSError]] = []
            for run in runs:
                try:
                    done.append(store.trash.delete_run(store.runs.find_run(run)))
                except (RnnlmError, OSError) as error:
                    failed.append((run, error))
            return done, failed

        def deleted(found: tuple[list[Trashed], list[tuple[str, RnnlmError | OSError]]]) -> None:
            done, failed = found
            for name, error in failed:
                self._context.watcher.unmark_removed(name)
                self._context.report_error(error)
            if done:
                self._deleted(done, marked, living)

        for run in runs:
            self._context.watcher.mark_removed(run)
        self._context.in_thread(delete, deleted)

    def _deleted(
        self, trashed: Sequence[Trashed], marked: Mapping[str, int], living: Sequence[str]
    ) -> None:
        names, opened = [run.name for run in trashed], self._context.run_directory
        self._groups.append(tuple(trashed))
        self._marked |= {run.path: marked[run.name] for run in trashed if run.name in marked}
        if opened is not None and opened.name in names:
            self._context.close_run()
        self._context.watcher.poll_now()
        message = f"{names[0]} moved to the trash, u undoes it"
        if len(names) > 1:
            message = (
                f"{counted(len(names), 'run')} moved to the trash, u undoes it: {few_names(names)}"
            )
        still = f"; still training: {few_names(living)}" if living else ""
        self._context.report(message + still)

    def undo(self) -> None:
        """Restore what was deleted last; runs deleted together are restored together."""
        for group in reversed(self._groups):
            if not any(trashed.path in self._restoring for trashed in group):
                for trashed in group:
                    self.restore(trashed, among=group)
                return
        if not self._restoring:
            self._context.report("nothing to undo: T shows the trash")

    def restore(
        self, trashed: Trashed, name: str | None = None, *, among: Sequence[Trashed] = ()
    ) -> None:
        """Restore a run; if its name is taken, ask for another.

        Args:
            name: another name.
            among: the runs deleted together, of which the first gets the cursor.
        """

        def restored(run: RunDirectory) -> None:
            self._forget(trashed)
            self._context.watcher.unmark_removed(run.name)
            if not among or among[0].path == trashed.path:
                self._restored(run)
            if trashed.path in self._marked:
                self._mark_again[run.name] = self._marked.pop(trashed.path)
            self._context.watcher.poll_now()
            self._context.report(
                f"{counted(len(among), 'run')} restored: {few_names(one.name for one in among)}"
                if len(among) > 1
                else f"{run.name} restored"
            )

        def failed(error: RnnlmError | OSError) -> None:
            taken = isinstance(error, RunNameError) and name is None
            if taken or trashed.path.exists():
                self._restoring.discard(trashed.path)
            else:
                self._forget(trashed)
            if taken:
                self._restore_as(trashed)
            else:
                self._context.report_error(error)

        self._restoring.add(trashed.path)
        self._context.in_thread(lambda: store.trash.restore_run(trashed, name), restored, failed)

    def _restore_as(self, trashed: Trashed) -> None:
        taken = {summary.run for summary in self._context.summaries or ()}

        def answered(name: str | None) -> None:
            if name is not None:
                self.restore(trashed, name)

        about = f"{safe_text(trashed.name, limit=30)} is the name of another run now"
        question = AskScreen(
            "Restore under another name",
            _free_name(trashed.name, taken),
            partial(check_free, taken=taken),
            about=about,
        )
        self._context.push_screen(question, answered)

    def _forget(self, trashed: Trashed) -> None:
        """Drop a run that is no longer in the trash."""
        self._restoring.discard(trashed.path)
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


def confirm_delete(runs: Sequence[RunSummary], app: RnnlmApp, delete: Callable[[], None]) -> None:
    """Delete one run at once, since `undo` exists; ask first for several or a pinned one."""
    # read again: a pin that was set since the last poll isn't in the summary
    pinned = [
        run.run
        for run in runs
        if run.pinned or read_labels(RunDirectory(runs_dir() / run.run)).pinned
    ]
    if len(runs) == 1 and not pinned:
        delete()
        return
    what = counted(len(runs), "run") if len(runs) > 1 else "the pinned run"
    question = ConfirmScreen(
        f"Move {what} to the trash?",
        few_names(run.run for run in runs),
        f"pinned: {few_names(pinned)}" if len(runs) > 1 and pinned else "u undoes it.",
        "keep them" if len(runs) > 1 else "keep it",
        f"move {what} to the trash",
    )
    app.push_screen(question, lambda agreed: delete() if agreed else None)


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
