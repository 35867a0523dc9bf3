"""The table of verbs: what the command line can do, in the order of its help; nothing is imported before a verb is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line."""

    name: str
    """As it is typed; `config show` is the verb `show` of the group `config`."""
    family: str
    """The heading in the help under which it stands."""
    target: str
    """`module.function` below `rnnlm_tui.cli`: the function's parameters are the verb's arguments and options."""
    summary: str
    """One line for the help and the README, at most 60 letters, so that 80 columns hold it."""

    def load(self) -> Callable[..., None]:
        """The function behind it."""
        module, _, function = self.target.rpartition(".")
        return cast(Callable[..., None], getattr(import_module(f"rnnlm_tui.cli.{module}"), function))


VERBS: tuple[Verb, ...] = (
    Verb("open", "Watch", "runs.open_run", "Open the app on a run."),
    Verb("runs", "Watch", "runs.runs", "List the runs: newest first, filtered, sorted."),
    Verb("show", "Watch", "runs.show", "Show a run's figures: once, or as long as it runs."),
    Verb("compare", "Watch", "compare.compare", "Put runs side by side: settings that differ, figures."),
    Verb("follow", "Watch", "train.follow", "Print a run's progress until it ends; Ctrl-C only leaves."),
    Verb("metrics", "Watch", "runs.metrics", "Write out metrics: the newest, or all as CSV or JSON."),
    Verb("checkpoints", "Watch", "runs.checkpoints", "List a run's checkpoints: best, last and pinned ones marked."),
    Verb("verify", "Watch", "verify.verify", "Check a run's checkpoints and database, byte by byte."),
    Verb("train", "Train", "train.train", "Start a training run."),
    Verb("pause", "Train", "steer.pause", "Pause runs between two steps."),
    Verb("resume", "Train", "steer.resume", "Resume a paused, stopped, crashed or failed run."),
    Verb("stop", "Train", "steer.stop", "Stop runs; returns when their checkpoints are on disk."),
    Verb("checkpoint", "Train", "steer.checkpoint", "Save a checkpoint now; returns when it is on disk."),
    Verb("evaluate", "Train", "steer.evaluate", "Evaluate runs now; returns with the figures."),
    Verb("set", "Train", "steer.change", "Change the learning rate and the like while a run goes on."),
    Verb("tag", "Keep", "labels.tag", "Give a run tags or take them away: +paper -draft."),
    Verb("note", "Keep", "labels.note", "Write a note on a run, one line."),
    Verb("pin", "Keep", "pins.pin", "Pin checkpoints to keep them, or runs at the top."),
    Verb("unpin", "Keep", "pins.unpin", "Unpin checkpoints or runs."),
    Verb("rename", "Keep", "labels.rename", "Give a run that is not running another name."),
    Verb("delete", "Keep", "trash.delete", "Move runs that are not running to the trash."),
    Verb("trash", "Keep", "trash.trash", "List the deleted runs, with the space that a purge frees."),
    Verb("restore", "Keep", "trash.restore", "Restore runs from the trash."),
    Verb("purge", "Keep", "trash.purge", "Permanently remove deleted runs; asks first."),
    Verb("sample", "Sample", "sample.sample", "Continue prompts with a checkpoint's model."),
    Verb("estimate", "Plan", "estimate.estimate", "Tell a run's parameters, steps, memory, disk and time."),
    Verb("corpus", "Plan", "plan.corpus", "List the corpora with their sizes and runs."),
    Verb("corpus remove", "Plan", "plan.corpus_remove", "Remove prepared corpora that no run needs; asks first."),
    Verb("config show", "Plan", "configs.config_show", "Show the config of a run or a preset as TOML."),
    Verb("config presets", "Plan", "configs.config_presets", "List the presets."),
    Verb("bench", "Plan", "bench.bench", "Measure how fast this machine trains and samples."),
    Verb("doctor", "Plan", "doctor.doctor", "Check this machine, terminal and installation."),
    Verb("docs", "Plan", "docs.docs", "Read the guides: the list of them, or one."),
)

SIGNING: frozenset[str] = frozenset({"tag", "note"})
"""Verbs that take words with a minus before them."""
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(verb.family for verb in VERBS))
