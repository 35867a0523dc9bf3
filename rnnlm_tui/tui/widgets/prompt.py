"""The text field for prompts, and the sampling settings above it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from rnnlm_tui.errors import ConfigError, Problem
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.formatting import counted, escaped_list, is_joiner, unescaped_list
from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.views.form import (
    FORM_FIELDS,
    FormField,
    edited_value,
    field_of,
    read_value,
    short_message,
)
from rnnlm_tui.tui.widgets.text_area import SafeTextArea
from rnnlm_tui.tui.widgets.text_field import SafeInput, with_line_breaks, without_controls


class PromptBox(OrderedKeys, SafeTextArea, can_focus=True):
    """A text area of one to four lines; a longer prompt scrolls."""

    DEFAULT_CSS = """
    PromptBox {
        height: auto; min-height: 1; max-height: 4; border: none; padding: 0; background: #121212;
        color: #eeeeee; scrollbar-size: 0 0;
    }
    PromptBox:focus { border: none; background-tint: #121212 0%; }
    PromptBox .text-area--cursor-line { background: #121212; }
    PromptBox .text-area--cursor { background: #5fd7ff; color: #121212; text-style: none; }
    PromptBox .text-area--selection { background: #005f87; color: #eeeeee; }
    PromptBox .text-area--placeholder { color: #808080; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", show=False),
        Binding("up", "up_or_earlier", show=False),
        Binding("down", "down_or_later", show=False),
        Binding("ctrl+j", "newline", show=False),
        Binding("ctrl+u", "clear", show=False),
        Binding("pageup", "screen.older_text", show=False, id="older_text"),
        Binding("pagedown", "screen.newer_text", show=False, id="newer_text"),
        Binding("ctrl+k", "screen.next_checkpoint", show=False, id="next_checkpoint"),
        Binding("ctrl+y", "screen.copy_text", show=False, id="copy_text"),
    ]

    class Submitted(Message):
        """Enter was pressed."""

        def __init__(self, prompt: str) -> None:
            super().__init__()
            self.prompt = prompt
            """The text as typed."""

    class HistoryRequested(Message):
        """Up on the first line or down on the last: an earlier or later prompt is wanted."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction
            """-1 for earlier, 1 for later."""

    class PasteShortened(Message):
        """Part of a paste was removed."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words
            """What was removed, and why."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            compact=True,
            soft_wrap=True,
            show_line_numbers=False,
            tab_behavior="focus",
            highlight_cursor_line=False,
            placeholder="",
        )
        self.cursor_blink = False
        self._typed: list[str] = []
        """Typed characters, inserted together: each change rewraps the whole line."""

    async def on_key(self, event: events.Key) -> None:
        """Collect characters typed in a row; insert them before any other key is handled."""
        if (
            event.character is not None
            and (event.is_printable or is_joiner(event.character))
            and self.app.focused is self
        ):
            event.stop()
            event.prevent_default()
            self._typed.append(event.character)
            if len(self._typed) == 1:
                self.call_later(self._put_typed)  # after the keys that have arrived by now
        else:
            self._put_typed()

    def _put_typed(self) -> None:
        if self._typed:
            text = "".join(self._typed)
            self._typed.clear()
            self.replace(text, *self.selection, maintain_selection_offset=False)

    async def on_paste(self, event: events.Paste) -> None:
        """Remove from a paste what doesn't fit or could act on a terminal, and report it."""
        self._put_typed()
        room = max(0, MAX_PROMPT_CHARACTERS - len(self.text) + len(self.selected_text))
        pasted = with_line_breaks(event.text)
        taken = without_controls(pasted[: 2 * room])[
            :room
        ]  # twice: no need to look through a whole megabyte
        if taken != pasted:
            event.text = taken
            cut = len(pasted) > room
            self.post_message(
                self.PasteShortened(
                    f"kept {len(taken):,} of {counted(len(pasted), 'character')} pasted: a prompt"
                    f" takes {MAX_PROMPT_CHARACTERS:,}"
                    if cut
                    else (
                        f"removed {counted(len(pasted) - len(taken), 'control character')} from the"
                        " paste"
                    )
                )
            )

    async def on_mouse_down(self, _event: events.MouseDown) -> None:
        self._put_typed()

    def on_blur(self, _event: events.Blur) -> None:
        self._put_typed()

    def action_send(self) -> None:
        """Send the prompt."""
        self.post_message(self.Submitted(self.text))

    def action_newline(self) -> None:
        """Insert a line break."""
        self.insert("\n")

    def action_clear(self) -> None:
        """Clear the text; ctrl+z restores it."""
        self.clear()

    def put(self, text: str) -> None:
        """Replace the text and put the cursor at its end."""
        self.load_text(text[:MAX_PROMPT_CHARACTERS])
        self.move_cursor(self.document.end)

    def action_up_or_earlier(self) -> None:
        """Move a line up, or recall an earlier prompt from the first line."""
        if self.cursor_location[0] == 0:
            self.post_message(self.HistoryRequested(-1))
        else:
            self.action_cursor_up()

    def action_down_or_later(self) -> None:
        """Move a line down, or recall a later prompt from the last line."""
        if self.cursor_location[0] == self.document.line_count - 1:
            self.post_message(self.HistoryRequested(1))
        else:
            self.action_cursor_down()


SHOWN: tuple[tuple[tuple[str, int], ...], ...] = (
    (("temperature", 8), ("top_p", 6), ("top_k", 6)),
    (("max_new_tokens", 7), ("seed", 8)),
)
"""Settings always shown, with the width of each box; in two rows if there is too little room."""
MORE: tuple[tuple[str, int], ...] = (("min_p", 6), ("repetition_penalty", 6), ("stop", 0))
"""Settings that are mostly off; 0 means the rest of the row."""
ONE_ROW_FROM = 120
"""Terminal width at which a stop string has 10 cells in the single row."""
TWO_ROWS_BELOW = 77
"""Terminal width below which SHOWN takes two rows."""
NAMES = tuple(name for name, _ in (*SHOWN[0], *SHOWN[1], *MORE))
FIELDS: dict[str, FormField] = {
    field.path.partition(".")[2]: field for field in FORM_FIELDS if field.section == "sampling"
}
OFF: dict[str, object] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Values that turn a setting off, also written `off`."""
IDLE_WHEN_GREEDY = ("top_p", "top_k", "min_p", "seed")


class SettingInput(OrderedKeys, SafeInput, can_focus=True):
    """A setting's text field; enter and the arrow keys keep it and go back to the prompt."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,up,down", "screen.back_to_prompt", show=False),
        Binding("ctrl+k", "screen.next_checkpoint", show=False, id="next_checkpoint"),
    ]

    def __init__(self, name: str, value: str) -> None:
        super().__init__(
            value, id=f"setting-{name}", name=name, placeholder="off" if name == "stop" else ""
        )
        self.cursor_blink = False
        if name == "stop":
            self.line_break = "\\n"  # as a line break is written in the box


class SettingsRow(Container):
    """Temperature, top-p, top-k, max and seed; on a wide terminal also min-p, penalty and stop.

    On a narrow terminal these have a second row while a setting is edited or one of them is on. A
    temperature of 0, or `greedy`, always takes the most likely token.
    """

    DEFAULT_CSS = """
    SettingsRow { height: auto; padding: 0 2; layout: vertical; }
    SettingsRow > Horizontal { height: 1; width: 1fr; }
    SettingsRow.-wide { layout: horizontal; height: 1; }
    SettingsRow.-wide > Horizontal { width: auto; }
    SettingsRow.-wide > .more { width: 1fr; }
    SettingsRow .part { width: auto; height: 1; }
    SettingsRow.-narrow > .always { layout: vertical; height: 2; }
    SettingsRow Static { width: auto; height: 1; color: #808080; margin: 0 1 0 0; }
    SettingsRow SettingInput {
        height: 1; border: none; padding: 0 0 0 1; margin: 0 1 0 0; background: #262626; color:
        #eeeeee;
    }
    SettingsRow SettingInput:focus {
        border: none; background: #303030; background-tint: #303030 0%;
    }
    SettingsRow SettingInput.-off { color: #808080; }
    SettingsRow SettingInput.-wrong { color: #ff5f5f; }
    SettingsRow SettingInput > .input--cursor {
        background: #5fd7ff; color: #121212; text-style: none;
    }
    SettingsRow SettingInput > .input--selection { background: #005f87; color: #eeeeee; }
    SettingsRow SettingInput > .input--placeholder { color: #808080; }
    SettingsRow #setting-stop { margin: 0; }
    """

    class Changed(Message):
        """A setting or its problem changed."""

    def __init__(self, sampling: SamplingConfig, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._values: dict[str, object] = sampling.model_dump(mode="json")
        self._before = dict(self._values)
        """The values when a box got the focus."""
        self.problem = ""
        """What is wrong with a setting; empty if nothing."""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="always"):
            for fields in SHOWN:
                with Horizontal(classes="part"):
                    yield from self._boxes(fields)
        with Horizontal(classes="more"):
            yield from self._boxes(MORE)

    def _boxes(self, fields: Iterable[tuple[str, int]]) -> ComposeResult:
        for name, width in fields:
            yield Static(FIELDS[name].title)
            box = SettingInput(name, self._text(name))
            box.styles.width = width or "1fr"
            box.set_class(self._is_off(name), "-off")
            yield box

    @property
    def settings(self) -> SamplingConfig:
        """The settings for the sampler.

        Raises:
            ConfigError: a setting is invalid.
        """
        changes = {f"sampling.{name}": value for name, value in self._values.items()}
        return parse_config(merge(RunConfig(), changes)).sampling

    def take(self, sampling: SamplingConfig) -> None:
        """Show these settings."""
        self._values = sampling.model_dump(mode="json")
        with self.prevent(Input.Changed):
            for name in NAMES:
                box = self.query_one(f"#setting-{name}", SettingInput)
                if not box.has_focus:
                    box.value = self._text(name)
        self._check()

    def set_seed(self, seed: int) -> None:
        """Set the seed."""
        self._values["seed"] = seed
        with self.prevent(Input.Changed):
            self.query_one("#setting-seed", SettingInput).value = str(seed)
        self._check()

    def focus_first(self) -> None:
        """Focus the first setting."""
        self.screen.set_focus(self.query_one("#setting-temperature", SettingInput))

    def fit(self, columns: int) -> None:
        """Use one row on a wide terminal, otherwise two or three."""
        self.set_class(columns >= ONE_ROW_FROM, "-wide")
        self.set_class(columns < TWO_ROWS_BELOW, "-narrow")
        self._show_more()

    def give_up(self) -> None:
        """Restore the value that the focused setting had before."""
        box = self.screen.focused
        if isinstance(box, SettingInput) and box.name is not None:
            names = (box.name, "greedy") if box.name == "temperature" else (box.name,)
            self._values.update(
                {name: self._before[name] for name in names if name in self._before}
            )
            with self.prevent(Input.Changed):
                box.value = self._text(box.name)
            self._check()

    def on_descendant_focus(self) -> None:
        self._before = dict(self._values)
        self._show_more()

    def on_descendant_blur(self) -> None:
        self._show_more()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        name = cast(str, event.input.name)
        text = event.value.strip().lower()
        if name == "temperature":
            self._values["greedy"] = text in ("greedy", "0", "0.0")
            if self._values["greedy"]:
                self._values["temperature"] = SamplingConfig().temperature
                self._check()
                return
        if name == "stop":  # spaces and capital letters are part of it
            self._values[name] = unescaped_list(event.value)
        else:
            self._values[name] = (
                OFF[name] if name in OFF and text == "off" else read_value(FIELDS[name], text)
            )
        self._check()

    def on_input_blurred(self, event: Input.Blurred) -> None:
        event.stop()
        name = cast(str, event.input.name)
        if name in OFF or name == "temperature":
            with self.prevent(Input.Changed):
                event.input.value = self._text(name)
        event.input.cursor_position = 0  # show the value from its start

    def _text(self, name: str) -> str:
        if name == "temperature" and self._values.get("greedy"):
            return "greedy"
        value = self._values[name]
        if name == "stop":
            return escaped_list(cast(Sequence[str], value))
        return "off" if name in OFF and value == OFF[name] else edited_value(FIELDS[name], value)

    def _is_off(self, name: str) -> bool:
        greedy = bool(self._values.get("greedy")) or self._values["temperature"] == 0
        return (greedy and name in IDLE_WHEN_GREEDY) or (
            name in OFF and self._values[name] == OFF[name]
        )

    def _check(self) -> None:
        wrong: set[str] = set()
        self.problem = ""
        try:
            _ = self.settings
        except ConfigError as error:
            wrong = {_name_of(problem) for problem in error.problems}
            first = error.problems[0]
            self.problem = f"{FIELDS[_name_of(first)].title} {short_message(first)}"
        for name in NAMES:
            box = self.query_one(f"#setting-{name}", SettingInput)
            box.set_class(name in wrong, "-wrong")
            box.set_class(self._is_off(name), "-off")
        self._show_more()
        self.post_message(self.Changed())

    def _show_more(self) -> None:
        # Not by style sheet, which is applied only when idle: a second tab would come earlier.
        on = any(self._values[name] != OFF.get(name, []) for name, _ in MORE)
        self.query_one(".more", Horizontal).display = (
            on or self.has_focus_within or self.has_class("-wide")
        )


def _name_of(problem: Problem) -> str:
    return field_of(problem).partition(".")[2]
