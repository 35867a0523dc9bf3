"""The trash of runs, and of a run's checkpoints: what was deleted, to restore or purge."""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui import client, store
from rnnlm_tui.errors import RnnlmError, RunNameError
from rnnlm_tui.schema.formatting import ago, counted, disk, first_of
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.store.labels import read_labels
from rnnlm_tui.store.paths import RunDirectory, check_run_name, listed_run
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.screens.manage import Done, ManageScreen
from rnnlm_tui.tui.screens.overlay import AskScreen, ConfirmScreen, keys_in_line, purge_question
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.threads import act

if TYPE_CHECKING:
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.trash import Trashed
    from rnnlm_tui.tui.app import RnnlmApp

NAME, BESIDE = 40, 36
"""The most columns of a name, and the columns of the rest of a row."""
LONGEST_NAME = 64
SHOWN_NAMES = 3
"""Runs that a message about several runs names."""
UNDOES = "{key:undo_delete} undoes it"


class TrashScreen(ManageScreen["Trashed", "Trashed"]):
    """Returns what to restore, None for nothing. Purging happens here, after a question."""

    DEFAULT_CSS = """
    TrashScreen TitledContainer { width: 76; }
    TrashScreen OptionList { max-height: 14; }
    """
    LIST_TITLE = "Trash"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("T", "dismiss", id="show_trash"),
        Binding("T", "dismiss", id="show_checkpoint_trash"),
        ("D", "purge(0)"),
        ("P", "purge(1)"),
    ]

    def __init__(self, run: RunDirectory | None = None) -> None:
        """Show deleted runs, or with `run` its deleted checkpoints."""
        super().__init__()
        self._run, self._noun = run, "run" if run is None else "checkpoint"

    def read(self) -> list[Trashed]:
        return store.trash.list_trash(self._run)

    def name_of(self, item: Trashed) -> str:
        return item.path.name

    def legend(self) -> str:
        size = disk(sum(item.bytes for item in self.items))
        return f"{counted(len(self.items), self._noun)}, {size}" if self.items else "empty"

    def keys(self) -> Content:
        keys = [("enter", "restore"), ("D", "purge"), ("P", "purge all"), ("esc", "close")]
        return keys_in_line(keys if self.items else keys[-1:])

    def row(self, item: Trashed) -> Content:
        room = max(8, min(NAME, self.app.size.width - BESIDE))
        name = safe_content(_name(item), newlines="show", limit=room)
        when = f"deleted {ago(time() - item.deleted)}"
        return Content.assemble(
            name,
            " " * (room - name.cell_length),
            (when.ljust(20), DIM),
            (disk(item.bytes).rjust(10), DIM),
        )

    @act
    async def action_purge(self, everything: int) -> None:
        """Purge the item under the cursor, or all, after a question."""
        items = self.items if everything else [item for item in (self.chosen,) if item is not None]
        if not items:
            return
        title, what = "Empty the trash?", counted(len(items), self._noun)
        if not everything:
            title, what = f"Purge this {self._noun}?", safe_text(_name(items[0]), limit=32)
        size = disk(sum(item.bytes for item in items))
        what, proceed = f"{what}: {size} on disk", f"purge, free {size}"
        question = purge_question(title, what, len(items), proceed)
        if await self.context.ask(question):
            self.change(
                lambda: store.trash.purge(items), lambda freed: Done(f"{disk(freed)} freed")
            )


def _name(trashed: Trashed) -> str:
    return trashed.name if trashed.run is None else f"step {trashed.step:,}"


class DeletedRuns:
    """Runs deleted since the start, to be restored in the opposite order, with their marks."""

    def __init__(self, context: RnnlmApp) -> None:
        self._context = context
        self._undoing = Lock()
        self._groups: list[Sequence[Trashed]] = []
        """Newest last; runs deleted together are one group."""
        self._marked: dict[Path, int] = {}
        """The places of their marks for comparison."""

    async def delete(self, targets: Sequence[RunSummary]) -> None:
        """Move the runs that have ended to the trash, several or a pinned one after a question."""
        context = self._context
        living = [run.run for run in targets if run.status in LIVING]
        ended = [run for run in targets if run.status not in LIVING]
        if not ended and living:
            self.report_if_alive(targets[0])
        if not ended or not await may_delete(ended, context):
            return
        marks, names = context.marks.places, [run.run for run in ended]
        trashed: list[Trashed] = []
        context.watcher.removed.update(names)
        for name in names:
            try:
                trashed.append(await context.wait_for(partial(_delete, name)))
            except (RnnlmError, OSError) as error:
                context.watcher.removed.discard(name)
                context.report_error(error)
        if not trashed:
            return
        self._groups.append(trashed)
        self._marked |= {run.path: marks.index(run.name) for run in trashed if run.name in marks}
        names, opened = [run.name for run in trashed], context.run_directory
        if opened is not None and opened.name in names:
            context.close_run()
            context.open_pane("runs")
        still = f"; still training: {few_names(living)}" if living else ""
        context.report_change(_told(names, f"moved to the trash, {UNDOES}") + still)

    async def undo(self, first: Callable[[RunDirectory], None]) -> None:
        """Restore what was deleted last; runs deleted together are restored together."""

        def in_trash() -> list[Sequence[Trashed]]:
            left = ([one for one in group if one.path.exists()] for group in self._groups)
            return [group for group in left if group]

        async with self._undoing:
            self._groups = await self._context.wait_for(in_trash)
            if self._groups:
                await self.restore(self._groups[-1], first)
            else:
                self._context.report("nothing to undo: {key:show_trash} shows the trash")

    async def restore(
        self, group: Sequence[Trashed], first: Callable[[RunDirectory], None]
    ) -> None:
        """Restore runs; if a name is taken, ask for another. Calls `first` with the first one."""
        context, restored = self._context, list[str]()
        for trashed in group:
            try:
                run = await self._restore_one(trashed)
            except (RnnlmError, OSError) as error:
                context.report_error(error)
                continue
            if run is not None:
                context.watcher.removed.discard(run.name)
                if not restored:
                    first(run)
                if (place := self._marked.pop(trashed.path, None)) is not None:
                    context.marks = context.marks.marked_at(run.name, place)
                restored.append(run.name)
        if restored:
            context.report_change(_told(restored, "restored"))

    async def _restore_one(self, trashed: Trashed) -> RunDirectory | None:
        """Restore a run; None if its name is taken and the user gives no other."""
        try:
            return await self._context.wait_for(lambda: store.trash.restore_run(trashed))
        except RunNameError:
            taken = {summary.run for summary in self._context.summaries or ()}
        numbered = (f"{trashed.name[: LONGEST_NAME - 4]}-{number}" for number in count(2))
        question = AskScreen(
            "Restore under another name",
            next(name for name in numbered if name not in taken),
            partial(check_free, taken=taken),
            about=f"{safe_text(trashed.name, limit=30)} is the name of another run now",
        )
        name = await self._context.ask(question)
        if name is None:
            return None
        return await self._context.wait_for(lambda: store.trash.restore_run(trashed, name))

    def report_if_alive(self, run: RunSummary) -> bool:
        """Return whether the run must be stopped first, and report it."""
        if run.status in LIVING:
            way = "stop it first, on its train pane with {key:stop}"
            self._context.report(f"{run.run} is {run.status}: {way}")
        return run.status in LIVING


async def may_delete(runs: Sequence[RunSummary], app: RnnlmApp) -> bool:
    """Ask before several runs or a pinned one are deleted; for one, `undo` exists."""
    several, pinned = len(runs) > 1, [run.run for run in runs if run.pinned]
    if not several and not pinned:
        # it may have been pinned since the last poll
        labels = await app.wait_for(lambda: read_labels(listed_run(runs[0].run)))
        if not labels.pinned:
            return True
    what = counted(len(runs), "run") if several else "the pinned run"
    question = ConfirmScreen(
        f"Move {what} to the trash?",
        few_names(run.run for run in runs),
        f"pinned: {few_names(pinned)}" if several and pinned else app.with_keys(f"{UNDOES}."),
        "keep them" if several else "keep it",
        f"move {what} to the trash",
    )
    return await app.ask(question) is True


def _delete(name: str) -> Trashed:
    client.slurm.check_no_job(listed_run(name))
    return store.trash.delete_run(listed_run(name))


def _told(names: Sequence[str], what: str) -> str:
    """Return `plain-otter restored`, or `2 runs restored: plain-otter, brisk-heron`."""
    if len(names) == 1:
        return f"{names[0]} {what}"
    return f"{counted(len(names), 'run')} {what}: {few_names(names)}"


def few_names(runs: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    return first_of([safe_text(name, limit=24) for name in runs], SHOWN_NAMES)


def check_free(name: str, *, taken: set[str]) -> None:
    """Raise RunNameError if the name is taken or invalid."""
    check_run_name(name)
    if name in taken:
        raise RunNameError(f'run "{name}" already exists')
