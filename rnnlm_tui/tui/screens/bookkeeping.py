"""What is done to runs in the list: marks, tags, notes, pins, other names, the trash and back."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.errors import RnnlmError, RunNameError
from rnnlm_tui.store.labels import MOST_NOTE_CHARACTERS, check_note, check_tags, told_tags
from rnnlm_tui.store.run_directory import check_run_name
from rnnlm_tui.tui.chart_view import rename_view
from rnnlm_tui.tui.screens.ask import AskScreen
from rnnlm_tui.tui.screens.run_cursor import RunCursor
from rnnlm_tui.tui.screens.trash import TrashScreen
from rnnlm_tui.tui.widgets.content import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.store.trash import TrashedRun

LONGEST_NAME = 64
SHOWN_TAGS = 8
"""Tags in use that are named where one types."""


class RunsBookkeeping(RunCursor):
    """The runs screen's actions on the run under the cursor."""

    def __init__(self) -> None:
        super().__init__()
        self._trashed: list[TrashedRun] = []
        """What was deleted since the start and not taken back, the last one last."""
        self._marked_in_trash: dict[Path, int] = {}
        """Places of their marks to compare."""
        self._mark_again: tuple[str, int] | None = None
        """A run that is back and had a mark, until the list has it, and the place of that."""
        self._restoring: set[Path] = set()
        """What is on its way back."""

    def action_mark_run(self) -> None:
        """Mark it to compare, or no longer."""
        if self.chosen is not None:
            self.lab.mark(self.chosen.run)

    def action_compare_runs(self) -> None:
        """The marked runs; with one marked, it and the one under the cursor."""
        if len(self.lab.marked) == 1 and self.chosen is not None and self.chosen.run not in self.lab.marked:
            self.lab.mark(self.chosen.run)
        self.lab.open_pane("compare")

    def action_tag_run(self) -> None:
        """Its tags, in one line."""
        run = self.chosen
        if run is None:
            return
        used = sorted({tag for summary in self.lab.summaries or () for tag in summary.tags})
        about = f"in use: {'  '.join(used[:SHOWN_TAGS])}{' …' if len(used) > SHOWN_TAGS else ''}" if used else "words with a space between them"

        def answered(text: str | None) -> None:
            if text is not None:
                self._label(run.run, tags=told_tags(text.split()))

        title = f"Tags of {plain(run.run, limit=40)}"
        self.app.push_screen(AskScreen(title, "".join(f"{tag} " for tag in run.tags), lambda text: check_tags(told_tags(text.split())), about=about), answered)

    def action_note_run(self) -> None:
        """A note, in one line."""
        run = self.chosen
        if run is None:
            return

        def answered(text: str | None) -> None:
            if text is not None:
                self._label(run.run, note=text)

        title = f"Note on {plain(run.run, limit=40)}"
        self.app.push_screen(AskScreen(title, run.note, check_note, about="one line; empty takes it away", most=MOST_NOTE_CHARACTERS), answered)

    def action_pin_run(self) -> None:
        """On top of the list, or no longer."""
        if self.chosen is not None:
            self._label(self.chosen.run, pinned=not self.chosen.pinned)

    def _label(self, name: str, *, tags: tuple[str, ...] | None = None, note: str | None = None, pinned: bool | None = None) -> None:
        services = self.lab.services
        self.lab.in_thread(lambda: services.label(services.find(name), tags=tags, note=note, pinned=pinned), lambda _labels: self.lab.look_now())

    def action_rename_run(self) -> None:
        """Another name."""
        run = self.chosen
        if run is None or self._still_lives(run):
            return
        taken = {summary.run for summary in self.lab.summaries or ()} - {run.run}
        about = "other runs go on to know it by its old name"
        question = AskScreen(f"Rename {plain(run.run, limit=40)}", run.run, partial(_check_free, taken=taken), about=about)
        self.app.push_screen(question, partial(self._rename, run.run))

    def _rename(self, former: str, name: str | None) -> None:
        if name is None or name == former:
            return
        services = self.lab.services

        def renamed(run: RunDirectory) -> None:
            self._expected = run.name
            self.lab.bring_back(run.name)
            rename_view(self.lab.settings, former, run.name)
            self.lab.choose_run(run)
            self.lab.set_marks(self.lab.marks.renamed(former, run.name))
            self.lab.look_now()

        def failed(error: RnnlmError | OSError) -> None:
            self.lab.bring_back(former)
            self.lab.say_error(error)

        self.lab.take_away(former)
        self.lab.in_thread(lambda: services.rename(services.find(former), name), renamed, failed)

    def action_delete_run(self) -> None:
        """Into the trash, without a question: it can be taken back."""
        run = self.chosen
        if run is None or not self.lab.summaries or self._still_lives(run):
            return
        services = self.lab.services

        def failed(error: RnnlmError | OSError) -> None:
            self.lab.bring_back(run.run)
            self.lab.say_error(error)

        self.lab.take_away(run.run)
        self.lab.in_thread(lambda: services.delete(services.find(run.run)), self._deleted, failed)

    def _deleted(self, trashed: TrashedRun) -> None:
        self._trashed.append(trashed)
        if trashed.name in self.lab.marks.places:
            self._marked_in_trash[trashed.path] = self.lab.marks.places.index(trashed.name)
        if self.lab.run_directory is not None and self.lab.run_directory.name == trashed.name:
            self.lab.close_run()
        self.lab.look_now()
        self.lab.say(f"{trashed.name} is in the trash, u takes it back")

    def action_undo_delete(self) -> None:
        """The run that was deleted last comes back."""
        last = next((trashed for trashed in reversed(self._trashed) if trashed.path not in self._restoring), None)
        if last is not None:
            self._restore(last)
        elif not self._restoring:
            self.lab.say("nothing to take back: T shows the trash")

    def mark_what_came_back(self, summaries: Sequence[RunSummary]) -> None:
        """A run that was marked when it was deleted, as soon as the list has it again."""
        if self._mark_again is not None and any(run.run == self._mark_again[0] for run in summaries):
            again, self._mark_again = self._mark_again, None
            self.lab.set_marks(self.lab.marks.marked_at(*again))

    def action_show_trash(self) -> None:
        """What is in the trash, to restore or purge."""

        def show(trashed: list[TrashedRun]) -> None:
            if self.app.screen is self:
                self.app.push_screen(TrashScreen(trashed), self._left_trash)

        self.lab.in_thread(self.lab.services.trash, show)

    def _left_trash(self, wanted: TrashedRun | None) -> None:
        if wanted is not None:
            self._restore(wanted)

    def _restore(self, trashed: TrashedRun, name: str | None = None) -> None:
        def restored(run: RunDirectory) -> None:
            self._restoring.discard(trashed.path)
            self._trashed = [kept for kept in self._trashed if kept.path != trashed.path]
            self._expected = run.name
            self.lab.bring_back(run.name)
            self.lab.choose_run(run)
            place = self._marked_in_trash.pop(trashed.path, None)
            self._mark_again = None if place is None else (run.name, place)
            self.lab.look_now()
            self.lab.say(f"{run.name} is back")

        def failed(error: RnnlmError | OSError) -> None:
            self._restoring.discard(trashed.path)
            if isinstance(error, RunNameError) and name is None:
                self._restore_as(trashed)
            else:
                self._trashed = [kept for kept in self._trashed if kept.path != trashed.path or kept.path.exists()]
                self.lab.say_error(error)

        self._restoring.add(trashed.path)
        self.lab.in_thread(partial(self.lab.services.restore, trashed, name), restored, failed)

    def _restore_as(self, trashed: TrashedRun) -> None:
        """Another run has its name by now."""
        taken = {summary.run for summary in self.lab.summaries or ()}

        def answered(name: str | None) -> None:
            if name is not None:
                self._restore(trashed, name)

        about = f"another run is called {plain(trashed.name, limit=30)} by now"
        self.app.push_screen(AskScreen("Restore under another name", _free_name(trashed.name, taken), partial(_check_free, taken=taken), about=about), answered)

    def _still_lives(self, run: RunSummary) -> bool:
        """Whether it must be stopped first; says so."""
        if run.status in LIVING:
            self.lab.say(f"{run.run} is {run.status}: stop it first, on its train pane with S")
        return run.status in LIVING


def _check_free(name: str, *, taken: set[str]) -> None:
    check_run_name(name)
    if name in taken:
        raise RunNameError(f'there is already a run "{name}"')


def _free_name(name: str, taken: set[str]) -> str:
    """The name with the first number that makes it free."""
    return next(free for number in count(2) if (free := f"{name[: LONGEST_NAME - 4]}-{number}") not in taken)
