"""Actions on runs of the list: marks, tags, notes, pins, names, and the trash."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.errors import RnnlmError, RunNameError
from rnnlm_tui.store.labels import MOST_NOTE_CHARACTERS, check_note, check_tags, edited_tags
from rnnlm_tui.store.run_directory import check_run_name
from rnnlm_tui.tui.chart_view import rename_view
from rnnlm_tui.tui.screens.ask import AskScreen
from rnnlm_tui.tui.screens.run_cursor import RunCursor
from rnnlm_tui.tui.screens.trash import TrashScreen
from rnnlm_tui.tui.widgets.content import safe_text
from rnnlm_tui.tui.widgets.runs_table import RunsTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.store.trash import TrashedRun

LONGEST_NAME = 64
SHOWN_NAMES = 3
"""Runs that a message about several runs names."""
SHOWN_TAGS = 8
"""Tags in use that are shown below the input."""


class RunsBookkeeping(RunCursor):
    """The runs screen's actions on the run under the cursor."""

    def __init__(self) -> None:
        super().__init__()
        self._trashed: list[tuple[TrashedRun, ...]] = []
        """Runs deleted since the start and not restored, newest last; runs deleted together are one
        group."""
        self._marked_in_trash: dict[Path, int] = {}
        """The places of their marks for comparison."""
        self._mark_again: dict[str, int] = {}
        """The places of the marks of restored runs, until the list shows these runs."""
        self._restoring: set[Path] = set()
        """Runs being restored."""

    def action_mark_run(self) -> None:
        """Mark or unmark the run for comparison."""
        if self.chosen is not None:
            self.context.mark(self.chosen.run)

    def action_compare_runs(self) -> None:
        """Compare the marked runs; with only one marked, also the one under the cursor."""
        if len(self.context.marked) == 1 and self.chosen is not None and self.chosen.run not in self.context.marked:
            self.context.mark(self.chosen.run)
        self.context.open_pane("compare")

    @property
    def targets(self) -> list[RunSummary]:
        """The runs that a key acts on: the one under the cursor, or if marked, all marked ones."""
        chosen = self.chosen
        if chosen is None:
            return []
        if chosen.run not in self.context.marked:
            return [chosen]
        return [chosen, *(run for run in self.query_one(RunsTable).runs if run.run in self.context.marked and run.run != chosen.run)]

    def action_tag_run(self) -> None:
        """Edit the run's tags in one line; for marked runs, the tags that all of them have."""
        runs = self.targets
        if not runs:
            return
        used = sorted({tag for summary in self.context.summaries or () for tag in summary.tags})
        about = f"in use: {'  '.join(used[:SHOWN_TAGS])}{' …' if len(used) > SHOWN_TAGS else ''}" if used else "separate tags with spaces"
        shared = tuple(tag for tag in runs[0].tags if all(tag in run.tags for run in runs))
        title = f"Tags of {safe_text(runs[0].run, limit=40)}"
        if len(runs) > 1:
            title = f"Tags of all {counted(len(runs), 'marked run')}"
            about = f"{about}; other tags are kept"

        def changed(run: RunSummary, text: str) -> tuple[str, ...]:
            wanted = edited_tags(text.split())
            return edited_tags([*(tag for tag in run.tags if tag in wanted or tag not in shared), *wanted])

        def check(text: str) -> None:
            for run in runs:
                check_tags(changed(run, text))

        def answered(text: str | None) -> None:
            if text is None:
                return
            services = self.context.services

            def label() -> None:
                for run in runs:
                    services.label(services.find(run.run), tags=changed(run, text))

            def labelled(_nothing: None) -> None:
                self.context.watcher.poll_now()
                if len(runs) > 1:
                    self.context.report(f"{counted(len(runs), 'run')} tagged: {_names(run.run for run in runs)}")

            self.context.in_thread(label, labelled)

        self.app.push_screen(AskScreen(title, "".join(f"{tag} " for tag in shared), check, about=about), answered)

    def action_note_run(self) -> None:
        """Edit the run's note."""
        run = self.chosen
        if run is None:
            return

        def answered(text: str | None) -> None:
            if text is not None:
                self._label(run.run, note=text)

        title = f"Note on {safe_text(run.run, limit=40)}"
        self.app.push_screen(AskScreen(title, run.note, check_note, about="one line; leave empty to remove it", most=MOST_NOTE_CHARACTERS), answered)

    def action_pin_run(self) -> None:
        """Pin or unpin the run."""
        if self.chosen is not None:
            self._label(self.chosen.run, pinned=not self.chosen.pinned)

    def _label(self, name: str, *, tags: tuple[str, ...] | None = None, note: str | None = None, pinned: bool | None = None) -> None:
        services = self.context.services
        self.context.in_thread(
            lambda: services.label(services.find(name), tags=tags, note=note, pinned=pinned), lambda _labels: self.context.watcher.poll_now()
        )

    def action_rename_run(self) -> None:
        """Rename the run."""
        run = self.chosen
        if run is None or self._report_if_alive(run):
            return
        taken = {summary.run for summary in self.context.summaries or ()} - {run.run}
        about = "other runs keep referring to its old name"
        question = AskScreen(f"Rename {safe_text(run.run, limit=40)}", run.run, partial(_check_free, taken=taken), about=about)
        self.app.push_screen(question, partial(self._rename, run.run))

    def _rename(self, former: str, name: str | None) -> None:
        if name is None or name == former:
            return
        services = self.context.services

        def renamed(run: RunDirectory) -> None:
            self._expected = run.name
            self.context.watcher.unmark_removed(run.name)
            rename_view(self.context.settings, former, run.name)
            self.context.select_run(run)
            self.context.set_marks(self.context.marks.renamed(former, run.name))
            self.context.watcher.poll_now()

        def failed(error: RnnlmError | OSError) -> None:
            self.context.watcher.unmark_removed(former)
            self.context.report_error(error)

        self.context.watcher.mark_removed(former)
        self.context.in_thread(lambda: services.rename(services.find(former), name), renamed, failed)

    def action_delete_run(self) -> None:
        """Move the run to the trash; there is no question, since it can be undone.

        Of several marked runs, those that have ended are deleted.
        """
        targets = self.targets if self.context.summaries else []
        living = [run for run in targets if run.status in LIVING]
        runs = [run for run in targets if run.status not in LIVING]
        if not runs:
            if living:
                self._report_if_alive(living[0])
            return
        services, places = self.context.services, {run.run: self.context.marks.places.index(run.run) for run in runs if run.run in self.context.marks.places}

        def delete() -> tuple[list[TrashedRun], list[tuple[str, RnnlmError | OSError]]]:
            done: list[TrashedRun] = []
            failed: list[tuple[str, RnnlmError | OSError]] = []
            for run in runs:
                try:
                    done.append(services.delete(services.find(run.run)))
                except (RnnlmError, OSError) as error:
                    failed.append((run.run, error))
            return done, failed

        def deleted(found: tuple[list[TrashedRun], list[tuple[str, RnnlmError | OSError]]]) -> None:
            done, failed = found
            for name, error in failed:
                self.context.watcher.unmark_removed(name)
                self.context.report_error(error)
            if done:
                self._deleted(done, places, [run.run for run in living])

        for run in runs:
            self.context.watcher.mark_removed(run.run)
        self.context.in_thread(delete, deleted)

    def _deleted(self, trashed: Sequence[TrashedRun], places: Mapping[str, int], living: Sequence[str]) -> None:
        self._trashed.append(tuple(trashed))
        self._marked_in_trash |= {run.path: places[run.name] for run in trashed if run.name in places}
        if self.context.run_directory is not None and self.context.run_directory.name in {run.name for run in trashed}:
            self.context.close_run()
        self.context.watcher.poll_now()
        message = f"{trashed[0].name} moved to the trash, u undoes it"
        if len(trashed) > 1:
            message = f"{counted(len(trashed), 'run')} moved to the trash, u undoes it: {_names(run.name for run in trashed)}"
        self.context.report(f"{message}; still training: {_names(living)}" if living else message)

    def action_undo_delete(self) -> None:
        """Restore what was deleted last; runs deleted together are restored together."""
        last = next((group for group in reversed(self._trashed) if not any(trashed.path in self._restoring for trashed in group)), None)
        if last is not None:
            for trashed in last:
                self._restore(trashed, among=last)
        elif not self._restoring:
            self.context.report("nothing to undo: T shows the trash")

    def mark_restored_runs(self, summaries: Sequence[RunSummary]) -> None:
        """Restore the marks of restored runs, once the list shows them."""
        marks = self.context.marks
        for name in [run.run for run in summaries if run.run in self._mark_again]:
            marks = marks.marked_at(name, self._mark_again.pop(name))
        self.context.set_marks(marks)

    def action_show_trash(self) -> None:
        """Show the trash."""

        def show(trashed: list[TrashedRun]) -> None:
            if self.app.screen is self:
                self.app.push_screen(TrashScreen(trashed), self._answered_trash)

        self.context.in_thread(self.context.services.trash, show)

    def _answered_trash(self, wanted: TrashedRun | None) -> None:
        if wanted is not None:
            self._restore(wanted)

    def _restore(self, trashed: TrashedRun, name: str | None = None, *, among: Sequence[TrashedRun] = ()) -> None:
        """Restore a run. Of `among`, the runs deleted together, the first gets the cursor."""
        first = not among or among[0].path == trashed.path

        def restored(run: RunDirectory) -> None:
            self._forget(trashed)
            self.context.watcher.unmark_removed(run.name)
            if first:
                self._expected = run.name
                self.context.select_run(run)
            place = self._marked_in_trash.pop(trashed.path, None)
            if place is not None:
                self._mark_again[run.name] = place
            self.context.watcher.poll_now()
            self.context.report(f"{counted(len(among), 'run')} restored: {_names(other.name for other in among)}" if len(among) > 1 else f"{run.name} restored")

        def failed(error: RnnlmError | OSError) -> None:
            if isinstance(error, RunNameError) and name is None:
                self._restoring.discard(trashed.path)
                self._restore_as(trashed)
                return
            if trashed.path.exists():
                self._restoring.discard(trashed.path)
            else:
                self._forget(trashed)
            self.context.report_error(error)

        self._restoring.add(trashed.path)
        self.context.in_thread(partial(self.context.services.restore, trashed, name), restored, failed)

    def _forget(self, trashed: TrashedRun) -> None:
        """Drop a run that is no longer in the trash."""
        self._restoring.discard(trashed.path)
        groups = (tuple(kept for kept in group if kept.path != trashed.path) for group in self._trashed)
        self._trashed = [group for group in groups if group]

    def _restore_as(self, trashed: TrashedRun) -> None:
        """Ask for another name: the run's name has been taken."""
        taken = {summary.run for summary in self.context.summaries or ()}

        def answered(name: str | None) -> None:
            if name is not None:
                self._restore(trashed, name)

        about = f"{safe_text(trashed.name, limit=30)} is the name of another run now"
        self.app.push_screen(AskScreen("Restore under another name", _free_name(trashed.name, taken), partial(_check_free, taken=taken), about=about), answered)

    def _report_if_alive(self, run: RunSummary) -> bool:
        """Report that the run must be stopped first; whether it must."""
        if run.status in LIVING:
            self.context.report(f"{run.run} is {run.status}: stop it first, on its train pane with S")
        return run.status in LIVING


def _names(runs: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    names = list(runs)
    shown = ", ".join(safe_text(name, limit=24) for name in names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES} more"


def _check_free(name: str, *, taken: set[str]) -> None:
    check_run_name(name)
    if name in taken:
        raise RunNameError(f'run "{name}" already exists')


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name with the first number that makes it free."""
    return next(free for number in count(2) if (free := f"{name[: LONGEST_NAME - 4]}-{number}") not in taken)
