"""The table of verbs: what the command line can do, in the order of its help; the README's table is tested against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rnnlm_tui.cli import configs, doctor, plan, runs, sample, start, steer, train


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line."""

    name: str
    """As it is typed; `config show` is the verb `show` of the group `config`."""
    family: str
    """The heading in the help under which it stands."""
    call: Callable[..., None]
    """The function behind it: its parameters are the options, its docstring's first line the help."""

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (self.call.__doc__ or "").partition("\n")[0]


VERBS: tuple[Verb, ...] = (
    Verb("open", "Watch", start.open_run),
    Verb("runs", "Watch", runs.runs),
    Verb("show", "Watch", runs.show),
    Verb("follow", "Watch", train.follow),
    Verb("metrics", "Watch", runs.metrics),
    Verb("checkpoints", "Watch", runs.checkpoints),
    Verb("train", "Train", train.train),
    Verb("pause", "Train", steer.pause),
    Verb("resume", "Train", steer.resume),
    Verb("stop", "Train", steer.stop),
    Verb("checkpoint", "Train", steer.checkpoint),
    Verb("evaluate", "Train", steer.evaluate),
    Verb("set", "Train", steer.change),
    Verb("delete", "Train", runs.delete),
    Verb("sample", "Sample", sample.sample),
    Verb("estimate", "Plan", plan.estimate),
    Verb("corpus", "Plan", plan.corpus),
    Verb("config show", "Plan", configs.config_show),
    Verb("config presets", "Plan", configs.config_presets),
    Verb("doctor", "Plan", doctor.doctor),
)

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(verb.family for verb in VERBS))
