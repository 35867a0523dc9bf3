"""The question how to stop: now, after this epoch or after the next evaluation."""

from __future__ import annotations

from textual.content import Content

from rnnlm_tui.schema.formatting import count
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.tui.screens.overlay import Question
from rnnlm_tui.tui.text import safe_content


def stop_question(summary: RunSummary, every: int) -> Question[str]:
    """Return `now`, `epoch`, `evaluation`, `cancel` a planned stop, or an empty text.

    Args:
        every: steps between evaluations; 0: none is planned.
    """
    name = safe_content(summary.run, newlines="show", limit=40).plain
    answers = [
        ("enter,S", "now: saves a checkpoint, then stops", "now"),
        ("p", "after this epoch (pass over the text)", "epoch"),
    ]
    if every:
        coming = (summary.step // every + 1) * every
        answers.append(("e", f"after the evaluation at step {count(coming)}", "evaluation"))
    if summary.stop_after is not None:
        mark = "this epoch" if summary.stop_after == "epoch" else "the evaluation"
        answers.append(("u", f"don't stop after {mark}: keep training", "cancel"))
    answers.append(("escape,q", "keep training", ""))
    return Question(f"Stop {name}?", [Content("")], answers)
