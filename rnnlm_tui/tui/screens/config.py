"""ConfigScreen: the form of a new run, or the frozen config of an existing one.

A changed draft is kept as a run that was never started, and edited here again when that run is
opened. Every edit can be undone: a field, a whole preset, or a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.events import Resize, ScreenSuspend

from rnnlm_tui import client, store
from rnnlm_tui.errors import Adjustment, InputError, RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import counted, scientific
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.rules import RATE
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT
from rnnlm_tui.tui.screens.config_check import DraftCheck, ShownEstimate, look_up
from rnnlm_tui.tui.screens.config_files import (
    KeptDraft,
    ask_beginning,
    ask_file,
    ask_new_path,
    ask_run,
    ask_value,
    browse,
    draft_toml,
    edit_as_toml,
    field_question,
    read_draft,
    remember_file,
)
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.screens.run_commands import start
from rnnlm_tui.tui.text import line, safe_content, safe_text
from rnnlm_tui.tui.threads import act, to_thread
from rnnlm_tui.tui.views.form import (
    FIELDS,
    PATH_FIELDS,
    Draft,
    adjustment_text,
    by_field,
    changed_fields,
    comparisons,
    edit_text,
    field_of,
    idle_fields,
)
from rnnlm_tui.tui.widgets.form import CHANGED, LEAD, WRONG, Form, SectionList
from rnnlm_tui.tui.widgets.panel import LinesPanel, TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.store.paths import RunDirectory


FROZEN = "a run's config never changes: {key:new_from_run} makes a new run from it"
STARTED = "this run has started: {key:new_from_run} makes a new run from it"
TYPING = "{key:edit_field} keeps what you typed, {key:leave_field} cancels it: then press the key"


class ConfigScreen(PaneScreen):
    """Edits and starts a draft, or shows a run's config to base a new run on."""

    PANE = "config"
    FIRST_FOCUS = "#form"
    BINDINGS = bindings_for("config")
    DEFAULT_CSS = """
    #config-body { layout: vertical; height: 100%; }
    #config-top { height: 1fr; }
    #sections { width: 18; }
    #form-box { width: 1fr; height: 100%; padding: 0; }
    #form { padding: 0 1; }
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
        self.form = Form(Draft(DEMO, "preset demo"), self.edit, id="form")
        self._kept: KeptDraft | None = None
        """The draft being edited; None while a run's frozen config is shown."""
        self._reading: RunDirectory | None = None
        """The run whose draft is being read."""
        self._check = DraftCheck()
        self._adjusted: tuple[Draft, Draft, Sequence[Adjustment]] | None = None
        """The draft before the last adjustment and after it, and what could be set instead."""

    def compose_body(self) -> ComposeResult:
        with Container(id="config-body"):
            with Horizontal(id="config-top"):
                yield SectionList("Sections", id="sections")
                yield TitledContainer(self.form, id="form-box")
            yield LinesPanel("Estimate", id="gives")

    # what is shown

    @property
    def shown(self) -> Draft | None:
        """The draft, or the open run's config; None while that is being read."""
        if self._kept is not None:
            return self._kept.draft
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

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        if self.app.current_mode != self.PANE:  # else an overlay was opened
            self.let_go()

    def on_resize(self, event: Resize) -> None:
        wide = event.size.width >= WIDE_FROM
        self.set_class(wide, "-wide")
        self.set_class(not wide and event.size.height < 20, "-short")
        self._show()

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:  # noqa: ARG002 (the pane's)
        """Show the draft, or the open run's frozen config."""
        self._load_draft()
        self._show()

    def show_machine(self) -> None:
        super().show_machine()
        self._show()

    def identity(self, width: int) -> Content:
        """Return the draft's name and base; a draft has no status yet."""
        kept, wide = self._kept, self.has_class("-wide")
        if kept is None:
            return super().identity(width)
        draft, parent = kept.draft, kept.draft.parent
        name = safe_content(kept.name or "new run").stylize(f"bold {BRIGHT}")
        if parent is not None:
            optimizer = ", optimizer kept" if parent.optimizer == "keep" and wide else ""
            fork = f"draft, fork of {safe_text(parent.address, limit=70)}{optimizer}"
            return line("{} ○ {}", name, fork)
        brief = line("{} ○ {}", name, "draft, not started")
        is_preset = draft.base_name.startswith("preset ")
        kind, of = ("preset", draft.base.preset) if is_preset else ("from", draft.base_name)
        more = line("{}   " + kind + " {}", brief, safe_text(of, limit=40))
        return more if more.cell_length <= width and (wide or not is_preset) else brief

    def footer_entries(self) -> dict[str, str]:
        """Return the actions for a draft or an existing run.

        While a field is edited, the keys that end that.
        """
        if self.form.editing:
            verbs = {"edit_field": "Keep", "leave_field": "Cancel", "next_field": "Keep, next"}
            return verbs | {"next_section": ""}
        names = "next_field next_section new_from_run next_comparison find_field leave"
        if not self.locked:
            problems = self._check.problems
            browse = "browse_files" if self.form.path in PATH_FIELDS else ""
            problem = "next_problem" if problems else ""
            adjust = "adjust_field" if any(one.adjustments for one in problems) else ""
            names = (
                f"next_field next_section edit_field {browse} reset_field choose_preset {problem}"
                f" {adjust} save_draft next_comparison find_field start_draft"
            )
        return dict.fromkeys(names.split(), "")

    def _show(self) -> None:
        draft = self.shown
        if draft is None or not self.is_attached:
            return
        config, check = draft.nearest_config(), self._check
        check.check(draft, config, locked=self.locked)
        form = self.form
        form.locked, form.facts, form.preview = self.locked, check.found.facts, check.found.preview
        # all sections are in one column if there is room, or in a comparison
        self.set_class(form.comparison is not None, "-compared")
        form.lead = LEAD if form.comparison is not None or self.has_class("-wide") else 0
        form.show(draft, check.problems, idle_fields(config))
        self._show_titles()
        if check.needs_estimate(config):
            self._estimate(config)
        estimate, machine = check.found.estimate, self.context.machine
        run = self.snapshot.summary if self.snapshot is not None and self.locked else None
        shown = ShownEstimate(estimate, draft, check.blocking, machine, run)
        legend = shown.legend(wide=self.has_class("-wide"))
        self.query_one("#gives", LinesPanel).show(shown.lines, legend)
        self.refresh_frame()

    def _show_titles(self) -> None:
        """Show what the form shows, and how many changes and problems that has."""
        draft, form = self.shown, self.form
        if draft is None:
            return
        marked = [(path, CHANGED) for path in draft.changes]
        marked += [(field_of(problem), WRONG) for problem in self._check.problems]
        title, begins = "Configuration", ""
        if form.comparison is not None:
            name = safe_text(form.comparison.base_name, newlines="space", limit=28)
            title = f"Only what differs from {name}"
        elif not form.lead:
            title, begins = form.section.capitalize(), f"{form.section}."
        legend = []
        if self.locked:
            key = (self.key_of("new_from_run"), f"bold {TEXT}")
            legend.append(line("frozen  {} makes a new run from it", key))
        here = [mark for path, mark in marked if path.startswith(begins)]
        if changed := here.count(CHANGED):
            legend.append(Content.assemble(CHANGED, (f" {changed} changed", DIM)))
        if wrong := here.count(WRONG):
            legend.append(Content.styled(f"✗ {counted(wrong, 'problem')}", BAD))
        box = self.query_one("#form-box", TitledContainer)
        box.panel_title, box.legend = title, Content("  ").join(legend)
        self.query_one(SectionList).show_sections(marked, form.section)

    @work(group="estimate", exclusive=True)
    async def _estimate(self, config: RunConfig) -> None:
        """Estimate a config in a thread, because that reads the disk."""
        try:
            found = await to_thread(look_up, config)
        except (RnnlmError, OSError) as error:
            self.context.report_error(error)
            return
        self._check.found = found
        if (kept := self._kept) is not None:
            self._follow_tokenizer(kept, found.tokenizer_size)
        self._show()

    def _follow_tokenizer(self, kept: KeptDraft, size: int | None) -> None:
        """Take the vocabulary of the pretrained tokenizer, unless the user has set one.

        That is no edit of its own: it is undone with the one before.
        """
        draft, path = kept.draft, "tokenizer.vocab_size"
        if draft.changes.get(path, kept.tokenizer_size) == kept.tokenizer_size:
            followed = draft.without(path) if size is None else draft.with_value(path, size)
            if followed != draft:
                self._take(followed)
        kept.tokenizer_size = size

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
            return context.draft is kept.draft
        return context.draft is None and context.run_directory == kept.run

    def _load_draft(self) -> None:
        """Take the app's draft, that of the open run, or a new one if no run is open."""
        context, run = self.context, self.context.run_directory
        if context.draft is None and run is None:
            context.draft = Draft(DEMO, "preset demo")
        given, snapshot = context.draft, self.snapshot
        status = snapshot.summary.status if snapshot is not None else ""
        if self._is_open and (given is not None or status in ("", "draft")):
            return
        if given is not None:
            self._begin(given)
            return
        self.let_go()
        self._kept = None
        if run is not None and status == "draft" and self._reading != run:
            self._reading = run
            context.run_beside(self._read_draft(run))

    async def _read_draft(self, run: RunDirectory) -> None:
        """Edit the draft that the open run keeps."""
        context = self.context
        draft = await context.wait_for(lambda: read_draft(run))
        self._reading = None
        if self._kept is None and context.run_directory == run and context.draft is None:
            self._begin(draft, run)
            self._show()

    def _begin(self, draft: Draft, run: RunDirectory | None = None) -> None:
        self.let_go()
        self._kept = KeptDraft(draft, run)
        self.context.draft = None if run else draft
        self.form.compare(None)
        self._keep_changes()
        if run is None:
            self.context.run_beside(self._suggest_name(self._kept))

    async def _suggest_name(self, kept: KeptDraft) -> None:
        name = await self.context.wait_for(lambda: store.runs.suggest_name())
        kept.name = kept.name or name
        self.refresh_frame()

    def _take(self, draft: Draft) -> None:
        """Edit this state of the draft from now on: the app's, until a run keeps it."""
        if (kept := self._kept) is not None:
            if self.context.draft is kept.draft:
                self.context.draft = draft
            kept.draft = draft
            self._keep_changes()

    def _keep_changes(self) -> None:
        # what is being typed may still be cancelled
        if (kept := self._kept) is not None and not kept.is_kept and not self.form.editing:
            self.context.run_beside(self._write(kept))

    async def _write(self, kept: KeptDraft) -> RunDirectory | None:
        """Write a draft in a thread, then open the run that keeps it, and return that.

        A problem is reported once, not with each key on a disk that is full or read-only.
        """
        kept.writes += 1
        if kept.run is not None and kept.wanted is None:
            self.context.watcher.removed.add(kept.run.name)
        run, known, kept.problem = None, kept.problem, ""
        try:
            run = await self.context.wait_for(kept.write)
        except (RnnlmError, OSError) as error:
            kept.problem = str(error)
            if kept.problem != known:
                self.context.report_error(error)
        kept.writes -= 1
        if not kept.writes:  # else the next one is followed
            self._follow(kept)
        return run

    async def _save(self) -> RunDirectory | None:
        """Keep the draft without changes too; return its run."""
        if self._kept is None:
            return None
        self._kept.stays, self._kept.problem = True, ""
        return await self._write(self._kept)

    def let_go(self) -> None:
        """Keep the draft with what is being typed: nothing is lost, or gets into another draft.

        From now on it stays without changes too: it may be pinned or queued elsewhere.
        """
        kept = self._kept
        if kept is None:
            return
        self.form.keep_typed()
        kept.stays |= bool(kept.draft.changes) or kept.draft.parent is not None
        if not kept.is_kept:
            self.context.run_beside(self._write(kept))

    def _follow(self, kept: KeptDraft) -> None:
        """Open the run that keeps the draft now, or none if it was deleted with the last change."""
        context, before = self.context, kept.run
        was_open = kept is self._kept and self._is_open
        kept.run = kept.stored
        if kept.run is not None:
            context.watcher.removed.discard(kept.run.name)
        if not was_open or kept.run is before:
            return
        context.draft = None if kept.run else kept.draft
        if context.run_directory in (None, before) or self.app.current_mode == self.PANE:
            if kept.run is None:
                context.close_run()
            else:
                context.run_directory = None  # also one of the same name, deleted meanwhile
                context.select_run(kept.run)
        context.watcher.poll_now()
        self.refresh_frame()

    # the form

    def edit(self, draft: Draft, group: object = None) -> None:
        """Replace the draft, which can be undone.

        Edits of one group in a row are undone together.
        """
        if self._kept is not None:
            self._kept.history.record(self._kept.draft, draft, group)
            self._take(draft)
            self._show()

    def on_form_moved(self, _event: Form.Moved) -> None:
        self._show_titles()
        self.refresh_footer()
        self._keep_changes()

    @act
    async def on_form_edit_requested(self, event: Form.EditRequested) -> None:
        if self._editable() is not None:
            await ask_value(self.context, self.form, event.row)

    @act
    async def action_browse_files(self) -> None:
        """Browse for a text, or in the section of the tokenizer for a tokenizer."""
        if (kept := self._editable()) is not None:
            await browse(self.context, self.form, kept.draft)

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
        kept = self._editable()
        if kept is None or self._is_typing():
            return
        before = kept.draft
        draft = kept.history.travel(before, direction)
        word = "undone" if direction < 0 else "redone"
        if draft is None:
            self.context.report(f"nothing to be {word}")
            return
        if draft.base_name == before.base_name:
            draft = replace(draft, file=before.file)  # where it was saved meanwhile
        self._take(draft)
        self._show()
        changed = changed_fields(before, draft)
        if len(changed) == 1:
            self.form.go_to(changed[0])
        self.context.report(f"{word}: {safe_text(edit_text(before, draft), newlines='space')}")

    def _editable(self) -> KeptDraft | None:
        """Return the edited draft, or report that there is none."""
        if self._kept is None:
            self.context.report(FROZEN)
        return self._kept

    def _is_typing(self) -> bool:
        """Whether a field's editor is open, whose text would replace what an action changes."""
        if self.form.editing:
            self.context.report(TYPING)
        return self.form.editing

    def action_toggle_field(self) -> None:
        row = self.form.current
        if row is not None and row.field.kind == "switch":
            self.form.edit()
        else:
            keys = "{key:toggle_field} switches yes and no: {key:edit_field} edits this field"
            self.context.report(keys)

    @act
    async def action_find_field(self) -> None:
        path = await self.context.ask(field_question(self.form))
        if path:
            if path not in [row.key for row in self.form.rows]:
                self.form.compare(None)
            self._show()
            self.form.go_to(path)

    @act
    async def action_next_comparison(self) -> None:
        """Show only what differs from the next config: base, preset, defaults, a run; then all."""
        draft, before = self.shown, self.form.comparison
        if draft is None:
            return
        known: list[Draft | None] = [None, *comparisons(draft)]
        place = known.index(before) + 1 if before in known else 0
        self.form.compare(known[place] if place < len(known) else None)
        self._show()
        if place == len(known):
            own = self.run_name if self.locked else ""
            shown = [one.base_name for one in known if one]
            self.form.compare(await ask_run(self.context, own, *shown))
            self._show()

    def action_adjust_field(self) -> None:
        """Solve the selected field's problem, or the first one; again: in another way."""
        if (kept := self._editable()) is None:
            return
        draft = kept.draft
        before, after, left = self._adjusted or (draft, None, ())
        if after != draft:
            problems = self._check.problems
            advised = [by_field(problems).get(self.form.path), *problems]
            left = next((it.adjustments for it in advised if it and it.adjustments), ())
            before = draft
        if not left:
            self.context.report(
                "no suggestion for this problem" if self._check.problems else "no problems"
            )
            return
        if before != draft:  # in place of the last one
            kept.history.travel(draft, -1)
            self._take(before)
        adjusted = before.with_values(dict(left[0].changes))
        self._adjusted = before, adjusted, left[1:]
        self.edit(adjusted)
        self.form.go_to(left[0].changes[0][0])
        words = f"set {adjustment_text(left[0])}; {self.key_of('undo_edit')} undoes it"
        another = ", {key:adjust_field}: another way" if left[1:] else ""
        self.context.report(words + another)

    def _begin_from(self, draft: Draft | None) -> None:
        """Begin again from a preset, a run or a file; undo brings the former draft back.

        A draft with a parent stays in the list of runs: its run can start from no other weights.
        """
        kept = self._kept
        if draft is None:
            return
        if kept is None or kept.draft.parent is not None:
            self._begin(draft)
        else:
            lost = len(kept.draft.changes)
            self.edit(draft)
            self.form.compare(None)
            key = self.key_of("undo_edit")
            undo = f": {key} brings back {counted(lost, 'change')}" if lost else ""
            self.context.report(f"{safe_text(draft.base_name, limit=40)}{undo}")
        self._show()
        if wrong := len(draft.problems()):
            said = f"{safe_text(draft.base_name, limit=40)} has {counted(wrong, 'problem')}"
            self.context.report(f"{said}: {{key:next_problem}} shows them", trouble=True)

    @act
    async def action_choose_preset(self) -> None:
        shown = self.shown
        preset = shown.base.preset if shown is not None else ""
        self._begin_from(await ask_beginning(self.context, preset))

    @act
    async def action_open_config(self) -> None:
        if not self._is_typing():
            self._begin_from(await ask_file(self.context))

    @act
    async def action_write_config(self) -> None:
        if (draft := self.shown) is None:
            return
        wrong = len(self._check.blocking)
        path = await ask_new_path(self.context, self.run_name or "config", draft.file)
        if path is None:
            return
        text = await self.context.wait_for(lambda: draft_toml(draft))
        await self.context.wait_for(lambda: client.config_files.write_config_text(path, text))
        remember_file(self.context, path)
        with_problems = f" with {counted(wrong, 'problem')}" if wrong else ""
        said = f"saved{with_problems} as {safe_text(str(path), newlines='space')}"
        self.context.report(said)
        if (kept := self._kept) is not None:
            document = text if kept.draft == draft else kept.draft.document
            self._take(replace(kept.draft, document=document, file=path))

    @act
    async def action_edit_toml(self) -> None:
        kept = self._editable()
        if kept is None or self._is_typing():
            return
        edited = await edit_as_toml(self.context, kept.draft, self.run_name or "config")
        if edited is not None:
            self.edit(edited)
            self.context.report(f"taken from the editor; {self.key_of('undo_edit')} undoes it")

    def action_new_from_run(self) -> None:
        if not self.locked or self.shown is None:
            self.context.report("this is a new run already")
            return
        self._begin_from(self.shown)

    @act
    async def action_save_draft(self) -> None:
        """Keep an unchanged draft too: it becomes a run that isn't started."""
        if (run := await self._save()) is not None:
            self.context.report(f"{run.name} saved, {{key:start_draft}} starts it")

    @act
    async def action_find_rate(self) -> None:
        """Test a range of learning rates, and set the suggested peak if the user takes it."""
        kept = self._editable()
        if kept is None or self._is_typing():
            return
        if kept.draft.parent is not None:
            self.context.report("a fork has trained weights: the test is for initial ones")
            return
        from rnnlm_tui.tui.screens.tune import TuneScreen

        peak = await self.context.ask(TuneScreen(kept.draft.config()))
        if peak is not None and kept is self._kept:
            self.edit(kept.draft.with_value(RATE, peak))
            self.form.go_to(RATE)
            undo = f"{self.key_of('undo_edit')} undoes it"
            self.context.report(f"peak rate {scientific(peak)}; {undo}")

    @act
    async def action_begin(self, when: str) -> None:
        """Start the draft's run `now`, or add it to the `queue`."""
        kept, blocking = self._kept, self._check.blocking
        if kept is None:
            self.context.report(STARTED)
            return
        if blocking:
            if "." in blocking[0].path:
                self.form.go_to(field_of(blocking[0]))
            fix = f"Fix {counted(len(blocking), 'problem')} before starting"
            self.context.report(f"{fix}, {{key:next_problem}} goes to the next one", trouble=True)
            return
        config = kept.draft.config()
        self._check.forget()
        if when == "queue":
            self.context.report("adding it to the queue…")
        if (run := await self._save()) is None:
            return
        try:
            if when == "now":
                await start(self.context, config, run)
                return
            await self.context.wait_for(lambda: client.start.check_draft_before_start(run))
            queued = await self.context.wait_for(lambda: client.queue.add_run(run))
            self.context.report_change(f"{queued.run} waits in the queue, place {queued.place}")
        except InputError as error:
            # beside the field that caused it
            path = None if self.locked else self._check.start_failed(config, error)
            if path is None:
                self.context.report_error(error)
                return
            self._show()
            self.form.go_to(path)
            self.context.report(f"not started: see {FIELDS[path].title}", trouble=True)
