"""Notices, the words of errors, and the texts about commands to a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from rnnlm_tui.errors import RnnlmError

if TYPE_CHECKING:
    from rnnlm_tui.schema.protocol import CommandResult, Verb
    from rnnlm_tui.schema.status import RunStatus


NoticeKind = Literal["done", "fact", "trouble"]


class Notice(NamedTuple):
    """One line about what just happened."""

    text: str
    kind: NoticeKind = "fact"
    hint: str = ""
    """The next thing to do; may be empty."""
    stays: bool = False
    """Whether it stays until a key is pressed, instead of some seconds."""


def words_of(error: Exception) -> tuple[str, str]:
    """Return what an error says and its hint, perhaps empty."""
    return (error.message, error.hint) if isinstance(error, RnnlmError) else (str(error), "")


PROGRESS: dict[str, str] = {
    "pause": "pausing after this step…", "resume": "resuming…",
    "stop": "stop requested: saving a checkpoint first…", "checkpoint": "saving a checkpoint…",
    "evaluate": "evaluating…", "sample": "sampling…",
}  # fmt: skip
"""Shown at once, because some answers take seconds."""

NO_WORKER: dict[RunStatus, str] = {
    "finished": "the run is finished: press {key:new_run} on Runs to start a new one",
    "preparing": "the corpus is still being prepared: {key:stop} stops it",
    "lost": "the run is on another machine that doesn't answer",
    "stopped": "the run is stopped: {key:pause} resumes it",
    "failed": "the run has failed: {key:pause} retries it",
    "crashed": "the run has crashed: {key:pause} resumes it",
    "draft": "the run is a draft: {key:pause} starts it",
}
"""Why a run can't pause, sample, save, evaluate or stop. Notices show the keys of actions in place
of `{key:id}`."""

WOULD_DIVERGE = "it would fail again: {key:new_from_run} makes a new run from its config"
"""Why space does nothing for a run whose losses or gradients were non-finite until the end."""

PAUSE_VERBS: dict[RunStatus, str] = {
    "running": "Pause", "degraded": "Pause", "paused": "Resume", "stopped": "Resume",
    "failed": "Retry", "crashed": "Resume", "draft": "Start",
}  # fmt: skip
"""What space does in each status, for the footer; in any other status the footer doesn't offer
it."""


def pin_hint(stays: str) -> str:
    """Say how long a checkpoint stays, and the key that pins it; nothing if it stays for good."""
    return f" {stays}: {{key:pin_checkpoint}} on Checkpoints pins it" if stays else ""


def outcome(verb: Verb, result: CommandResult, stays: str = "") -> Notice:
    """Return one line about the outcome of a command.

    Args:
        stays: how long a checkpoint of this step stays; empty: for good, or unknown.
    """
    if not result.ok:
        return Notice(result.error or f"{verb} was rejected", "trouble", result.hint)
    at = f"step {result.step:,}"
    text = {
        "pause": f"paused at {at}",
        "stop": (
            f"stopped at {at}, checkpoint saved"
            if result.checkpoint
            else "stopped before its first step"
        ),
        "checkpoint": f"checkpoint saved at {at}{pin_hint(stays)}",
        "evaluate": f"{at}: {result.text}" if result.text else f"evaluated at {at}",
        "sample": f"sampled at {at}",
    }.get(verb, f"{verb}: done at {at}")
    return Notice(text, "done")
