"""CheckpointsScreen: a run's checkpoints, one of them in detail, and its samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from time import time
from typing import TYPE_CHECKING, TypeVar

from textual import getters
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Resize

from rnnlm_tui import client, store
from rnnlm_tui.client.checkpoint_detail import CheckpointDetail
from rnnlm_tui.client.checkpoints import (
    ListedCheckpoint,
    listed,
    weights_words,
)
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.status import RESUMABLE
from rnnlm_tui.store.labels import RunLabels
from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.screens.checkpoint_facts import CheckpointFacts
from rnnlm_tui.tui.screens.log import TensorsScreen
from rnnlm_tui.tui.screens.overlay import ConfirmScreen, note_question, purge_question
from rnnlm_tui.tui.screens.pane import PaneScreen, body_size
from rnnlm_tui.tui.screens.prune import PruneScreen
from rnnlm_tui.tui.screens.trash import TrashScreen
from rnnlm_tui.tui.text import amount, line
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.widgets.checkpoints import (
    CheckpointTable,
    detail_lines,
    sample_lines,
    state_of,
)
from rnnlm_tui.tui.widgets.panel import LinesPanel
from rnnlm_tui.tui.widgets.samples import newlines_of

if TYPE_CHECKING:
    from rnnlm_tui.client.average import StagedAverage
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.store.trash import Trashed

ResultT = TypeVar("ResultT")

AGE_SECONDS = 10.0
"""Seconds between updates of the ages, and between looks at the files."""
SHOWN_STEPS = 4
"""Steps that a message about several checkpoints names."""


def on_checkpoint(
    method: Callable[[CheckpointsScreen, RunDirectory, ListedCheckpoint], ResultT],
) -> Callable[[CheckpointsScreen], ResultT | None]:
    """Call an action with the open run and the checkpoint under the cursor, if there is one."""

    @wraps(method)
    def call(screen: CheckpointsScreen) -> ResultT | None:
        run, item = screen.context.run_directory, screen.table.row
        if run is None or item is None:
            screen.context.report("no checkpoint yet")
            return None
        return method(screen, run, item)

    return call


class CheckpointsScreen(PaneScreen):
    """A run's checkpoints, to sample from, compare, keep and delete."""

    PANE = "checkpoints"
    BINDINGS = bindings_for("checkpoints")
    FIRST_FOCUS = "#checkpoints"
    table = getters.query_one(CheckpointTable)
    DEFAULT_CSS = """
    #checkpoints { height: 9; }
    #checkpoint-below { height: 1fr; }
    CheckpointsScreen.-short #checkpoints { height: 1fr; }
    CheckpointsScreen.-short #checkpoint-below { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._run: RunDirectory | None = None
        """The run whose facts are known."""
        self._facts = CheckpointFacts(self, self.refresh_all)
        self._chosen: set[str] = set()
        """Directories of the checkpoints marked for the next action."""
        self._checking = ""
        """The progress of a verification."""

    def compose_body(self) -> ComposeResult:
        yield CheckpointTable(id="checkpoints")
        with Horizontal(id="checkpoint-below"):
            yield LinesPanel("Step", id="detail")
            yield LinesPanel("Samples", id="samples")

    def on_mount(self) -> None:
        self.set_interval(AGE_SECONDS, self._look_again)

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.height < 20, "-short")
        self._fit_rows()

    # what is shown

    @property
    def _rows(self) -> tuple[CheckpointRow, ...]:
        """The checkpoints and the averages."""
        snapshot = self.snapshot
        return () if snapshot is None else (*snapshot.checkpoints, *snapshot.averages)

    @property
    def _labels(self) -> RunLabels:
        return self.snapshot.labels if self.snapshot is not None else RunLabels()

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:  # noqa: ARG002 (the pane's)
        """Show the run's checkpoints."""
        run, rows = self.context.run_directory, self._rows
        if run != self._run:
            self._run, self._facts = run, CheckpointFacts(self, self.refresh_all)
            self._checking = ""
            self._chosen.clear()
            self.table.show((), 0)
        self._chosen &= {row.path for row in rows}
        if run is not None:
            self._facts.take_rows(run, rows)
        self._show_table()
        self._show_detail()

    def _look_again(self) -> None:
        run = self.context.run_directory
        if self.is_current and self.snapshot is not None and run is not None:
            self._facts.look_at(run, self._rows)
            self._show_table()

    def _show_table(self) -> None:
        problems = {row.path: self._facts.damage(row) for row in self._rows}
        self._fit_rows()
        self.table.legend = self._legend()
        self.table.show(listed(self._rows, self._labels, problems), time(), self._chosen)

    def _fit_rows(self) -> None:
        """Give the table the rows that all checkpoints need, at most a bit less than half."""
        if self.has_class("-short"):
            self.table.styles.height = "1fr"
        else:
            self.table.fit(len(self._rows), body_size(self.app.size).height * 9 // 20)

    def _legend(self) -> Content:
        snapshot = self.snapshot
        if snapshot is None or not snapshot.checkpoints:
            return Content("")
        rows, retention = snapshot.checkpoints, snapshot.config.checkpoint
        every = f", every {retention.keep_every:,}" if retention.keep_every else ""
        kept = f"kept, newest {retention.keep_last}{every} and the best"
        marked = f"{len(self._chosen)} marked" if self._chosen else ""
        now = "".join(f"{words} · " for words in (self._checking, marked) if words)
        size = amount(formatting.disk(sum(row.bytes for row in rows)))
        return line(f"{{}} {'kept' if now else kept} · {{}}", f"{now}{len(rows)}", size)

    def footer_entries(self) -> dict[str, str]:
        """Return the actions for a checkpoint, if there is one."""
        names = ["undo_delete_checkpoint"]
        if self._rows:
            names = [
                "choose_checkpoint", "fork_checkpoint", "pin_checkpoint", "delete_checkpoint",
                "undo_delete_checkpoint", "verify_checkpoint", "export_checkpoint",
                "note_checkpoint", *(["average_checkpoints"] if len(self._chosen) > 1 else []),
                "prune_checkpoints",
            ]  # fmt: skip
        if self.snapshot is not None and self.snapshot.summary.status in ("running", "paused"):
            names.append("checkpoint")
        row, several = self.chosen, f" {len(self._chosen)}" if self._chosen else ""
        words = {
            "pin_checkpoint": "Unpin" if row is not None and row.step in self._labels.pins else "",
            "undo_delete_checkpoint": "Undo",
            "export_checkpoint": "Export",
            "delete_checkpoint": f"Delete{several}",
            "verify_checkpoint": f"Verify{several}",
        }
        return {name: words.get(name, "") for name in (*names, "leave")}

    def _show_detail(self) -> None:
        row, run, snapshot = self.chosen, self.context.run_directory, self.snapshot
        panel, samples = self.query(LinesPanel)
        if row is None or run is None or snapshot is None:
            panel.panel_title = "Step"
            panel.show(lambda *_: [Content.styled("no checkpoint yet", DIM)])
            samples.show(lambda *_: [])
            return
        detail = self._facts.detail(run, row, snapshot) or CheckpointDetail(
            row.step, str(run.path / row.path), damage=self._facts.damage(row)
        )
        panel.panel_title = weights_words(row.path, row.step).replace("step", "Step")
        layers = self._facts.layers(detail)
        panel.show(partial(detail_lines, detail, layers), state_of(detail, time()))
        found = self._facts.samples(run, row.step)
        if found is None:
            return
        note = "" if found.step == row.step else f"at step {found.step:,}"
        sampling, how = snapshot.config.sampling, Content("")
        if not found.samples:
            note = "no samples up to this step"
        elif sampling.is_greedy:
            how = Content.styled("greedy", DIM)
        else:
            how = line("T {} · seed {}", f"{sampling.temperature:g}", sampling.seed)
        layout = newlines_of(snapshot.summary.corpus_layout)
        samples.show(partial(sample_lines, found, note, layout), how)

    # the cursor and the marks

    @property
    def chosen(self) -> CheckpointRow | None:
        """The checkpoint under the cursor."""
        return self.table.row.row if self.table.row is not None else None

    @property
    def targets(self) -> list[ListedCheckpoint]:
        """The checkpoints that a key acts on: all marked ones, or the one under the cursor."""
        paths = self._chosen or {self.table.name_at}
        found = [item for item in self.table.rows if item.row.path in paths]
        return sorted(found, key=lambda item: item.row.step)

    def on_list_panel_highlighted(self) -> None:
        self._show_detail()
        self.refresh_footer()

    @on_checkpoint
    def action_mark_checkpoint(self, _run: RunDirectory, item: ListedCheckpoint) -> None:
        """Mark or unmark the checkpoint, and go to the next."""
        self._chosen ^= {item.row.path}
        self.table.action_move(1)
        self.refresh_all()

    def action_mark_all(self) -> None:
        """Mark all checkpoints, or none if all are marked."""
        paths = {row.path for row in self._rows}
        self._chosen = set() if self._chosen == paths else paths
        self.refresh_all()

    # actions

    @on_checkpoint
    def action_choose_checkpoint(self, _run: RunDirectory, item: ListedCheckpoint) -> None:
        """Sample from the checkpoint."""
        self.context.selected_checkpoint = item.row.path
        self.context.open_pane("prompt")

    @on_checkpoint
    @act
    async def action_fork_checkpoint(self, run: RunDirectory, item: ListedCheckpoint) -> None:
        """Configure a new run that starts from the checkpoint's weights."""
        address = f"{run.name}@{item.name}"
        parent = await self.context.wait_for(lambda: client.start.parent_at(address))
        await self.context.new_draft_from(run.name, parent)

    @on_checkpoint
    @act
    async def action_export_checkpoint(self, run: RunDirectory, item: ListedCheckpoint) -> None:
        """Write the checkpoint in another program's format."""
        from rnnlm_tui.tui.screens.export import ExportScreen

        await self.context.ask(ExportScreen(run, run.path / item.row.path, item.name))
        self.context.watcher.poll_now()

    @act
    async def action_average_checkpoints(self) -> None:
        """Average the marked checkpoints in a separate process; then ask whether to keep the
        result."""
        run, context = self.context.run_directory, self.context
        if run is None or len(self._chosen) < 2:
            way = "{key:mark_checkpoint} marks one"
            context.report(f"mark at least two checkpoints to average: {way}")
            return
        addresses = [f"{run.name}@{item.name}" for item in self.targets]
        self._chosen.clear()
        self.refresh_all()
        count = formatting.counted(len(addresses), "checkpoint")
        context.report(f"averaging and evaluating {count}…")
        staged = await context.wait_for(
            lambda: client.average.average_checkpoints(
                client.average.parts_at(addresses), lambda _progress: None
            )
        )
        if await context.ask(average_question(staged)):
            entry = await context.wait_for(staged.keep)
            context.report_change(f"kept as {staged.run.name}@{entry.name}")
        else:
            await context.wait_for(staged.discard)
            context.report("average discarded")

    @on_checkpoint
    @act
    async def action_pin_checkpoint(self, run: RunDirectory, item: ListedCheckpoint) -> None:
        """Pin or unpin the checkpoint."""
        if item.is_average:
            self.context.report(f"{item.name} is kept until you delete it")
            return
        step = item.row.step
        pinned = step not in self._labels.pins
        await self.context.wait_for(lambda: store.labels.pin_checkpoint(run, step, pinned=pinned))
        what = "pinned" if pinned else "unpinned: deleted when newer ones replace it"
        self.context.report_change(f"step {step:,} {what}")

    @on_checkpoint
    @act
    async def action_note_checkpoint(self, run: RunDirectory, item: ListedCheckpoint) -> None:
        """Edit the checkpoint's note."""
        if item.is_average:
            self.context.report(f"{item.name} can't have a note")
            return
        step = item.row.step
        before = self._labels.notes.get(step, "")
        text = await self.context.ask(note_question(f"Note on step {step:,}", before))
        if text is not None:
            await self.context.wait_for(lambda: store.labels.note_checkpoint(run, step, text))
            self.context.watcher.poll_now()

    @on_checkpoint
    @act
    async def action_delete_checkpoint(self, run: RunDirectory, _item: ListedCheckpoint) -> None:
        """Move the checkpoint, or all marked ones, to the run's trash.

        There is no question, since it can be undone.
        """
        items = self.targets
        averages = [item for item in items if item.is_average]
        if averages:
            await self._remove_averages(run, averages)
        steps = [item.row.step for item in items if not item.is_average]
        if steps:
            self.context.report(f"{_named(steps)}: checking what must be kept …")
            self._deleted(
                *await self.context.wait_for(lambda: store.trash.delete_checkpoints(run, steps))
            )

    async def _remove_averages(self, run: RunDirectory, items: Sequence[ListedCheckpoint]) -> None:
        """Remove averages after a question: they don't go to the trash."""
        names = [item.name for item in items]
        size = formatting.disk(sum(item.row.bytes for item in items))

        def remove() -> None:
            for name in names:
                client.average.remove(run, name)

        title = "Remove these averages?" if len(names) > 1 else "Remove this average?"
        what, proceed = f"{', '.join(names)}: {size}", f"remove, free {size}"
        question = purge_question(title, what, len(names), proceed)
        if await self.context.ask(question):
            await self.context.wait_for(remove)
            self._chosen.clear()
            self.context.report_change(f"{', '.join(names)} removed")

    def _deleted(self, done: Sequence[Trashed], kept: Mapping[int, str]) -> None:
        self._chosen.clear()
        self.context.watcher.poll_now()
        words = []
        if done:
            freed = formatting.disk(sum(one.bytes for one in done))
            steps = _named([one.step for one in done])
            undo = "{key:undo_delete_checkpoint} undoes it"
            words.append(f"{steps} moved to the trash ({freed}), {undo}")
        if kept:
            step, why = next(iter(kept.items()))
            more = f"; {len(kept) - 1} more refused" if len(kept) > 1 else ""
            words.append(f"step {step:,} is kept: {why}{more}")
        self.context.report("; ".join(words), trouble=bool(kept) and not done)
        self._show_table()

    @act
    async def action_undo_delete_checkpoint(self) -> None:
        """Restore what was deleted last, also by another app or by a command."""
        await self._restore(None)

    async def _restore(self, trashed: Sequence[Trashed] | None) -> None:
        run = self.context.run_directory
        if run is None:
            return

        def restore() -> list[Trashed]:
            found = store.trash.last_deleted(run) if trashed is None else list(trashed)
            store.trash.restore_checkpoints(run, found)
            return found

        found = await self.context.wait_for(restore)
        if found:
            self.context.report_change(f"{_named([one.step for one in found])} restored")
        else:
            self.context.report("nothing to undo: the run's trash is empty")

    @act
    async def action_show_checkpoint_trash(self) -> None:
        """Show the deleted checkpoints."""
        if (run := self.context.run_directory) is not None:
            wanted = await self.context.ask(TrashScreen(run))
            if wanted is not None:
                await self._restore([wanted])

    @on_checkpoint
    @act
    async def action_prune_checkpoints(self, run: RunDirectory, _item: ListedCheckpoint) -> None:
        """Choose which checkpoints to keep."""
        if self.snapshot is None:
            return
        choice = await self.context.ask(PruneScreen(run, self.snapshot.config))
        if choice is None:
            return
        steps, permanently = choice
        done, kept = await self.context.wait_for(lambda: store.trash.delete_checkpoints(run, steps))
        if not permanently or not done:
            self._deleted(done, kept)
            return
        freed = await self.context.wait_for(lambda: store.trash.purge(done))
        self._chosen.clear()
        self.context.report_change(
            f"{formatting.counted(len(done), 'checkpoint')} removed, {formatting.disk(freed)} freed"
        )

    def action_tensors(self) -> None:
        """Show all tensors with their shapes, sizes and changes."""
        row, snapshot = self.chosen, self.snapshot
        run = self.context.run_directory
        detail = self._facts.detail(run, row, snapshot) if run and row and snapshot else None
        if detail is None or not detail.tensors:
            problem = detail.tensor_problem or detail.damage if detail is not None else ""
            self.context.report(problem or "no tensors to show yet")
            return
        self.app.push_screen(TensorsScreen(detail, self._facts.tensors(detail)))

    @on_checkpoint
    def action_verify_checkpoint(self, run: RunDirectory, _item: ListedCheckpoint) -> None:
        """Check all files of the checkpoint, or of all marked ones, against their hashes."""
        rows, snapshot = [item.row for item in self.targets], self.snapshot
        if snapshot is None:
            return
        if len(rows) == 1:
            self.context.report(f"checking step {rows[0].step:,} …")
        self.run_worker(self._verify(run, snapshot, rows), group="verify", exclusive=True)

    async def _verify(
        self, run: RunDirectory, snapshot: RunSnapshot, rows: Sequence[CheckpointRow]
    ) -> None:
        """Verify checkpoints one after the other, with the progress in the table's edge."""
        files, damaged = 0, []
        for number, row in enumerate(rows, 1):
            if len(rows) > 1:
                self._checking = f"verifying {number} of {len(rows)} …"
                self.table.legend = self._legend()
            intact = await self._facts.verify(run, row, snapshot, time())
            if run != self.context.run_directory:
                return
            files += intact
            if not intact:
                damaged.append(row)
        self._checking = ""
        words = formatting.counted(files, "file")
        if damaged:
            await self._report_damage(run, snapshot, damaged)
        elif len(rows) == 1:
            self.context.report(f"step {rows[0].step:,}: all {words} verified")
        else:
            self._chosen.clear()
            count = formatting.counted(len(rows), "checkpoint")
            self.context.report(f"{count} verified: all {words} are as they were written")
        self.refresh_all()

    async def _report_damage(
        self, run: RunDirectory, snapshot: RunSnapshot, damaged: Sequence[CheckpointRow]
    ) -> None:
        """Report damaged checkpoints, and the newest other one whose files match their hashes."""
        instead = "no other checkpoint is intact"
        for row in reversed(snapshot.checkpoints):
            if row not in damaged and await self._facts.verify(run, row, snapshot, time()):
                instead = (
                    f"{{key:pause}} on Train resumes at step {row.step:,}"
                    if snapshot.summary.status in RESUMABLE
                    else f"step {row.step:,} is intact: {{key:choose_checkpoint}} samples from it"
                )
                break
        steps = sorted({row.step for row in damaged})
        verb = "is" if len(steps) == 1 else "are"
        self.context.report(f"{_named(steps)} {verb} damaged; {instead}", trouble=True)


def average_question(staged: StagedAverage) -> ConfirmScreen:
    """Return the question whether to keep an average, with its perplexity and its best part's."""
    rows = staged.lines()
    _, figure, difference = rows[-1]
    best = min(zip(staged.result.parts, rows, strict=False), key=lambda pair: pair[0].loss)[1]
    verdict = "better" if staged.is_better else "not better"
    return ConfirmScreen(
        "Keep the average?",
        f"perplexity {figure}, {verdict} than its best part ({difference})",
        f"{best[0]}: {best[1]}. Weights only: it can't be resumed.",
        "discard it",
        "keep it",
    )


def _named(steps: Sequence[int]) -> str:
    """`step 3,000`, or `5 checkpoints (100, 200, 300, 400 …)`."""
    if len(steps) == 1:
        return f"step {steps[0]:,}"
    shown = ", ".join(f"{step:,}" for step in steps[:SHOWN_STEPS])
    more = " …" if len(steps) > SHOWN_STEPS else ""
    return f"{formatting.counted(len(steps), 'checkpoint')} ({shown}{more})"
