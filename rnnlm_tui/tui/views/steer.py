"""The form that steers a live run: its fields, a change being made, and the planned rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rnnlm_tui.errors import ConfigError, Problem
from rnnlm_tui.schema.formatting import count, counted, scientific
from rnnlm_tui.schema.steering import (
    STEERABLE,
    next_to_undo,
    settings_text,
    value_of,
    value_text,
)
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.messages import pin_hint
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.views.form import FIELDS, Draft, FormField

if TYPE_CHECKING:
    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.config import CheckpointConfig, RunConfig
    from rnnlm_tui.schema.protocol import CommandResult

TITLES = {"evaluation.every": "evaluate every", "checkpoint.every": "save every"}
"""Labels of fields whose own title needs its section."""
STEER_FIELDS: tuple[FormField, ...] = tuple(
    replace(FIELDS[path], title=TITLES.get(path, FIELDS[path].title)) for path in STEERABLE
)
"""The fields of the form, in its order."""
POINTS = 200
"""Steps at which the planned rates are computed."""


@dataclass(frozen=True, slots=True)
class SteerDraft:
    """A change that isn't sent yet; immutable."""

    state: SteeringState
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Raw values by dotted path, only those that differ from the run's."""
    problems: tuple[Problem, ...] = ()
    """Of the values, by field."""
    config: RunConfig | None = None
    """The whole changed config; None while there are problems."""

    @property
    def form_draft(self) -> Draft:
        """The change as the form edits it."""
        return Draft(self.state.config, "", self.changes)

    @property
    def can_undo(self) -> bool:
        """Whether a change of this run can be undone."""
        return next_to_undo(self.state.journal) is not None

    @property
    def epochs_idle(self) -> bool:
        """Whether max steps decides on the length, so that epochs have no effect."""
        steps = self.changes.get("training.max_steps", self.state.config.training.max_steps)
        return steps is not None and "training.epochs" not in self.changes


def checked(state: SteeringState, changes: Mapping[str, Any]) -> SteerDraft:
    """A draft with these changes, validated as the worker will do; the run's own values are no
    changes."""
    changes = {path: one for path, one in changes.items() if one != value_of(state.config, path)}
    if not changes:
        return SteerDraft(state, {}, (), state.config)
    try:
        config = state.changed(changes)
    except ConfigError as error:
        return SteerDraft(state, changes, error.problems, None)
    return SteerDraft(state, changes, (), config)


def plan_chart(draft: SteerDraft) -> ChartData:
    """The learning rate from the run's step to its end: faint and dotted as it is planned now, and
    with the change."""
    state = draft.state
    lengths = (state.steps(state.config), state.steps(draft.config or state.config))
    ends = [end for end in lengths if end is not None]
    if not ends:
        return ChartData("Planned learning rate", (), note="the run's length is not known yet")

    def curve(config: RunConfig, name: str, colour: str) -> ChartSeries:
        first, last = state.position.step + 1, state.steps(config) or max(ends)
        stride = max(1, (last - first) // POINTS)
        steps = [*range(first, last, stride), max(first, last)]
        rates = state.rates(config, steps)
        return ChartSeries(
            name=name, colour=colour, x=steps, mean=rates, smooth=False, y_format=scientific,
            current=scientific(rates[0]), band=False,
        )  # fmt: skip

    series: tuple[ChartSeries, ...] = (curve(state.config, "now", palette.BASELINE),)
    guides: tuple[ChartSeries, ...] = ()
    if draft.changes and draft.config is not None:
        series, guides = (curve(draft.config, "new", palette.TRAIN),), series
    return ChartData(
        "Planned learning rate", series, guides=guides, x_end=max(ends), x_format="whole",
        y_from_zero=True,
    )  # fmt: skip


def consequence(draft: SteerDraft) -> str:
    """What a change does, in one line: `at step 1,240, 4,754 → 6,000 steps, rate 8e-4 → 3e-4`."""
    state, config = draft.state, draft.config
    step = state.position.step
    if config is None:
        return counted(len(draft.problems), "problem") + " to fix first"
    words = [f"at step {count(step)}"]
    before, after = state.steps(state.config), state.steps(config)
    if before is not None and after is not None:
        words.append(
            f"{count(before)} steps"
            if before == after
            else f"{count(before)} → {count(after)} steps"
        )
        rates = [state.rates(each, [step + 1])[0] for each in (state.config, config)]
        texts = [scientific(rate) for rate in rates]
        words.append(f"rate {texts[0]}" if texts[0] == texts[1] else f"rate {' → '.join(texts)}")
    return ", ".join(words)


def request_text(draft: SteerDraft) -> str:
    """`learning_rate 0.001, patience 5`."""
    return ", ".join(
        f"{path.rpartition('.')[2]} {value_text(path, value)}"
        for path, value in draft.changes.items()
    )


def confirmed_text(result: CommandResult, kept: CheckpointConfig) -> str:
    """`confirmed at step 1,241: optimizer.learning_rate 0.003 → 0.001; saved before it …`.

    Args:
        kept: decides how long the checkpoint stays that was saved before the change.
    """
    change = result.change
    if change is None:
        return f"confirmed at step {count(result.step)}"
    what = settings_text(change.settings)
    undone = "undone" if change.undoes else "confirmed"
    saved = f"; saved before it{hint}" if (hint := pin_hint(kept.stays(change.step))) else ""
    return f"{undone} at step {count(change.step)}: {what}{saved if result.checkpoint else ''}"
