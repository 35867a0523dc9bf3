"""The table of verbs, in the order of the help; a verb's module is imported on use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line."""

    name: str
    """As typed; `config show` is the verb `show` of the group `config`."""
    family: str
    """The heading in the help under which it is listed."""
    target: str
    """`module.function` in `rnnlm_tui.cli`.

    The function's parameters are the verb's arguments and options, its docstring is the help.
    """

    def load(self) -> Callable[..., None]:
        """Import and return the function."""
        module, _, function = self.target.rpartition(".")
        return cast(Callable[..., None], getattr(import_module(f"rnnlm_tui.cli.{module}"), function))

    @property
    def summary(self) -> str:
        """The first line of the help, at most 60 characters so that it fits 80 columns."""
        return (self.load().__doc__ or "").partition("\n")[0]


VERBS: tuple[Verb, ...] = (
    Verb("open", "Watch", "runs.open_run"),
    Verb("runs", "Watch", "runs.runs"),
    Verb("show", "Watch", "runs.show"),
    Verb("compare", "Watch", "compare.compare"),
    Verb("follow", "Watch", "train.follow"),
    Verb("metrics", "Watch", "runs.metrics"),
    Verb("checkpoints", "Watch", "runs.checkpoints"),
    Verb("verify", "Watch", "verify.verify"),
    Verb("train", "Train", "train.train"),
    Verb("pause", "Train", "steer.pause"),
    Verb("resume", "Train", "steer.resume"),
    Verb("stop", "Train", "steer.stop"),
    Verb("checkpoint", "Train", "steer.checkpoint"),
    Verb("evaluate", "Train", "steer.evaluate"),
    Verb("set", "Train", "steer.change"),
    Verb("tag", "Keep", "labels.tag"),
    Verb("note", "Keep", "labels.note"),
    Verb("pin", "Keep", "pins.pin"),
    Verb("unpin", "Keep", "pins.unpin"),
    Verb("rename", "Keep", "labels.rename"),
    Verb("delete", "Keep", "trash.delete"),
    Verb("trash", "Keep", "trash.trash"),
    Verb("restore", "Keep", "trash.restore"),
    Verb("purge", "Keep", "trash.purge"),
    Verb("sample", "Sample", "sample.sample"),
    Verb("estimate", "Plan", "estimate.estimate"),
    Verb("corpus", "Plan", "plan.corpus"),
    Verb("corpus remove", "Plan", "plan.corpus_remove"),
    Verb("config show", "Plan", "configs.config_show"),
    Verb("config presets", "Plan", "configs.config_presets"),
    Verb("bench", "Plan", "bench.bench"),
    Verb("doctor", "Plan", "doctor.doctor"),
    Verb("docs", "Plan", "docs.docs"),
)

SIGNED_WORDS: frozenset[str] = frozenset({"tag", "note"})
"""Verbs that take words starting with a minus."""
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(verb.family for verb in VERBS))
