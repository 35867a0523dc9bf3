"""The sampling settings in one row: edited in place, checked on every key."""

from __future__ import annotations

from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from rnnlm_tui.contract.config import RunConfig, SamplingConfig
from rnnlm_tui.contract.validation import merge, parse_config
from rnnlm_tui.errors import ConfigError
from rnnlm_tui.tui.widgets.form_draft import short_message
from rnnlm_tui.tui.widgets.form_fields import FORM_FIELDS, FormField, edited_value, read_value
from rnnlm_tui.tui.widgets.ordered_keys import OrderedKeys
from rnnlm_tui.tui.widgets.safe_text import SafeInput

SHOWN: tuple[tuple[str, int], ...] = (("temperature", 8), ("top_p", 6), ("top_k", 6), ("max_new_tokens", 7), ("seed", 8))
"""Fields of the row, each with the cells of its box."""
FIELDS: dict[str, FormField] = {field.path.partition(".")[2]: field for field in FORM_FIELDS if field.section == "sampling"}
OFF: dict[str, object] = {"top_k": 0, "top_p": 1.0}
"""Values that switch a setting off; `off` may be written for them."""
IDLE_WHEN_GREEDY = ("top_p", "top_k", "seed")


class SettingInput(OrderedKeys, SafeInput, can_focus=True):
    """One setting. Enter and the arrows go back to the prompt."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,up,down", "screen.back_to_prompt", show=False),
        Binding("ctrl+k", "screen.next_checkpoint", show=False, id="next_checkpoint"),
    ]

    def __init__(self, name: str, value: str) -> None:
        super().__init__(value, id=f"setting-{name}", name=name)
        self.cursor_blink = False


class SettingsRow(Horizontal):
    """temperature, top-p, top-k, max and seed. A temperature of 0, or `greedy`, always takes the likeliest token."""

    DEFAULT_CSS = """
    SettingsRow { height: 1; padding: 0 2; }
    SettingsRow Static { width: auto; height: 1; color: #808080; margin: 0 1 0 0; }
    SettingsRow SettingInput { height: 1; border: none; padding: 0 1; margin: 0 1 0 0; background: #262626; color: #eeeeee; }
    SettingsRow SettingInput:focus { border: none; background: #303030; background-tint: #303030 0%; }
    SettingsRow SettingInput.-off { color: #808080; }
    SettingsRow SettingInput.-wrong { color: #ff5f5f; }
    SettingsRow SettingInput > .input--cursor { background: #5fd7ff; color: #121212; text-style: none; }
    SettingsRow SettingInput > .input--selection { background: #005f87; color: #eeeeee; }
    SettingsRow.-wide SettingInput { margin: 0 3 0 0; }
    """

    class Changed(Message):
        """Another setting, or another problem with one."""

    def __init__(self, sampling: SamplingConfig, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._values: dict[str, object] = sampling.model_dump()
        self.problem = ""
        """What is wrong with a setting, in words; empty: nothing."""

    def compose(self) -> ComposeResult:
        for name, width in SHOWN:
            yield Static(FIELDS[name].title)
            box = SettingInput(name, self._text(name))
            box.styles.width = width
            box.set_class(self._is_off(name), "-off")
            yield box

    @property
    def settings(self) -> SamplingConfig:
        """The settings as a sampler takes them.

        Raises:
            ConfigError: one of them can't be.
        """
        changes = {f"sampling.{name}": value for name, value in self._values.items()}
        return parse_config(merge(RunConfig(), changes)).sampling

    def take(self, sampling: SamplingConfig | SamplingConfig) -> None:
        """Show other settings."""
        self._values = sampling.model_dump()
        with self.prevent(Input.Changed):
            for name, _ in SHOWN:
                box = self.query_one(f"#setting-{name}", SettingInput)
                if not box.has_focus:
                    box.value = self._text(name)
        self._check()

    def set_seed(self, seed: int) -> None:
        """Another seed."""
        self._values["seed"] = seed
        with self.prevent(Input.Changed):
            self.query_one("#setting-seed", SettingInput).value = str(seed)
        self._check()

    def focus_first(self) -> None:
        """Into the first setting."""
        self.screen.set_focus(self.query_one("#setting-temperature", SettingInput))

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
        self._values[name] = OFF[name] if name in OFF and text == "off" else read_value(FIELDS[name], text)
        self._check()

    def on_input_blurred(self, event: Input.Blurred) -> None:
        event.stop()
        name = cast(str, event.input.name)
        if name in OFF or name == "temperature":
            with self.prevent(Input.Changed):
                event.input.value = self._text(name)
        event.input.cursor_position = 0  # the value from its start, however it was edited

    def _text(self, name: str) -> str:
        if name == "temperature" and self._values.get("greedy"):
            return "greedy"
        value = self._values[name]
        return "off" if name in OFF and value == OFF[name] else edited_value(FIELDS[name], value)

    def _is_off(self, name: str) -> bool:
        return (bool(self._values.get("greedy")) and name in IDLE_WHEN_GREEDY) or (name in OFF and self._values[name] == OFF[name])

    def _check(self) -> None:
        wrong: set[str] = set()
        self.problem = ""
        try:
            _ = self.settings
        except ConfigError as error:
            wrong = {problem.path.partition(".")[2] for problem in error.problems}
            first = error.problems[0]
            self.problem = f"{FIELDS[first.path.partition('.')[2]].title} {short_message(first)}"
        for name, _width in SHOWN:
            box = self.query_one(f"#setting-{name}", SettingInput)
            box.set_class(name in wrong, "-wrong")
            box.set_class(self._is_off(name), "-off")
        self.post_message(self.Changed())
