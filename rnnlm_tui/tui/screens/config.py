"""ConfigScreen: the form of a new run, or the frozen config of an existing one.

A changed draft is kept as a run that was never started, and edited here again when that run is
opened. Every edit can be undone: a field, a whole preset, or a file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.events import Resize, ScreenResume, ScreenSuspend

from rnnlm_tui import client, store
from rnnlm_tui.errors import ConfigError, InputError, Problem, RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import Action, action, bindings_for
from rnnlm_tui.tui.screens.config_check import DraftCheck, Findings, look_up
from rnnlm_tui.tui.screens.config_files import ConfigFiles, KeptDraft, read_draft
from rnnlm_tui.tui.screens.config_questions import ask_run, ask_value, browse, field_question
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.threads import act, to_thread
from rnnlm_tui.tui.views.editing import (
    AdjustmentCycle,
    ComparisonCycle,
    EditHistory,
    changed_fields,
    draft_identity,
    draft_keys,
    edit_text,
)
from rnnlm_tui.tui.views.form import (
    TITLES,
    Draft,
    adjustment_text,
    draft_of,
    field_of,
    followed_tokenizer,
    section_title,
)
from rnnlm_tui.tui.widgets.estimate_panel import EstimatePanel, machine_capacity
from rnnlm_tui.tui.widgets.form import ConfigForm, SectionList, form_legend
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.queue import QueuedRun
    from rnnlm_tui.store.paths import RunDirectory


FROZEN = "a run's config never changes: n makes a new run from it"
STARTED = "this run has started: n makes a new run from it"


class ConfigScreen(PaneScreen):
    """Edits and starts a draft, or shows a run's config to base a new run on."""

    PANE = "config"
    FIRST_FOCUS = "#field-corpus-source"
    BINDINGS = bindings_for("config")
    DEFAULT_CSS = """
    #config-body { layout: vertical; height: 100%; }
    #config-top { height: 1fr; }
    #sections { width: 17; }
    #form-box { width: 1fr; height: 100%; padding: 0; }
    #gives { height: 7; }
    ConfigScreen.-wide #config-body { layout: horizontal; }
    ConfigScreen.-wide #config-top { height: 100%; width: 2fr; }
    ConfigScreen.-wide #sections { display: none; }
    ConfigScreen.-wide #gives { width: 40; height: 100%; }
    ConfigScreen.-short #gives { display: none; }
    ConfigScreen.-compared #sections { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: KeptDraft | None = None
        """The draft being edited; None while a run's frozen config is shown."""
        self._reading: RunDirectory | None = None
        """The run whose draft is being read."""
        self._keep_problem = ""
        """Why the draft couldn't be kept, which was reported."""
        self._shared: RunConfig | None = None
        """The app's draft when this screen last read or set it."""
        self._check = DraftCheck()
        self._history = EditHistory()
        self._cycle = ComparisonCycle()
        self._files = ConfigFiles(self)
        self._adjusting = AdjustmentCycle()
        self._taken_size: int | None = None
        """Vocabulary size of the pretrained tokenizer at the last check."""

    def compose_body(self) -> ComposeResult:
        with Container(id="config-body"):
            with Horizontal(id="config-top"):
                yield SectionList(id="sections")
                with TitledContainer(id="form-box"):
                    wide = self.app.size.width >= WIDE_FROM
                    yield ConfigForm(Draft(DEMO, "preset demo"), self.edit, wide=wide, id="form")
            yield EstimatePanel(id="gives")

    # what is shown

    @property
    def _editing(self) -> Draft | None:
        return self._kept.draft if self._kept is not None else None

    @property
    def shown(self) -> Draft | None:
        """The draft, or the open run's config; None while that is being read."""
        if self._editing is not None:
            return self._editing
        if self.snapshot is None:
            return None
        return Draft(self.snapshot.config, safe_text(self.snapshot.summary.run, limit=40))

    @property
    def run_name(self) -> str:
        """The name of the draft's run, or of the open run."""
        run = self.context.run_directory
        if self._kept is not None:
            return self._kept.name
        return "" if run is None else run.name

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._check.blocking

    def on_screen_resume(self, _event: ScreenResume) -> None:
        self._load_draft()

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        if self.app.current_mode != self.PANE:  # else an overlay was opened
            self.let_go()

    def on_resize(self, event: Resize) -> None:
        wide = event.size.width >= WIDE_FROM
        self.set_class(wide, "-wide")
        self.set_class(not wide and event.size.height < 20, "-short")
        self.form.set_wide(wide or self._cycle.current is not None)

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:  # noqa: ARG002 (the pane's)
        """Show the draft, or the open run's frozen config."""
        self._load_draft()
        self._show()

    def show_machine(self) -> None:
        super().show_machine()
        self._show()

    def identity(self, width: int) -> Content:
        """Return the draft's name and base; a draft has no status yet."""
        draft = self._editing
        if draft is None:
            return super().identity(width)
        return draft_identity(draft, self.run_name, width, wide=self.has_class("-wide"))

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        """Return the actions for a draft or an existing run.

        While a field is edited, the keys that end that.
        """
        # no form while the pane is mounted or removed
        if any(form.editing for form in self.query(ConfigForm)):
            return [
                (action("edit_field"), "Keep"),
                (action("leave_field"), "Cancel"),
                (action("next_field"), "Keep, next"),
                (action("next_section"), ""),
            ]
        if self.locked:
            names = [
                "next_field",
                "next_section",
                "new_from_run",
                "next_comparison",
                "find_field",
                "leave",
            ]
        else:
            rows = [form.current for form in self.query(ConfigForm)]
            names = draft_keys(
                self._check.problems, next((row.field.path for row in rows if row is not None), "")
            )
        return [(action(name), "") for name in names]

    @property
    def _run_status(self) -> str:
        return self.snapshot.summary.status if self.snapshot is not None else ""

    def _show(self) -> None:
        draft = self.shown
        if draft is None or not self.is_mounted:
            return
        config, check = draft.nearest_config(), self._check
        check.check(draft, locked=self.locked)
        self._lay_out()
        self.form.show(
            draft,
            check.problems,
            locked=self.locked,
            facts=check.facts,
            preview=check.preview,
            comparison=self._cycle.current,
        )
        self._show_titles()
        if check.needs_estimate(config):
            self._estimate(config)
        summary = self.snapshot.summary if self.snapshot is not None and self.locked else None
        kept = summary.checkpoints if summary is not None and summary.status not in LIVING else None
        self.query_one(EstimatePanel).show(
            check.estimate,
            draft,
            check.blocking,
            machine_capacity(self.context.machine, config.training.device, check.estimate),
            started=self.locked,
            kept=kept,
        )
        self.refresh_frame()

    def _lay_out(self) -> None:
        """Show all sections in one column if there is room, or in a comparison."""
        compared = self._cycle.current is not None
        self.set_class(compared, "-compared")
        self.form.set_wide(compared or self.has_class("-wide"))

    def _show_titles(self) -> None:
        draft, section, wide = self.shown, self.form.section, self.has_class("-wide")
        if draft is None:
            return
        box = self.query_one("#form-box", TitledContainer)
        compared = self._cycle.current
        box.panel_title = (
            f"Only what differs from {safe_text(compared.name, newlines='space', limit=28)}"
            if compared is not None
            else "Configuration"
            if wide
            else section_title(section)
        )
        box.legend = form_legend(
            draft,
            self._check.problems,
            None if wide or compared is not None else section,
            locked=self.locked,
        )
        self.query_one(SectionList).show(draft, self._check.problems, section)

    @work(group="estimate", exclusive=True)
    async def _estimate(self, config: RunConfig) -> None:
        """Estimate a config in a thread, because that reads the disk."""
        try:
            found = await to_thread(look_up, config)
        except (RnnlmError, OSError) as error:
            self.context.report_error(error)
            return
        if not self._follow_tokenizer(found):
            self._check.update(found)
        self._show()

    def _follow_tokenizer(self, found: Findings) -> bool:
        """Use a pretrained tokenizer's vocabulary size, and drop it with the tokenizer.

        A size that the user has set stays. Return whether the draft changed.
        """
        draft, kept = self._editing, self._kept
        if kept is None or draft is None or found.config != draft.nearest_config():
            return False
        # not an edit of the user: it is undone with the one before
        followed = followed_tokenizer(draft, found.tokenizer_size, self._taken_size)
        self._taken_size = found.tokenizer_size
        if followed is draft:
            return False
        kept.draft = followed
        self._share_draft()
        return True

    # the draft

    @property
    def locked(self) -> bool:
        """Whether a run's frozen config is shown."""
        return self._kept is None

    @property
    def _is_open(self) -> bool:
        """Whether the app has the edited draft open: no other one, and no other run."""
        context, kept = self.context, self._kept
        if kept is None:
            return False
        if kept.run is None:
            return context.draft is self._shared
        return context.draft is None and context.run_directory == kept.run

    def _load_draft(self) -> None:
        """Take the app's draft, that of the open run, or a new one if no run is open."""
        context, run = self.context, self.context.run_directory
        if context.draft is None and run is None:
            context.draft, context.draft_from, context.draft_parent = DEMO, "", None
        given = context.draft
        if self._is_open and (given is not None or self._run_status in ("", "draft")):
            return
        if given is not None:
            origin = safe_text(context.draft_from, limit=40)
            self._begin(
                Draft(given, origin, parent=context.draft_parent) if origin else draft_of(given)
            )
            return
        self.let_go()
        self._kept = None
        if run is not None and self._run_status == "draft":
            self._read_draft(run)

    def _read_draft(self, run: RunDirectory) -> None:
        """Edit the draft that the open run keeps."""

        def found(draft: Draft) -> None:
            self._reading = None
            context = self.context
            if self._kept is None and context.run_directory == run and context.draft is None:
                self._begin(draft, run)
                self._show()

        if self._reading != run:
            self._reading = run
            self.context.in_thread(lambda: read_draft(run), found)

    def _begin(self, draft: Draft, run: RunDirectory | None = None) -> None:
        self.let_go()
        self._kept = KeptDraft(draft, run)
        self._shared = self.context.draft = None
        self._history.clear()
        self._cycle.reset()
        self._files.forget_path()
        self._share_draft()
        if run is None:
            self._suggest_name()

    def _suggest_name(self) -> None:
        kept = self._kept

        def suggested(name: str) -> None:
            if kept is not None and not kept.name:
                kept.name = name
                self.refresh_frame()

        self.context.in_thread(lambda: store.runs.suggest_name(), suggested)

    def _share_draft(self) -> None:
        """Keep the newest state on disk, and tell the app about a draft that no run keeps yet."""
        if self._kept is None:
            return
        if self._kept.run is None and self._is_open:
            self._shared = self.context.draft = self._kept.draft.nearest_config()
        # what is being typed may still be cancelled
        if not self._kept.is_kept and not self.form.editing:
            self._keep()

    def _keep(
        self,
        then: Callable[[RunDirectory], Awaitable[None] | None] | None = None,
        *,
        on_purpose: bool = False,
    ) -> None:
        """Write the draft in a thread, then open the run that keeps it.

        Args:
            then: called with that run.
            on_purpose: keep the draft without changes too.
        """
        kept = self._kept
        if kept is None:
            return
        kept.stays |= on_purpose
        if (deleted := kept.ask()) is not None:
            self.context.watcher.mark_removed(deleted.name)

        def written(run: RunDirectory | None) -> Awaitable[None] | None:
            self._keep_problem = ""
            self._follow(kept)
            return then(run) if run is not None and then is not None else None

        def failed(error: RnnlmError | OSError) -> None:
            """Report a problem once, not with each key on a disk that is full or read-only."""
            self._follow(kept)
            known, self._keep_problem = self._keep_problem, str(error)
            if then is not None or known != self._keep_problem:
                self.context.report_error(error)

        self.context.in_thread(kept.write, written, failed)

    def let_go(self) -> None:
        """Keep the draft with what is being typed: nothing is lost, or gets into another draft.

        From now on it stays without changes too: it may be pinned or queued elsewhere.
        """
        kept = self._kept
        if kept is None:
            return
        # no form while the pane is mounted or removed
        for form in self.query(ConfigForm):
            form.keep_typed()
        kept.stays |= bool(kept.draft.changes) or kept.draft.parent is not None
        if not kept.is_kept:
            self._keep()

    def _follow(self, kept: KeptDraft) -> None:
        """Open the run that keeps the draft now, or none if it was deleted with the last change.

        While another write is under way, that one is followed.
        """
        context, before = self.context, kept.run
        was_open = kept is self._kept and self._is_open
        if not kept.end_write():
            return
        if kept.run is not None:
            context.watcher.unmark_removed(kept.run.name)
        if not was_open or kept.run is before:
            return
        self._shared = context.draft = None if kept.run else kept.draft.nearest_config()
        if context.run_directory in (None, before) or self.app.current_mode == self.PANE:
            context.close_run()  # also one of the same name, which was deleted meanwhile
            if kept.run is not None:
                context.select_run(kept.run)
        context.watcher.poll_now()
        self.refresh_frame()

    # the form

    @property
    def form(self) -> ConfigForm:
        return self.query_one("#form", ConfigForm)

    def edit(self, draft: Draft, group: str = "") -> None:
        """Replace the draft, which can be undone.

        Edits of one group in a row are undone together.
        """
        if self._editing is not None:
            self._history.record(self._editing, draft, group)
            self._replace(draft)

    def keep_document(self, draft: Draft, text: str) -> None:
        """Keep the TOML text that a draft was saved as, unless it has changed meanwhile."""
        if self._kept is not None and self._kept.draft == draft and draft.document != text:
            self._kept.draft = replace(draft, document=text)
            self._share_draft()

    def _replace(self, draft: Draft) -> None:
        if self._kept is not None:
            self._kept.draft = draft
            self._share_draft()
        self._show()

    def on_config_form_focus_moved(self, _event: ConfigForm.FocusMoved) -> None:
        self._show_titles()
        self.refresh_footer()
        if self._kept is not None and not self._kept.is_kept:
            self._share_draft()

    def on_section_list_chosen(self, event: SectionList.Chosen) -> None:
        self.form.open_section(event.section)

    @act
    async def on_config_form_edit_requested(self, event: ConfigForm.EditRequested) -> None:
        if self.locked:
            self.context.report(FROZEN)
        else:
            await ask_value(self.context, self.form, event.row)

    def action_move_field(self, by: int) -> None:
        """Go to the field `by` places after this one."""
        self.form.move(by)

    def action_move_section(self, by: int) -> None:
        """Go to the section `by` places after this one."""
        self.form.move_section(by)

    def action_turn(self, by: int) -> None:
        """Take the field's choice `by` places after the current one."""
        self.form.turn(by)

    def action_edit_field(self) -> None:
        self.form.edit()

    @act
    async def action_browse_files(self) -> None:
        """Browse for a text, or in the section of the tokenizer for a tokenizer."""
        if self._editing is None:
            self.context.report(FROZEN)
        else:
            await browse(self.context, self.form, self._editing)

    def action_reset_field(self) -> None:
        self.form.reset()

    # actions

    def action_leave_field(self) -> None:
        """Keep the focus on `esc` in a field that isn't edited."""

    def action_next_problem(self) -> None:
        if self._check.problems:
            self.form.next_problem()
        else:
            self.context.report("no problems")

    def action_travel(self, direction: int) -> None:
        """Undo (-1) or redo (1) an edit, go to its field and say what has changed."""
        before = self._editing
        if before is None:
            self.context.report(FROZEN)
            return
        if self._is_typing():
            return
        draft = self._history.undo(before) if direction < 0 else self._history.redo(before)
        word = "undone" if direction < 0 else "redone"
        if draft is None:
            self.context.report(f"nothing to be {word}")
            return
        if draft.base_name != before.base_name:
            self._files.forget_path()
        self._replace(draft)
        changed = changed_fields(before, draft)
        if len(changed) == 1:
            self.form.go_to(changed[0])
        self.context.report(f"{word}: {safe_text(edit_text(before, draft), newlines='space')}")

    def _is_typing(self) -> bool:
        """Whether a field's editor is open, whose text would replace what an action changes."""
        if self.form.editing:
            self.context.report("enter keeps what you typed, esc cancels it: then press the key")
        return self.form.editing

    def action_toggle_field(self) -> None:
        if not self.form.toggle():
            self.context.report("space switches yes and no: enter edits this field")

    @act
    async def action_find_field(self) -> None:
        path = await self.context.ask(field_question(self.form))
        if path:
            self._cycle.show_if_differing(path, self.shown)
            self._show()
            self.form.go_to(path)

    @act
    async def action_next_comparison(self) -> None:
        """Show only what differs from the next config: base, preset, defaults, a run; then all."""
        draft, run = self.shown, self.context.run_directory
        if draft is None:
            return
        advanced = self._cycle.advance(draft)
        self._show()
        if not advanced:
            comparison = await ask_run(self.context, run.name if run and self.locked else "")
            if comparison is not None:
                self._cycle.show(comparison)
                self._show()

    def action_adjust_field(self) -> None:
        """Solve the selected field's problem, or the first one; again: in another way."""
        draft = self._editing
        if draft is None:
            self.context.report(FROZEN)
            return
        row = self.form.current
        path = row.field.path if row is not None else ""
        found = self._adjusting.next(draft, self._check.problems, path)
        if found is None:
            wrong = self._check.problems
            self.context.report("no suggestion for this problem" if wrong else "no problems")
            return
        if found.before != draft and self._kept is not None:  # in place of the last one
            self._history.undo(draft)
            self._kept.draft = found.before
        self.edit(found.after)
        self.form.go_to(found.adjustment.changes[0][0])
        words = f"set {adjustment_text(found.adjustment)}; F6 undoes it"
        self.context.report(f"{words}, A: another way" if found.others else words)

    def begin_from(self, draft: Draft) -> None:
        """Begin again from a preset, a run or a file; F6 brings the former draft back.

        A draft with a parent stays in the list of runs: its run can start from no other weights.
        """
        before = self._editing
        if before is None or before.parent is not None:
            context = self.context
            context.draft, context.draft_from, context.draft_parent = None, "", None
            self._begin(draft)
            self._show()
            return
        self.edit(draft)
        self._cycle.reset()
        self._show()
        lost = len(before.changes)
        undo = f": F6 brings back {counted(lost, 'change')}" if lost else ""
        self.context.report(f"{safe_text(draft.base_name, limit=40)}{undo}")

    @act
    async def action_choose_preset(self) -> None:
        await self._files.begin()

    @act
    async def action_open_config(self) -> None:
        if not self._is_typing():
            await self._files.open()

    @act
    async def action_write_config(self) -> None:
        await self._files.save()

    @act
    async def action_edit_toml(self) -> None:
        if not self._is_typing():
            await self._files.edit()

    def action_new_from_run(self) -> None:
        if not self.locked or self.snapshot is None:
            self.context.report("this is a new run already")
            return
        self.context.draft, self.context.draft_from = None, self.snapshot.summary.run
        self.context.draft_parent = None
        self._begin(Draft(self.snapshot.config, safe_text(self.snapshot.summary.run, limit=40)))
        self._show()

    def action_save_draft(self) -> None:
        """Keep an unchanged draft too: it becomes a run that isn't started."""
        self._keep(
            lambda run: self.context.report(f"{run.name} saved, F5 starts it"),
            on_purpose=True,
        )

    def action_start_draft(self) -> None:
        if (config := self._ready()) is not None:
            self._check.forget_failure()

            async def start(run: RunDirectory) -> None:
                try:
                    await self.context.commands.start(config, run)
                except InputError as error:
                    self._refuse(config, error)

            self._keep(start, on_purpose=True)

    def action_queue_draft(self) -> None:
        if (config := self._ready()) is not None:
            self._check.forget_failure()
            self.context.report("adding it to the queue…")

            def add(run: RunDirectory) -> QueuedRun:
                client.start.check_draft_before_start(run)
                return client.queue.add_run(run)

            self._keep(
                lambda run: self.context.in_thread(
                    lambda: add(run), self._queued, partial(self._refuse, config)
                ),
                on_purpose=True,
            )

    def _queued(self, queued: QueuedRun) -> None:
        self.context.watcher.poll_now()
        self.context.report(f"{queued.run} waits in the queue, place {queued.place}")

    def _refuse(self, config: RunConfig, error: RnnlmError | OSError) -> None:
        """Show why no run was created, beside the field that caused it."""
        path = None
        if isinstance(error, InputError) and not self.locked:
            path = self._check.start_failed(config, error)
        if path is None:
            self.context.report_error(error)
            return
        self._show()
        self.form.go_to(path)
        self.context.report(f"not started: see {TITLES[path]}", trouble=True)

    def _ready(self) -> RunConfig | None:
        """Return the draft's config if it is valid. Else go to the first problem and report it."""
        draft = self._editing
        if draft is None:
            self.context.report(STARTED)
            return None
        blocking = self._check.blocking
        if blocking:
            if "." in blocking[0].path:
                self.form.go_to(field_of(blocking[0]))
            self.context.report(
                f"Fix {counted(len(blocking), 'problem')} before starting, g goes to the next one",
                trouble=True,
            )
            return None
        try:
            return draft.config()
        except ConfigError as error:
            self.context.report_error(error)
            return None
