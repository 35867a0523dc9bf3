"""The overlays that the config form opens: for a value, a field, a run, a text or a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui.schema.config import CELL_SUMMARIES
from rnnlm_tui.tui.screens.browse import BrowseScreen, Purpose
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from rnnlm_tui.tui.screens.pick import PickItem, PickScreen
from rnnlm_tui.tui.views.editing import DraftComparison
from rnnlm_tui.tui.views.form import FORM_FIELDS, Draft, edited_value, read_value, section_title

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp
    from rnnlm_tui.tui.widgets.form import ConfigForm
    from rnnlm_tui.tui.widgets.form_row import FieldRow


async def ask_value(app: RnnlmApp, form: ConfigForm, row: FieldRow) -> None:
    """Edit a field that needs more than one line, in a list of choices or a box for texts."""
    field, value = row.field, row.state.value
    choices = [
        (choice, CELL_SUMMARIES.get(choice, "") if field.path == "model.cell_type" else "")
        for choice in field.choices
    ]
    answer = await app.ask(
        TextsScreen(field.title, edited_value(field, value))
        if field.kind == "list"
        else ChooseScreen(field.title, choices, str(value), field.help)
    )
    if answer is not None and (answer or field.kind == "list"):
        form.set_value(field.path, read_value(field, answer))


def field_question(form: ConfigForm) -> PickScreen:
    """Search for a field by its name, its key or its help; return its path."""
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
    current = row.field.path if row is not None else ""
    return PickScreen("Find a field", items, current=current, verb="go to it")


async def ask_run(app: RnnlmApp, but: str) -> DraftComparison | None:
    """Ask for a run to compare with, other than the run `but`."""
    items = [
        PickItem(summary.run, summary.run, f"{summary.status}, {summary.preset}")
        for summary in app.summaries or ()
        if summary.run != but
    ]
    if not items:
        app.report("all fields: there is no other run to compare with")
        return None
    name = await app.ask(PickScreen("Show what differs from the run", items, verb="compare"))
    if not name:
        return None
    configs = await app.wait_for(lambda: app.watcher.runs.configs([name]))
    if name in configs:
        return DraftComparison(name, configs[name])
    app.report(f"the config of {name} can't be read", trouble=True)
    return None


async def browse(app: RnnlmApp, form: ConfigForm, draft: Draft) -> None:
    """Browse for a text, or in the section of the tokenizer for a tokenizer."""
    row = form.current
    path = row.field.path if row is not None else ""
    if path.startswith("tokenizer."):
        path = "tokenizer.name"
    elif path != "corpus.test_source":
        path = "corpus.source"
    is_text = path != "tokenizer.name"

    purpose: Purpose = "text" if is_text else "tokenizer"
    start = str(draft.value(path) or "")
    target = await app.ask(BrowseScreen(purpose, draft.nearest_config(), start))
    if target is not None:
        more = [] if is_text else [("tokenizer.kind", "pretrained")]
        form.set_values([*more, (path, target)])
        form.go_to(path)
