"""FormKeys: the keys of a form."""

from __future__ import annotations

from rnnlm_tui.contract.config import CELL_SUMMARIES
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.widgets.form import ConfigForm
from rnnlm_tui.tui.widgets.form_fields import edited_value, read_value
from rnnlm_tui.tui.widgets.form_row import FieldRow


class FormKeys(PaneScreen):
    """A screen with a config form."""

    @property
    def form(self) -> ConfigForm:
        """The form."""
        return self.query_one("#form", ConfigForm)

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
            choices = [(choice, CELL_SUMMARIES.get(choice, "") if field.path == "model.cell_type" else "") for choice in field.choices]
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
