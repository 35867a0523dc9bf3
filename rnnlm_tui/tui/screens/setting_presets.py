"""Presets of the sampling settings: built-in ones, and those that the user saved."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple, cast

from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui.errors import ConfigError, InputError
from rnnlm_tui.schema.config import SAMPLING_OFF, RunConfig, SamplingConfig
from rnnlm_tui.schema.validation import fields, merge, parse_config
from rnnlm_tui.tui.palette import DIM, TEXT, TRAIN
from rnnlm_tui.tui.screens.manage import Done, ManageScreen
from rnnlm_tui.tui.screens.overlay import AskScreen, keys_in_line
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.form import number_text

SETTING = "sampling_presets"
"""Where the app's settings have the user's presets, by name."""
PRESET_FIELDS = ("greedy", "temperature", *SAMPLING_OFF)
"""What a preset sets. Stop strings, length, seed and the number of samples stay as they are."""
OFF = SamplingConfig(temperature=1.0).model_copy(update=SAMPLING_OFF)
"""Every filter off."""
MAX_NAME = 30


def preset_values(settings: SamplingConfig) -> dict[str, Any]:
    """Return what a preset keeps of the settings."""
    return {name: getattr(settings, name) for name in PRESET_FIELDS}


class SettingPreset(NamedTuple):
    """Named values of the sampling settings."""

    name: str
    values: dict[str, Any]
    own: bool = False
    """Whether the user saved it."""

    @property
    def about(self) -> str:
        """`temperature 0.5, top-p 0.9`."""
        values, known = self.values, fields()
        if OFF.model_copy(update=values).is_greedy:
            return "always the most likely token"
        on = [name for name, off in SAMPLING_OFF.items() if values[name] != off]
        return ", ".join(
            f"{known[f'sampling.{name}'].title} {number_text(values[name])}"
            for name in ("temperature", *on)
        )


BUILT_IN = tuple(
    SettingPreset(name, {**preset_values(OFF), **values})
    for name, values in (
        ("greedy", {"greedy": True}),
        ("careful", {"temperature": 0.5, "top_p": 0.9}),
        ("wild", {"temperature": 1.2, "min_p": 0.02}),
    )
)


def own_presets(saved: object) -> list[SettingPreset]:
    """Return the user's presets from the app's settings; invalid ones are skipped."""
    found = []
    for name, values in saved.items() if isinstance(saved, dict) else ():
        if isinstance(name, str) and isinstance(values, Mapping):
            changes = {f"sampling.{key}": values[key] for key in PRESET_FIELDS if key in values}
            with suppress(ConfigError):
                sampling = parse_config(merge(RunConfig(), changes)).sampling
                found.append(SettingPreset(name, preset_values(sampling), own=True))
    return found


def check_preset_name(name: str) -> str:
    """Return a new preset's name without blanks at its ends.

    Raises:
        InputError: it is empty, too long or a built-in preset's.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise InputError(f"a preset's name has 1 to {MAX_NAME} characters")
    if name in {preset.name for preset in BUILT_IN}:
        raise InputError(f'"{name}" is a built-in preset: choose another name')
    return name


class SettingPresetsScreen(ManageScreen[SettingPreset, SamplingConfig]):
    """Returns the settings with the chosen preset; None for none.

    Args:
        settings: the current ones.
        of_run: the run's own settings, offered as a preset.
    """

    LIST_TITLE = "Presets of settings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f9", "dismiss", id="setting_presets"),
        ("s", "save"), ("d", "delete"), ("u", "undo"),
    ]  # fmt: skip

    def __init__(self, settings: SamplingConfig, of_run: SamplingConfig | None) -> None:
        super().__init__()
        self._settings = settings
        self._of_run = [] if of_run is None else [SettingPreset("the run's", preset_values(of_run))]

    def read(self) -> list[SettingPreset]:
        return [*self._of_run, *BUILT_IN, *own_presets(self._saved)]

    def reread(self, at: str = "") -> None:
        """Show the presets, which are in the app's settings; first the cursor is at theirs."""
        presets = self.read()
        if not self.items:
            now = preset_values(self._settings)
            at = next((preset.name for preset in presets if preset.values == now), "")
        self.show(presets, at)

    def name_of(self, item: SettingPreset) -> str:
        return item.name

    def keys(self) -> Content:
        keys = [("enter", "use"), ("s", "save the current settings as …"), ("d", "delete")]
        return keys_in_line([*keys, ("esc", "close")])

    def row(self, item: SettingPreset) -> Content:
        longest = max(len(known.name) for known in self.items)
        return Content.assemble(
            ("● " if item.values == preset_values(self._settings) else "  ", TRAIN),
            (safe_text(item.name, newlines="show").ljust(longest), TEXT),
            (f"  {item.about}", DIM),
        )

    def action_choose(self) -> None:
        """Close with the preset under the cursor."""
        if self.chosen is not None:
            self.dismiss(self._settings.model_copy(update=self.chosen.values))

    @act
    async def action_save(self) -> None:
        """Save the current settings under a name, which is asked."""
        title, about = "Save the current settings as", "an existing name is overwritten"
        answer = await self.context.ask(
            AskScreen(title, "", check_preset_name, about=about, most=MAX_NAME)
        )
        if answer is not None:
            name = answer.strip()
            self._saved[name] = preset_values(self._settings)
            self.changed(Done(f"saved as {name}"))

    def action_delete(self) -> None:
        """Delete the user's preset under the cursor."""
        preset = self.chosen
        if preset is None:
            return
        if not preset.own:
            self.say(f"{preset.name} is built in and can't be deleted")
            return
        name, values = preset.name, self._saved.pop(preset.name)
        undo = (lambda: self._saved.setdefault(name, values), f"{name} restored")
        self.changed(Done(f"{name} deleted, u undoes it", name, undo))

    def changed(self, done: Done) -> None:
        """Save the presets, and show what was done."""
        self.context.save_settings()
        super().changed(done)

    @property
    def _saved(self) -> dict[str, object]:
        saved = self.context.settings.get(SETTING)
        if not isinstance(saved, dict):
            saved = self.context.settings[SETTING] = {}
        return cast(dict[str, object], saved)
