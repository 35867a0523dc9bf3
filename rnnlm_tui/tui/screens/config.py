"""ConfigScreen: the form of a new run, or the frozen config of an existing one.

The draft is kept for the next start until it is started, saved or replaced. `DraftCheck` finds its
problems: invalid values, and what this machine lacks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.events import Resize, ScreenResume

from rnnlm_tui.errors import (
    ConfigError,
    CorpusError,
    DeviceError,
    InputError,
    Problem,
    RnnlmError,
    TokenizerError,
)
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import CELL_SUMMARIES, RunConfig
from rnnlm_tui.schema.corpora import BUILT_IN_SOURCES, SET_SOURCE
from rnnlm_tui.schema.estimates import WARMUP, planned_warmup, warmup_note
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.presets import DEMO, PRESET_SUMMARIES, PRESETS
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.validation import merge
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import Action, action, bindings_for
from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from rnnlm_tui.tui.screens.overlay import ConfirmScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.services import to_thread
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.views.form import (
    Draft,
    DraftParent,
    draft_from_json,
    draft_of,
    draft_to_json,
    edited_value,
    field_of,
    followed_tokenizer,
    read_value,
    section_title,
)
from rnnlm_tui.tui.widgets.estimate_panel import TITLES, EstimatePanel, machine_capacity
from rnnlm_tui.tui.widgets.form import ConfigForm, SectionList, form_legend
from rnnlm_tui.tui.widgets.form_row import FieldRow
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import Preview
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.system.machine import MachineFacts
    from rnnlm_tui.tui.services import Services


ERROR_FIELDS: tuple[tuple[type[InputError], str], ...] = (
    (CorpusError, "corpus.source"),
    (TokenizerError, "tokenizer.name"),
    (DeviceError, "training.device"),
)
"""The fields beside which errors about this machine are shown."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the disk says about a config."""

    config: RunConfig
    estimate: Estimate
    facts: Mapping[str, str]
    """Facts to show beside fields, by path."""
    missing: InputError | None = None
    """Why its text or tokenizer can't be used; None if both can."""
    missing_at: str = "corpus.source"
    """The field that names the missing file."""
    preview: Preview | None = None
    """The first lines of its text."""
    tokenizer_size: int | None = None
    """Vocabulary size of its pretrained tokenizer; None if unknown."""


def look_up(services: Services, config: RunConfig) -> Findings:
    """Look for a config's text and estimate it; blocks while the disk is read.

    Raises:
        RnnlmError, OSError: something on the disk can't be read.
    """
    estimate = services.estimate(config)
    corpus = services.corpus(config)
    facts: dict[str, str] = {}
    if corpus is not None:
        size = formatting.disk(sum(split.bytes for split in corpus.splits.values()))
        facts["corpus.source"] = "; ".join((f"{corpus.title}, {size}", *corpus.all_notes))
    if estimate.steps is not None and warmup_note(config, estimate.steps):
        facts[WARMUP] = (
            f"shortened to {planned_warmup(config, estimate.steps):,} of {estimate.steps:,}"
        )
    found = Findings(config, estimate, facts, tokenizer_size=services.tokenizer_size(config))
    missing = services.missing_source(config)
    if missing is not None:
        at_test = (
            config.corpus.test_source is not None
            and services.missing_source(_without_test_source(config)) is None
        )
        return replace(
            found, missing=missing, missing_at="corpus.test_source" if at_test else "corpus.source"
        )
    try:
        preview = services.preview(config)
    except CorpusError as error:  # training would fail too
        return replace(
            found,
            missing=error,
            missing_at=(
                "corpus.text_field" if "corpus.text_field" in error.hint else "corpus.source"
            ),
        )
    if (
        preview is not None
        and config.corpus.layout == "auto"
        and config.corpus.source not in BUILT_IN_SOURCES
    ):
        facts["corpus.layout"] = (
            f"{preview.layout}: {preview.reason}" if preview.reason else preview.layout
        )
    found, refused = replace(found, preview=preview), services.tokenizer_problem(config)
    return (
        found if refused is None else replace(found, missing=refused, missing_at="tokenizer.name")
    )


class DraftCheck:
    """The problems of the shown draft, from the newest findings and the last failed start."""

    def __init__(self) -> None:
        self.blocking: tuple[Problem, ...] = ()
        """Problems of the draft itself, to fix before it can start."""
        self.problems: tuple[Problem, ...] = ()
        """The same with what this machine lacks: a start may be tried again, because that may have
        been fixed."""
        self._asked: RunConfig | None = None
        self._found: Findings | None = None
        self._failure: tuple[RunConfig, Problem] | None = None

    @property
    def estimate(self) -> Estimate | None:
        """The newest estimate; until the disk has been read, that of the config before."""
        return self._found.estimate if self._found is not None else None

    @property
    def preview(self) -> Preview | None:
        """The first lines of the text, as old as `estimate`."""
        return self._found.preview if self._found is not None else None

    @property
    def facts(self) -> Mapping[str, str]:
        """Facts to show beside fields, as old as `estimate`."""
        return self._found.facts if self._found is not None else {}

    def check(self, draft: Draft, *, locked: bool) -> None:
        """Find the problems of a draft; a run's config (`locked`) has none."""
        config, found, refused = draft.nearest_config(), self._found, self._failure
        if locked:
            self.blocking = self.problems = ()
            return
        self.blocking = draft.problems_within(
            found.estimate.steps if found is not None and found.config == config else None
        )
        self.problems = (
            (*self.blocking, refused[1])
            if refused is not None and refused[0] == config
            else self.blocking
        )

    def needs_estimate(self, config: RunConfig) -> bool:
        """Whether the disk has to be read for this config; asks only once."""
        asked, self._asked = self._asked, config
        return asked != config

    def update(self, found: Findings) -> None:
        """Take new findings.

        A missing text counts as a failed start, unless this config failed for another reason.
        """
        self._found = found
        if found.missing is not None and (
            self._failure is None or self._failure[0] != found.config
        ):
            self._failure = found.config, _problem(found.missing_at, found.missing)

    def start_failed(self, config: RunConfig, error: InputError) -> str | None:
        """Note that a start of this config failed.

        Return the path of the field that caused it, None if none did.
        """
        if isinstance(error, ConfigError):  # the fields that don't fit the parent's weights
            self._failure = config, error.problems[0]
            return error.problems[0].path
        path = next((path for kind, path in ERROR_FIELDS if isinstance(error, kind)), None)
        found = self._found
        if (
            found is not None
            and found.config == config
            and found.missing is not None
            and found.missing.message == error.message
        ):
            path = found.missing_at
        if path is not None:
            self._failure = config, _problem(path, error)
        return path

    def forget_failure(self) -> None:
        """Forget the failed start: it is tried again."""
        self._failure = None


def _without_test_source(config: RunConfig) -> RunConfig:
    return config.model_copy(
        update={"corpus": config.corpus.model_copy(update={"test_source": None})}
    )


def _problem(path: str, error: InputError) -> Problem:
    """Return an error as a problem of a field."""
    return Problem(
        path, error.message, error.hint.replace(SET_SOURCE, "set the field source to the folder")
    )


class ConfigScreen(PaneScreen):
    """Edits, starts and saves the draft, or shows a run's config to base a new run on."""

    PANE = "config"
    FIRST_FOCUS = "#field-corpus-source"
    BINDINGS = bindings_for("config")
    DEFAULT_CSS = """
    #config-body { layout: vertical; height: 100%; }
    #config-top { height: 1fr; }
    #sections { width: 17; }
    #form-box { width: 1fr; height: 100%; padding: 0; }
    #gives { height: 6; }
    ConfigScreen.-wide #config-body { layout: horizontal; }
    ConfigScreen.-wide #config-top { height: 100%; width: 2fr; }
    ConfigScreen.-wide #sections { display: none; }
    ConfigScreen.-wide #gives { width: 40; height: 100%; }
    ConfigScreen.-short #gives { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._editing: Draft | None = None
        """The draft being edited; None while a run's frozen config is shown."""
        self._shared: RunConfig | None = None
        """The app's draft when this screen last read or set it."""
        self._run_name = ""
        """The name for its run; empty until one has been suggested."""
        self._check = DraftCheck()
        self._taken_size: int | None = None
        """Vocabulary size of the pretrained tokenizer at the last check."""

    def compose_body(self) -> ComposeResult:
        with Container(id="config-body"):
            with Horizontal(id="config-top"):
                yield SectionList(id="sections")
                with TitledContainer(id="form-box"):
                    yield ConfigForm(
                        Draft(DEMO, "preset demo"), wide=self.app.size.width >= WIDE_FROM, id="form"
                    )
            yield EstimatePanel(id="gives")

    # what is shown

    @property
    def shown(self) -> Draft | None:
        """The draft, or the open run's config; None while that is being read."""
        if self._editing is not None:
            return self._editing
        snapshot = self.snapshot
        return (
            None
            if snapshot is None
            else Draft(snapshot.config, safe_text(snapshot.summary.run, limit=40))
        )

    def on_screen_resume(self, _event: ScreenResume) -> None:
        self._load_draft()

    def on_resize(self, event: Resize) -> None:
        wide = event.size.width >= WIDE_FROM
        self.set_class(wide, "-wide")
        self.set_class(not wide and event.size.height < 20, "-short")
        self.form.set_wide(wide)

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:  # noqa: ARG002 (the pane's)
        """Show the draft, or the open run's frozen config."""
        self._load_draft()
        self._show()

    def show_machine(self, machine: MachineFacts) -> None:
        """Show the memory of this machine."""
        super().show_machine(machine)
        self._show()

    def identity(self, width: int) -> Content:
        """Return the draft's name and base; a draft has no status yet."""
        draft = self._editing
        if draft is None:
            return super().identity(width)
        name = safe_content(self._run_name or "new run").stylize(f"bold {BRIGHT}")
        if draft.parent is not None:
            wide = self.has_class("-wide")
            kept = ", optimizer kept" if draft.parent.optimizer == "keep" and wide else ""
            fork = f"draft, fork of {safe_text(draft.parent.address, limit=70)}{kept}"
            return Content.assemble(name, (" ○ ", DIM), (fork, TEXT))
        line = Content.assemble(name, (" ○ ", DIM), ("draft, not started", TEXT))
        from_preset = draft.base_name.startswith("preset ")
        origin = (
            ("   preset ", safe_text(draft.base.preset, limit=24))
            if from_preset
            else ("   from ", safe_text(draft.base_name, limit=40))
        )

        more = Content.assemble(line, (origin[0], DIM), (origin[1], TEXT))
        return (
            more
            if more.cell_length <= width and (self.has_class("-wide") or not from_preset)
            else line
        )

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
                *(["start_draft"] if self._run_status == "draft" else []),
                "leave",
            ]
        else:
            fix = ["next_problem"] if self._check.problems else []
            names = [
                "next_field",
                "next_section",
                "edit_field",
                "reset_field",
                "choose_preset",
                *fix,
                "save_draft",
                "start_draft",
            ]
        return [(action(name), "") for name in names]

    @property
    def _draft_parent(self) -> DraftParent | None:
        """The checkpoint that the draft's run starts from."""
        return self._editing.parent if self._editing is not None else None

    @property
    def _run_status(self) -> str:
        return self.snapshot.summary.status if self.snapshot is not None else ""

    def _show(self) -> None:
        draft = self.shown
        if draft is None or not self.is_mounted:
            return
        config, check = draft.nearest_config(), self._check
        check.check(draft, locked=self.locked)
        self.form.show(
            draft, check.problems, locked=self.locked, facts=check.facts, preview=check.preview
        )
        self._show_titles()
        if check.needs_estimate(config):
            self._estimate(config)
        summary = self.snapshot.summary if self.snapshot is not None and self.locked else None
        kept = (
            summary.checkpoints
            if summary is not None and summary.status not in ("draft", *LIVING)
            else None
        )
        self.query_one(EstimatePanel).show(
            check.estimate,
            draft,
            check.blocking,
            machine_capacity(self.context.machine),
            started=self.locked,
            kept=kept,
        )
        self.refresh_frame()

    def _show_titles(self) -> None:
        draft, section, wide = self.shown, self.form.section, self.has_class("-wide")
        if draft is None:
            return
        box = self.query_one("#form-box", TitledContainer)
        box.panel_title = "Configuration" if wide else section_title(section)
        box.legend = form_legend(
            draft, self._check.problems, None if wide else section, locked=self.locked
        )
        self.query_one(SectionList).show(draft, self._check.problems, section)

    @work(group="estimate", exclusive=True)
    async def _estimate(self, config: RunConfig) -> None:
        """Estimate a config in a thread, because that reads the disk."""
        try:
            found = await to_thread(look_up, self.context.services, config)
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
        draft = self._editing
        if draft is None or found.config != draft.nearest_config():
            return False
        followed = followed_tokenizer(draft, found.tokenizer_size, self._taken_size)
        self._taken_size = found.tokenizer_size
        if followed is draft:
            return False
        self._editing = followed
        self._share_draft()
        return True

    # the draft

    @property
    def locked(self) -> bool:
        """Whether a run's frozen config is shown."""
        return self._editing is None

    def _load_draft(self) -> None:
        """Take the app's draft, or a new one if no run is open."""
        given = self.context.draft
        if given is None and self.context.run_directory is None:
            given = self.context.draft = DEMO
            self.context.draft_from, self.context.draft_parent = "", None
        if given is None:
            self._editing = self._shared = None
        elif given is not self._shared or self._editing is None:
            kept = (
                draft_from_json(self.context.settings.get("draft"))
                if self._shared is None
                else None
            )
            if kept is not None and kept[0].nearest_config() == given:
                self._begin(*kept)
            else:
                parent = self.context.draft_parent
                self._begin(
                    Draft(given, safe_text(self.context.draft_from, limit=40), parent=parent)
                    if self.context.draft_from
                    else draft_of(given)
                )

    def _begin(self, draft: Draft, name: str = "") -> None:
        self._editing, self._run_name = draft, name
        self._share_draft()
        if not name:
            self.context.in_thread(self.context.services.suggest_name, self._set_name)

    def _set_name(self, name: str) -> None:
        self._run_name = name
        self._save_draft()
        self.refresh_frame()

    def _share_draft(self) -> None:
        """Set the app's draft to the nearest valid config, for other panes.

        The draft is saved for the next start.
        """
        if self._editing is not None:
            self._shared = self.context.draft = self._editing.nearest_config()
            self._save_draft()

    def _save_draft(self) -> None:
        """Save the draft, unless the app has dropped it: it was started, or a run was opened."""
        kept = (
            draft_to_json(self._editing, self._run_name)
            if self._editing is not None and self.context.draft is self._shared
            else None
        )
        if kept != self.context.settings.get("draft"):
            self.context.settings["draft"] = kept
            self.context.save_settings()

    # the form

    @property
    def form(self) -> ConfigForm:
        """The form."""
        return self.query_one("#form", ConfigForm)

    def on_config_form_changed(self, event: ConfigForm.Changed) -> None:
        if not self.locked:
            self._editing = event.draft
            self._share_draft()
            self._show()

    def on_config_form_focus_moved(self, _event: ConfigForm.FocusMoved) -> None:
        self._show_titles()
        self.refresh_footer()

    def on_section_list_chosen(self, event: SectionList.Chosen) -> None:
        self.form.open_section(event.section)

    def on_config_form_edit_requested(self, event: ConfigForm.EditRequested) -> None:
        if self.locked:
            self.context.report("a run's config never changes: n makes a new run from it")
        else:
            self.edit_in_overlay(event.row)

    def action_next_field(self) -> None:
        """Go to the next field."""
        self.form.move(1)

    def action_previous_field(self) -> None:
        """Go to the previous field."""
        self.form.move(-1)

    def action_next_section(self) -> None:
        """Go to the next section."""
        self.form.move_section(1)

    def action_previous_section(self) -> None:
        """Go to the previous section."""
        self.form.move_section(-1)

    def action_edit_field(self) -> None:
        """Edit the field, switch it, or choose a value."""
        self.form.edit()

    def edit_in_overlay(self, row: FieldRow) -> None:
        """Edit a field that needs more than one line, in a list of choices or a box for texts."""
        field, value = row.field, row.state.value

        def chosen(answer: str | None) -> None:
            if answer is not None and (answer or field.kind == "list"):
                self.form.set_value(field.path, read_value(field, answer))

        if field.kind == "list":
            self.app.push_screen(TextsScreen(field.title, edited_value(field, value)), chosen)
        else:
            choices = [
                (choice, CELL_SUMMARIES.get(choice, "") if field.path == "model.cell_type" else "")
                for choice in field.choices
            ]
            self.app.push_screen(ChooseScreen(field.title, choices, str(value), field.help), chosen)

    def action_next_choice(self) -> None:
        """Select the next value of a choice or switch."""
        self.form.turn(1)

    def action_previous_choice(self) -> None:
        """Select the previous value."""
        self.form.turn(-1)

    def action_reset_field(self) -> None:
        """Reset the field."""
        self.form.reset()

    # actions

    def action_leave_field(self) -> None:
        """Keep the focus on `esc` in a field that isn't edited: the next key still acts on it."""

    def action_next_problem(self) -> None:
        """Go to the next invalid field."""
        if self._check.problems:
            self.form.next_problem()
        else:
            self.context.report("no problems")

    def action_choose_preset(self) -> None:
        """Start again from a preset."""
        draft = self._editing
        changes = len(draft.changes) if draft is not None else 0
        lost = counted(changes, "change")

        def chosen(name: str | None) -> None:
            if not name:
                return
            if changes:
                question = ConfirmScreen(
                    f"Discard {lost}?",
                    f"The preset {name} replaces them.",
                    "This can't be undone.",
                    "keep them",
                    "discard them",
                )
                self.app.push_screen(question, partial(begin, name))
            else:
                begin(name, True)

        def begin(name: str, agreed: bool | None) -> None:
            if agreed:
                self._editing = Draft(PRESETS[name], f"preset {name}")
                self._share_draft()
                if not self._run_name:
                    self.context.in_thread(self.context.services.suggest_name, self._set_name)
                self._show()

        current = draft.base.preset if draft is not None else ""
        self.app.push_screen(
            ChooseScreen(
                "Preset", [(name, PRESET_SUMMARIES.get(name, "")) for name in PRESETS], current
            ),
            chosen,
        )

    def action_new_from_run(self) -> None:
        """Configure a new run based on the shown one."""
        if not self.locked or self.snapshot is None:
            self.context.report("this is a new run already")
            return
        self.context.draft, self.context.draft_from = None, self.snapshot.summary.run
        self.context.draft_parent = None
        self._begin(Draft(self.snapshot.config, safe_text(self.snapshot.summary.run, limit=40)))
        self._show()

    def action_save_draft(self) -> None:
        """Create the run without starting it.

        A draft with problems is saved as a config file instead.
        """
        if not self.locked and self._check.blocking and self._editing is not None:
            name, draft = self._run_name or "draft", self._editing
            self.context.in_thread(
                partial(
                    self.context.services.save_config,
                    name,
                    merge(draft.base, draft.changes),
                    draft.problems(),
                ),
                self._written,
            )
            return
        config = self._ready()
        if config is not None:
            self.context.in_thread(
                partial(
                    self.context.services.create, config, self._run_name or None, self._draft_parent
                ),
                self._saved,
            )

    def _written(self, path: Path) -> None:
        self.context.report(
            f"saved with {counted(len(self._check.blocking), 'problem')} as {path.name}, to use"
            " with train --config"
        )

    def _saved(self, saved: RunDirectory) -> None:
        self.context.open_run(saved, "config")
        self.context.report(f"{saved.name} saved, F5 starts it")

    def action_start_draft(self) -> None:
        """Start the draft, or a saved run that was never started."""
        if self.locked:
            if self._run_status == "draft":
                self.context.resume()
            else:
                self.context.report("this run has started: n makes a new run from it")
            return
        config = self._ready()
        if config is not None:
            self._check.forget_failure()
            self.context.start_run(
                config, self._run_name or None, partial(self._refuse, config), self._draft_parent
            )

    def _refuse(self, config: RunConfig, error: InputError) -> None:
        """Show why no run was created, beside the field that caused it."""
        path = None if self.locked else self._check.start_failed(config, error)
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
            self.context.report("this run is saved: n makes a new run from it")
            return None
        blocking = self._check.blocking
        if blocking:
            self.form.go_to(field_of(blocking[0])) if "." in blocking[0].path else None
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
