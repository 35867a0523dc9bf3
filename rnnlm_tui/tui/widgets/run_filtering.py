"""The filter of the list of runs, also while it is being typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.run_filter import RunFilter, parse_filter
from rnnlm_tui.errors import InputError

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.summary import RunSummary


class RunFiltering:
    """The filter, its problem, and the configs it has read."""

    def __init__(self) -> None:
        self._filter = RunFilter()
        self._configs: dict[str, RunConfig] = {}
        self.problem = ""
        """What is wrong with the filter; empty if nothing."""

    def read(self, text: str) -> None:
        """Set the filter; an invalid last word, perhaps unfinished, is ignored."""
        try:
            self._filter, self.problem = parse_filter(text), ""
        except InputError as error:
            self.problem = f"{error.message}; {error.hint}" if error.hint else error.message
            with suppress(InputError):
                self._filter = parse_filter(text.strip().rpartition(" ")[0])

    def matching(self, runs: Sequence[RunSummary]) -> Sequence[RunSummary]:
        """Return the runs that match, in the same order."""
        return [run for run in runs if self._filter.matches(run, self._configs.get(run.run))] if self._filter.conditions else runs

    def wanted_configs(self, runs: Sequence[RunSummary]) -> list[str]:
        """Return the runs whose configs the filter still needs; configs never change."""
        return [run.run for run in runs if run.run not in self._configs and not run.unreadable] if self._filter.needs_config else []

    def take_configs(self, configs: Mapping[str, RunConfig]) -> None:
        """Add configs that were read."""
        self._configs |= configs

    def outcome(self, matching: int, all_runs: int) -> str:
        """Return `3 of 7 runs`; empty without a filter."""
        if self._filter.needs_config and not self._configs:
            return "reading the configs…"
        return f"{matching:,} of {counted(all_runs, 'run')}" if self._filter.conditions else ""
