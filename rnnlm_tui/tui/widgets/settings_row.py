"""The sampling settings above the prompt: boxes in as many rows as they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input

from rnnlm_tui.errors import ConfigError, Problem
from rnnlm_tui.schema.config import IDLE_WHEN_GREEDY, SAMPLING_OFF, RunConfig, SamplingConfig
from rnnlm_tui.schema.formatting import escaped_list, unescaped_list
from rnnlm_tui.schema.sampling import MAX_SAMPLES
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.palette import DIM, TEXT
from rnnlm_tui.tui.views.form import FIELDS, edited_value, field_of, read_value, short_message
from rnnlm_tui.tui.widgets.text_field import SafeInput

USUAL = ("temperature", "top_p", "top_k", "min_p", "max_new_tokens", "seed")
"""Settings that are shown even if they are off."""
SETTINGS = (*USUAL, "samples", *(name for name in SAMPLING_OFF if name not in USUAL), "stop")
"""All settings, in the order of the row."""
LEAST_CELLS = {"top_p": 6, "seed": 3, "samples": 3}
"""The least cells of a setting's box; 5 for others."""
FIRST_TO_GO = ("min_p", "top_k", "top_p")
"""Of these, those that are off are left out if the row is too narrow."""
NOTHING: dict[str, object] = {**SAMPLING_OFF, "stop": [], "samples": 1}
"""Values of settings that have no effect."""
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
ROOMY_FROM = 99
"""Columns of a terminal above which settings are further apart."""
HINT = Content.assemble(("tab", f"bold {TEXT}"), (" edit settings", DIM))


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """What the row says."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    random_seed: bool = False
    """Each request draws a seed; the one in `sampling` is the last."""
    samples: int = 1

    @property
    def values(self) -> dict[str, object]:
        """All settings by name."""
        values: dict[str, object] = self.sampling.model_dump(mode="json")
        return values | {"samples": self.samples} | ({"seed": RANDOM} if self.random_seed else {})


def written(name: str, values: Mapping[str, object]) -> str:
    """Return a setting as it is written in its box."""
    value = values[name]
    if name == "temperature" and values["greedy"]:
        return "greedy"
    if name == "stop":
        return escaped_list(cast(Sequence[str], value))
    if name == "samples" or value == RANDOM:
        return str(value)
    if name in SAMPLING_OFF and value == SAMPLING_OFF[name]:
        return "off"
    return edited_value(FIELDS[f"sampling.{name}"], value)


def read(name: str, text: str) -> dict[str, object]:
    """Return what is written in the box of a setting; the temperature may also say greedy."""
    word = text.strip().lower()
    if name == "temperature" and word in ("greedy", "0", "0.0"):
        return {"greedy": True}
    if name == "stop":  # spaces and capital letters are part of it
        return {name: unescaped_list(text)}
    if name == "samples":
        return {name: int(word) if word.isdecimal() else text}
    if name == "seed" and word == RANDOM:
        return {name: RANDOM}
    off = name in SAMPLING_OFF and word == "off"
    value = SAMPLING_OFF[name] if off else read_value(FIELDS[f"sampling.{name}"], word)
    return {"greedy": False, name: value} if name == "temperature" else {name: value}


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
        self.heading = f"{_title(name)} "
        self.before = value
        """What was written when it got the focus."""
        if name == "stop":
            self.line_break = "\\n"  # as a line break is written in the box

    def on_focus(self) -> None:
        self.before = self.value

    @property
    def cells(self) -> int:
        """The cells for the title and the whole value, with a blank on either side."""
        wanted = cell_len(self.value or self.placeholder) + 2
        return len(self.heading) + max(LEAST_CELLS.get(cast(str, self.name), 5), wanted)


class SettingsRow(Container):
    """The settings of the next sample: usual ones and those that are on, while editing all.

    A temperature of 0, or `greedy`, always takes the most likely token.
    """

    DEFAULT_CSS = """
    SettingsRow { height: 1; padding: 0 2; color: #808080; }
    SettingsRow SettingInput { position: absolute; padding: 0 0 0 1; color: #eeeeee; }
    SettingsRow SettingInput:focus { background: #303030; }
    SettingsRow SettingInput.-off { color: #808080; }
    SettingsRow SettingInput.-wrong { color: #ff5f5f; }
    """

    class Changed(Message):
        """A setting or its problem changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.settings = PromptSettings()
        """The newest valid settings."""
        self._taken = self._values = self.settings.values
        """The settings that were shown last, and what is written in the boxes."""
        self._seed = 0
        """The number to return to after `random`."""
        self._boxes: dict[str, SettingInput] = {}
        self.problem = ""
        """What is wrong with a setting; empty if nothing."""

    def compose(self) -> ComposeResult:
        for name in SETTINGS:
            self._boxes[name] = SettingInput(name, written(name, self._taken))
        yield from self._boxes.values()

    @property
    def focused(self) -> SettingInput | None:
        """The box that has the focus."""
        box = self.screen.focused
        return box if isinstance(box, SettingInput) else None

    @property
    def note(self) -> str:
        """What the focused setting means."""
        name = self.focused.name if self.focused is not None else None
        return "" if name is None else NOTES.get(name) or FIELDS[f"sampling.{name}"].help

    def take(self, settings: PromptSettings) -> None:
        """Show these settings."""
        self._taken, self._seed = settings.values, settings.sampling.seed
        for name, box in self._boxes.items():
            if not box.has_focus:
                self._write(box, written(name, self._taken))
        self._check()

    def set_seed(self, seed: int) -> None:
        """Use this seed from now on; a random one stays random, with this as the last."""
        self._seed = seed
        if self._values["seed"] != RANDOM:
            self._write(self._boxes["seed"], str(seed))
            self._check()

    def move_focus(self, by: int) -> bool:
        """Focus the first setting, or from one the next or the previous; False beyond the ends.

        Textual's own order may lack boxes that have just been shown (its list of them is stale).
        """
        boxes, focused = list(self._boxes.values()), self.focused
        place = 0 if focused is None else boxes.index(focused) + by
        if not 0 <= place < len(boxes):
            return False
        for box in boxes:
            box.display = True
        self.screen.set_focus(boxes[place])
        return True

    def give_up(self) -> None:
        """Restore the value that the focused setting had before."""
        if self.focused is not None:
            self._write(self.focused, self.focused.before)
            self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._check()

    def on_input_blurred(self, event: Input.Blurred) -> None:
        event.stop()
        box, name = cast(SettingInput, event.input), cast(str, event.input.name)
        if name in SAMPLING_OFF or name in ("temperature", "seed"):
            self._write(box, written(name, self._values | read(name, box.value)))
        box.cursor_position = 0  # show the value from its start
        self._show_boxes()

    def _write(self, box: SettingInput, text: str) -> None:
        with self.prevent(Input.Changed):
            box.value = text

    def _is_off(self, name: str) -> bool:
        idle = bool(self._values["greedy"]) and name in IDLE_WHEN_GREEDY
        return idle or (name in SAMPLING_OFF and self._values[name] == SAMPLING_OFF[name])

    def _check(self) -> None:
        """Read the boxes, and show what is wrong."""
        self._values = dict(self._taken)
        for name, box in self._boxes.items():
            self._values |= read(name, box.value)
        problems: Sequence[Problem] = ()
        try:
            self.settings = self._read_settings()
        except ConfigError as error:
            problems = error.problems
        wrong = [field_of(problem).partition(".")[2] for problem in problems]
        self.problem = f"{_title(wrong[0])} {short_message(problems[0])}" if wrong else ""
        for name, box in self._boxes.items():
            box.set_class(name in wrong, "-wrong")
            box.set_class(self._is_off(name), "-off")
        self._show_boxes()
        self.post_message(self.Changed())

    on_mount = _check

    def _read_settings(self) -> PromptSettings:
        samples, random_seed = self._values["samples"], self._values["seed"] == RANDOM
        if not isinstance(samples, int) or not 1 <= samples <= MAX_SAMPLES:
            words = f"must be 1 to {MAX_SAMPLES}, not {samples}"
            raise ConfigError([Problem("sampling.samples", words)])
        values = self._values | ({"seed": self._seed} if random_seed else {})
        changes = {f"sampling.{name}": value for name, value in values.items() if name != "samples"}
        sampling = parse_config(merge(RunConfig(), changes)).sampling
        return PromptSettings(sampling, random_seed, samples)

    def _show_boxes(self) -> None:
        """Show the settings that matter now, and lay them out by their values."""
        # Not by style sheet, which is applied only when idle: a second tab would come earlier.
        shown, room = set(SETTINGS), self.size.width or self.app.size.width - 4
        if not self.has_focus_within:
            on = {name for name in shown if self._values[name] != NOTHING.get(name)}
            shown = on.union(USUAL)
            for going in FIRST_TO_GO:
                if sum(self._boxes[name].cells for name in shown) + len(shown) - 1 > room:
                    shown -= {going} if self._is_off(going) else set()
        for name, box in self._boxes.items():
            if box.display != (name in shown):
                box.display = name in shown
        for box, place in self.places(room):
            box.styles.offset, box.styles.width = (place.x, place.y), place.width
            self.styles.height = place.y + 1
        self.refresh()

    on_resize = on_descendant_focus = on_descendant_blur = _show_boxes

    def places(self, width: int) -> Iterator[tuple[SettingInput, Region]]:
        """Yield the shown boxes with their places, each behind its title."""
        shown = [box for box in self._boxes.values() if box.display]
        total, x, y = sum(box.cells for box in shown), 0, 0
        wide = total + WIDE_GAP * (len(shown) - 1) <= width and self.app.size.width > ROOMY_FROM
        for box in shown:
            if x and x + box.cells > width:
                x, y = 0, y + 1
            title = len(box.heading)
            yield box, Region(x + title, y, max(1, min(box.cells, width - x) - title), 1)
            x += box.cells + (WIDE_GAP if wide else NARROW_GAP)

    def render(self) -> Content:
        """Draw the titles, and at the end of a single row how to edit the settings."""
        rows, end = [""], 0
        for box, place in self.places(self.size.width):
            rows += [""] * (place.y + 1 - len(rows))
            rows[place.y] = rows[place.y].ljust(place.x - len(box.heading)) + box.heading
            end = place.right
        room = self.size.width - HINT.cell_length
        hint = not self.has_focus_within and self.app.size.width > ROOMY_FROM and len(rows) == 1
        if hint and end + WIDE_GAP <= room:
            return Content(rows[0].ljust(room)) + HINT
        return Content("\n".join(rows))


def _title(name: str) -> str:
    return name if name == "samples" else FIELDS[f"sampling.{name}"].title
