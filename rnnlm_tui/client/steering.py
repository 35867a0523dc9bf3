"""Steer a live run: what can change and its journal, changes, undo, a planned stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from pydantic import JsonValue

from rnnlm_tui.client.control import check_live, send
from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import Schedule, planned_warmup, total_steps
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.schema.steering import (
    JournalledChange,
    Position,
    changed_config,
    check_keys,
    nothing_changed,
    settings_of,
)
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.paths import RunDirectory


@dataclass(frozen=True, slots=True)
class SteeringState:
    """A run at one moment, as far as steering is concerned."""

    summary: RunSummary
    config: RunConfig
    """The config in effect."""
    position: Position
    journal: tuple[JournalledChange, ...]
    """All changes, in order."""

    def changed(self, changes: Mapping[str, JsonValue]) -> RunConfig:
        """The config after a change; raises ConfigError with the problems by field."""
        return changed_config(self.config, changes, self.position)

    def steps(self, config: RunConfig) -> int | None:
        """Steps of the whole run with this config; None: not known yet."""
        per_epoch = self.position.steps_per_epoch
        if config.training.max_steps is None and per_epoch is None:
            return None
        return total_steps(config, per_epoch or 1)

    def rates(self, config: RunConfig, steps: Sequence[int]) -> list[float]:
        """The planned learning rate at each of these steps with this config."""
        total = self.steps(config) or max(steps, default=1)
        peak, warmup = config.optimizer.learning_rate, self.position.warmup_steps
        schedule = Schedule(peak, warmup, config.schedule)
        per_epoch = self.position.steps_per_epoch or total
        return [
            schedule.rate(min(step, total), total_steps=total, steps_per_epoch=per_epoch)
            for step in steps
        ]


def read_steering(run: RunDirectory) -> SteeringState:
    """Read what can be steered of a run, live or ended.

    Raises:
        RnnlmError: the config or a log can't be read.
    """
    with closing(RunMonitor(run)) as monitor:
        summary, config = monitor.summary_and_config()
        facts, journal = monitor.reader.facts(), monitor.reader.changes()
    warmup = facts.warmup_steps
    if warmup is None:
        warmup = planned_warmup(config, summary.max_steps or 1)
    position = Position(summary.step, facts.steps_per_epoch, warmup)
    return SteeringState(summary, config, position, tuple(journal))


def steer(run: RunDirectory, changes: Mapping[str, JsonValue]) -> CommandResult:
    """Change settings of a live run, all or none, from the next step on.

    Raises:
        ConfigError: all problems, by field; nothing was changed.
        InputError: the values are in effect already.
        RunStateError: the run isn't training, or the worker refused.
        WorkerError: no answer.
    """
    check_keys(changes)
    state = read_steering(run)
    check_live(state.summary)
    after = state.changed(changes)
    if not settings_of(state.config, after) and not state.summary.requests:
        raise nothing_changed(state.config, changes)
    return send(run, "set", changes=changes)
