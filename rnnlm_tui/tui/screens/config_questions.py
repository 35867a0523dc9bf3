"""The overlays that the config form opens: for a value, a field, a run, a text or a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from rnnlm_tui.schema.config import CELL_SUMMARIES, RunConfig
from rnnlm_tui.tui.screens.browse import BrowseScreen, Purpose
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from rnnlm_tui.tui.screens.pick import PickItem, PickScreen
from rnnlm_tui.tui.views.editing import DraftComparison
from rnnlm_tui.tui.views.form import FORM_FIELDS, Draft, edited_value, read_value, section_title

if TYPE_CHECKING:
    from textual.app import App

    from rnnlm_tui.tui.app import RnnlmApp
    from rnnlm_tui.tui.widgets.form import ConfigForm
    from rnnlm_tui.tui.widgets.form_row import FieldRow


def ask_value(app: App[int], form: ConfigForm, row: FieldRow) -> None:
    """Edit a field that needs more than one line, in a list of choices or a box for texts."""
    field, value = row.field, row.state.value

    def chosen(answer: str | None) -> None:
        if answer is not None and (answer or field.kind == "list"):
            form.set_value(field.path, read_value(field, answer))

    if field.kind == "list":
        app.push_screen(TextsScreen(field.title, edited_value(field, value)), chosen)
    else:
        choices = [
            (choice, CELL_SUMMARIES.get(choice, "") if field.path == "model.cell_type" else "")
            for choice in field.choices
        ]
        app.push_screen(ChooseScreen(field.title, choices, str(value), field.help), chosen)


def ask_field(app: App[int], form: ConfigForm, found: Callable[[str], None]) -> None:
    """Search for a field by its name, its key or its help; `found` gets its path."""
    items = [
        PickItem(
            field.path,
            field.title,
            f"{field.path}  {field.help}",
            section_title(field.section),
            field.path,
        )
        for field in FORM_FIELDS
    ]
    row = form.current
    app.push_screen(
        PickScreen(
            "Find a field",
            items,
            current=row.field.path if row is not None else "",
            verb="go to it",
        ),
        lambda path: found(path) if path else None,
    )


def ask_run(app: RnnlmApp, but: str, compare: Callable[[DraftComparison], None]) -> None:
    """Ask for a run to compare with, other than the run `but`."""
    items = [
        PickItem(summary.run, summary.run, f"{summary.status}, {summary.preset}")
        for summary in app.summaries or ()
        if summary.run != but
    ]

    def chosen(name: str | None) -> None:
        if name:
            app.in_thread(lambda: app.watcher.runs.configs([name]), partial(read, name))

    def read(name: str, configs: Mapping[str, RunConfig]) -> None:
        if name in configs:
            compare(DraftComparison(name, configs[name]))
        else:
            app.report(f"the config of {name} can't be read", trouble=True)

    if items:
        app.push_screen(PickScreen("Show what differs from the run", items, verb="compare"), chosen)
    else:
        app.report("all fields: there is no other run to compare with")


def browse(app: App[int], form: ConfigForm, draft: Draft) -> None:
    """Browse for a text, or in the section of the tokenizer for a tokenizer."""
    row = form.current
    path = row.field.path if row is not None else ""
    if path.startswith("tokenizer."):
        path = "tokenizer.name"
    elif path != "corpus.test_source":
        path = "corpus.source"
    is_text = path != "tokenizer.name"

    def chosen(target: str | None) -> None:
        if target is not None:
            more = [] if is_text else [("tokenizer.kind", "pretrained")]
            form.set_values([*more, (path, target)])
            form.go_to(path)

    purpose: Purpose = "text" if is_text else "tokenizer"
    start = str(draft.value(path) or "")
    app.push_screen(BrowseScreen(purpose, draft.nearest_config(), start), chosen)
