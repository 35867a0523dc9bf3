"""Which runs of the list a person's filter lets through, while it is being typed as well."""

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
    """The filter, what of it can't be understood, and the configs that it has asked for."""

    def __init__(self) -> None:
        self._filter = RunFilter()
        self._configs: dict[str, RunConfig] = {}
        self.problem = ""
        """What can't be understood; empty where all can."""

    def read(self, text: str) -> None:
        """Filter by this from now on; a last word that can't be understood (yet) filters nothing."""
        try:
            self._filter, self.problem = parse_filter(text), ""
        except InputError as error:
            self.problem = f"{error.message}; {error.hint}" if error.hint else error.message
            with suppress(InputError):
                self._filter = parse_filter(text.strip().rpartition(" ")[0])

    def matching(self, runs: Sequence[RunSummary]) -> Sequence[RunSummary]:
        """Those that are wanted, in the same order."""
        return [run for run in runs if self._filter.matches(run, self._configs.get(run.run))] if self._filter.conditions else runs

    def wanted_configs(self, runs: Sequence[RunSummary]) -> list[str]:
        """Runs whose configs the filter wants and that were not read yet; a config never changes."""
        return [run.run for run in runs if run.run not in self._configs and not run.unreadable] if self._filter.needs_config else []

    def take_configs(self, configs: Mapping[str, RunConfig]) -> None:
        """Configs that were read."""
        self._configs |= configs

    def outcome(self, matching: int, all_runs: int) -> str:
        """`3 of 7 runs`; empty without a filter."""
        if self._filter.needs_config and not self._configs:
            return "reading the configs…"
        return f"{matching:,} of {counted(all_runs, 'run')}" if self._filter.conditions else ""
