"""The sampling settings above the prompt: boxes in as many rows as they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.geometry import NULL_OFFSET, Region, Size, Spacing
from textual.layout import Layout, WidgetPlacement
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from rnnlm_tui.errors import ConfigError, Problem
from rnnlm_tui.schema.config import SAMPLING_OFF as OFF
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.formatting import escaped_list, unescaped_list
from rnnlm_tui.schema.sampling import MAX_SAMPLES
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.palette import DIM, TEXT
from rnnlm_tui.tui.views.form import (
    FORM_FIELDS,
    FormField,
    edited_value,
    field_of,
    read_value,
    short_message,
)
from rnnlm_tui.tui.widgets.text_field import SafeInput

LEAST_CELLS: dict[str, int] = {
    "temperature": 5, "top_p": 6, "top_k": 5, "min_p": 5, "max_new_tokens": 5, "seed": 3,
    "samples": 3, "typical_p": 5, "repetition_penalty": 5, "penalty_window": 5, "stop": 5,
}  # fmt: skip
"""Each setting, in the order of the row, with the least cells of its box."""
USUAL = ("temperature", "top_p", "top_k", "min_p", "max_new_tokens", "seed")
"""Settings that are shown even if they are off."""
FIRST_TO_GO = ("min_p", "top_k", "top_p")
"""Of these, those that are off are left out if the row is too narrow."""
FIELDS: dict[str, FormField] = {
    field.path.partition(".")[2]: field for field in FORM_FIELDS if field.section == "sampling"
}
NOTHING: dict[str, object] = {**OFF, "stop": [], "samples": 1}
"""Values of settings that have no effect."""
IDLE_WHEN_GREEDY = ("top_p", "top_k", "min_p", "typical_p", "seed")
RANDOM = "random"
"""The seed that is drawn again for every request."""
NOTES = {
    "stop": "Stop before this text. \\n is a line break, | between several.",
    "seed": "A number, or random: each request draws a seed.",
    "samples": f"Samples of one request, computed together: 1 to {MAX_SAMPLES}.",
}
"""What settings mean, if it differs from a run's config."""
NARROW_GAP, WIDE_GAP = 1, 3
"""Cells between two settings."""


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """What the row says."""

    sampling: SamplingConfig
    random_seed: bool = False
    """Each request draws a seed; the one in `sampling` is the last."""
    samples: int = 1


class FlowLayout(Layout):
    """Labels with their boxes from left to right, in as many rows as needed."""

    name = "flow"

    def arrange(
        self,
        parent: Widget,
        children: list[Widget],
        size: Size,
        greedy: bool = True,  # noqa: ARG002 (Textual's)
    ) -> list[WidgetPlacement]:
        """Place the children, which are labels and boxes in turn, then perhaps a hint."""
        shown = [child for child in children if child.display]
        hint = shown.pop() if len(shown) % 2 else None
        pairs = list(zip(shown[::2], shown[1::2], strict=True))
        widths = [
            (cell_len(str(cast(Static, label).content)) + 1, cast(SettingInput, box).wanted_cells)
            for label, box in pairs
        ]
        total = sum(map(sum, widths))
        wide = total + WIDE_GAP * (len(pairs) - 1) <= size.width
        gap = WIDE_GAP if wide and parent.app.size.width > ROOMY_FROM else NARROW_GAP
        placements, x, y = [], 0, 0
        for (label, box), (title, cells) in zip(pairs, widths, strict=True):
            if x and x + title + cells > size.width:
                x, y = 0, y + 1
            cells = max(1, min(cells, size.width - x - title))
            placements += [
                _placed(label, Region(x, y, title, 1)),
                _placed(box, Region(x + title, y, cells, 1)),
            ]
            x += title + cells + gap
        if hint is not None:
            cells = cell_len(str(cast(Static, hint).content))
            room = size.width - cells if y == 0 and x + cells <= size.width else size.width
            placements.append(_placed(hint, Region(room, 0, cells, 1)))
        return placements


FLOW = FlowLayout()
ROOMY_FROM = 99
"""Columns of a terminal above which settings are further apart."""


def _placed(widget: Widget, region: Region) -> WidgetPlacement:
    return WidgetPlacement(region, NULL_OFFSET, Spacing(), widget)


class SettingInput(OrderedKeys, SafeInput, can_focus=True):
    """A setting's text field; enter and the arrow keys keep it and go back to the prompt."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,up,down", "app.focus('prompt-box')", show=False),
        Binding("shift+tab", "screen.settings(-1)", show=False),
        Binding("ctrl+k", "screen.next_checkpoint", show=False, id="next_checkpoint"),
    ]

    def __init__(self, name: str, value: str) -> None:
        super().__init__(
            value, id=f"setting-{name}", name=name, placeholder="off" if name == "stop" else ""
        )
        self.least = LEAST_CELLS[name]
        if name == "stop":
            self.line_break = "\\n"  # as a line break is written in the box

    @property
    def wanted_cells(self) -> int:
        """The cells that show the whole value, with a blank on either side."""
        return max(self.least, cell_len(self.value or self.placeholder) + 2)


class SettingsRow(Container):
    """The settings of the next sample: usual ones and those that are on, while editing all.

    A temperature of 0, or `greedy`, always takes the most likely token.
    """

    DEFAULT_CSS = """
    SettingsRow { height: auto; padding: 0 2; }
    SettingsRow Static { width: auto; height: 1; color: #808080; }
    SettingsRow SettingInput { padding: 0 0 0 1; color: #eeeeee; }
    SettingsRow SettingInput:focus { background: #303030; }
    SettingsRow SettingInput.-off { color: #808080; }
    SettingsRow SettingInput.-wrong { color: #ff5f5f; }
    """

    class Changed(Message):
        """A setting or its problem changed."""

    def __init__(self, settings: PromptSettings, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._values = _values_of(settings)
        self._seed = settings.sampling.seed
        """The number to return to after `random`."""
        self._before = dict(self._values)
        """The values when a box got the focus."""
        self.problem = ""
        """What is wrong with a setting; empty if nothing."""

    def compose(self) -> ComposeResult:
        for name in LEAST_CELLS:
            yield Static(_title(name), markup=False, classes=f"title-{name}")
            box = SettingInput(name, self._text(name))
            box.set_class(self._is_off(name), "-off")
            yield box
        yield Static(
            Content.assemble(("tab", f"bold {TEXT}"), (" edit settings", DIM)), id="settings-hint"
        )

    def on_mount(self) -> None:
        self._show_boxes()

    def on_resize(self) -> None:
        self._show_boxes()

    @property
    def layout(self) -> Layout:
        """Place labels and boxes in rows (Textual's hook)."""
        return FLOW

    @property
    def settings(self) -> PromptSettings:
        """The settings for the sampler.

        Raises:
            ConfigError: a setting is invalid.
        """
        values = dict(self._values)
        samples, random_seed = values.pop("samples"), values["seed"] == RANDOM
        if random_seed:
            values["seed"] = self._seed
        changes = {f"sampling.{name}": value for name, value in values.items()}
        sampling = parse_config(merge(RunConfig(), changes)).sampling
        if not isinstance(samples, int) or not 1 <= samples <= MAX_SAMPLES:
            raise ConfigError(
                [Problem("sampling.samples", f"must be 1 to {MAX_SAMPLES}, not {samples}")]
            )
        return PromptSettings(sampling, random_seed, samples)

    @property
    def note(self) -> str:
        """What the focused setting means."""
        box = self.screen.focused
        if not isinstance(box, SettingInput) or box.name is None:
            return ""
        return NOTES.get(box.name) or FIELDS[box.name].help

    def take(self, settings: PromptSettings) -> None:
        """Show these settings."""
        self._values, self._seed = _values_of(settings), settings.sampling.seed
        with self.prevent(Input.Changed):
            for name in LEAST_CELLS:
                box = self._box(name)
                if not box.has_focus:
                    box.value = self._text(name)
        self._check()

    def set_seed(self, seed: int) -> None:
        """Use this seed from now on; a random one stays random, with this as the last."""
        self._seed = seed
        if self._values["seed"] != RANDOM:
            self._values["seed"] = seed
            with self.prevent(Input.Changed):
                self._box("seed").value = str(seed)
            self._check()

    def focus_first(self) -> None:
        """Focus the first setting."""
        self._show_boxes(all_of_them=True)
        self.screen.set_focus(self._box("temperature"))

    def move_focus(self, by: int) -> bool:
        """Focus the next setting, or the previous one; False beyond the last or the first.

        Textual's own order may lack boxes that have just been shown (its list of them is stale).
        """
        box = self.screen.focused
        names = list(LEAST_CELLS)
        if not isinstance(box, SettingInput) or box.name not in names:
            return False
        place = names.index(box.name) + by
        if not 0 <= place < len(names):
            return False
        self.screen.set_focus(self._box(names[place]))
        return True

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
        self._show_boxes()

    def on_descendant_blur(self) -> None:
        self._show_boxes()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        name = cast(str, event.input.name)
        self._values.update(self._read(name, event.value))
        self._check()

    def on_input_blurred(self, event: Input.Blurred) -> None:
        event.stop()
        name = cast(str, event.input.name)
        if name in OFF or name in ("temperature", "seed"):
            with self.prevent(Input.Changed):
                event.input.value = self._text(name)
        event.input.cursor_position = 0  # show the value from its start

    def _read(self, name: str, written: str) -> dict[str, object]:
        text = written.strip().lower()
        if name == "temperature" and text in ("greedy", "0", "0.0"):
            return {"greedy": True, name: SamplingConfig().temperature}
        if name == "stop":  # spaces and capital letters are part of it
            return {name: unescaped_list(written)}
        if name == "samples":
            return {name: int(text) if text.isdecimal() else written}
        if name == "seed" and text == RANDOM:
            return {name: RANDOM}
        value = OFF[name] if name in OFF and text == "off" else read_value(FIELDS[name], text)
        return {"greedy": False, name: value} if name == "temperature" else {name: value}

    def _text(self, name: str) -> str:
        if name == "temperature" and self._values.get("greedy"):
            return "greedy"
        value = self._values[name]
        if name == "stop":
            return escaped_list(cast(Sequence[str], value))
        if name == "samples" or value == RANDOM:
            return str(value)
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
            self.problem = f"{_title(_name_of(first))} {short_message(first)}"
        for name in LEAST_CELLS:
            box = self._box(name)
            box.set_class(name in wrong, "-wrong")
            box.set_class(self._is_off(name), "-off")
        self._show_boxes()
        self.post_message(self.Changed())

    def _box(self, name: str) -> SettingInput:
        return self.query_one(f"#setting-{name}", SettingInput)

    def _show_boxes(self, *, all_of_them: bool = False) -> None:
        """Show the settings that matter now, and lay them out by their values."""
        # Not by style sheet, which is applied only when idle: a second tab would come earlier.
        editing = all_of_them or self.has_focus_within
        shown = set(LEAST_CELLS) if editing else set(self._mattering())
        for name in LEAST_CELLS:
            box = self._box(name)
            if box.display != (name in shown):
                box.display = name in shown
                self.query_one(f".title-{name}").display = name in shown
        hint = self.query_one("#settings-hint")
        hint.display = not editing and self.app.size.width > ROOMY_FROM
        self.refresh(layout=True)

    def _mattering(self) -> Iterator[str]:
        """Yield the usual settings and those that are on, without some if there is no room."""
        names = [
            name for name in LEAST_CELLS if name in USUAL or self._values[name] != NOTHING.get(name)
        ]
        room = self.size.width or self.app.size.width - 4
        for going in FIRST_TO_GO:
            if sum(self._cells(name) for name in names) + len(names) - 1 <= room:
                break
            if going in names and self._is_off(going):
                names.remove(going)
        yield from names

    def _cells(self, name: str) -> int:
        return cell_len(_title(name)) + 1 + self._box(name).wanted_cells


def _values_of(settings: PromptSettings) -> dict[str, object]:
    values: dict[str, object] = settings.sampling.model_dump(mode="json")
    values["samples"] = settings.samples
    if settings.random_seed:
        values["seed"] = RANDOM
    return values


def _title(name: str) -> str:
    return FIELDS[name].title if name in FIELDS else name


def _name_of(problem: Problem) -> str:
    return field_of(problem).partition(".")[2]
