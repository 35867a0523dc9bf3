"""The processes of a bench that share each batch: their number, their configs, and their turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnnlm_tui.bench.children import Child
from rnnlm_tui.bench.report import Ready
from rnnlm_tui.client.gpus import process_problems
from rnnlm_tui.errors import ConfigError, InputError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.system.machine import planned_device, usable_cores


class Team:
    """Children that answer as one: each is asked the same, and the first one's answer counts."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._ready: Ready | None = None

    def answer(self) -> Ready:
        """The first answer, as often as it is asked for; raises as that of a child."""
        if self._ready is None:
            self._ready = self._answers()
        return self._ready

    def ask(self, method: str, **arguments: object) -> Any:
        """Call a method of each child's program, at the same time; raises as that of a child."""
        for child in self._children:
            child.call(method, arguments)
        return self._answers()

    def close(self) -> None:
        """Kill all of them."""
        for child in self._children:
            child.close()

    def _answers(self) -> Any:
        first, *_ = [child.answer() for child in self._children]
        return first


def process_counts(words: str | None) -> tuple[int, ...]:
    """The numbers of processes in `1,2,4`, from the smallest on; one is always among them.

    Raises:
        InputError: not such numbers.
    """
    if words is None:
        return ()
    counts = words.split(",")
    if not all(count.strip().isdecimal() and int(count) for count in counts):
        raise InputError(
            f'--processes is "{words}", must be numbers of processes', hint="for example 1,2,4"
        )
    return tuple(sorted({1, *map(int, counts)}))


def check_processes(config: RunConfig, counts: Sequence[int]) -> None:
    """Refuse more processes than this machine has GPUs, if it has any, or a batch has rows."""
    most = max(counts, default=1)
    wanted = parse_config(merge(config, {"distributed.processes": most}))
    if problems := process_problems(wanted):
        raise ConfigError(problems)


def rank_config(config: RunConfig, rank: int, processes: int) -> RunConfig:
    """The config with the GPU of one of several processes, or its share of the cores."""
    training = config.training
    if planned_device(training.device) != "cuda":
        threads = training.threads or max(1, usable_cores() // processes)
        changed = training.model_copy(update={"threads": threads})
    elif processes == 1:
        changed = training
    else:
        changed = training.model_copy(update={"device": f"cuda:{rank}"})
    return config.model_copy(update={"training": changed})
