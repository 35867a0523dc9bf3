"""Choose a run, then its weights: for the mode Sample, and for a side of Compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rnnlm_tui.client.checkpoints import is_average_path
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.views.prompt import BEST, LAST, NOW, CheckpointChoice
from rnnlm_tui.tui.views.versus import run_words

if TYPE_CHECKING:
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.screens.pane import PaneScreen


def choose_weights(
    screen: PaneScreen,
    title: str,
    current: CheckpointChoice | None,
    then: Callable[[RunDirectory, CheckpointChoice, RunSummary], None],
) -> None:
    """Ask for a run, and for one of its checkpoints or its current weights.

    Args:
        title: of both lists: `Side B`.
        current: marked in the lists.
        then: called with the answer; not if the user cancels.
    """
    context, services = screen.context, screen.context.services
    runs = {
        run.run: run
        for run in context.summaries or ()
        if run.checkpoints.count or run.status in LIVING
    }
    if not runs:
        context.report("no run has a checkpoint yet")
        return

    def read(name: str | None) -> None:
        if name:
            context.in_thread(lambda: _read(name), lambda found: ask(runs[name], *found))

    def _read(name: str) -> tuple[RunDirectory, list[CheckpointRow]]:
        run = services.find(name)
        return run, services.checkpoints(run)

    def ask(summary: RunSummary, run: RunDirectory, rows: list[CheckpointRow]) -> None:
        wanted = current.wanted if current is not None and current.run == run.name else None
        choice = CheckpointChoice.of(run.name, rows, wanted, living=summary.status in LIVING)
        choices = weights_choices(choice, summary.checkpoints.pinned)
        if not choices:
            context.report(f"{run.name} has no checkpoint yet")
            return
        here = next(
            (word for word, (want, _) in choices.items() if choice.row == _row_of(choice, want)), ""
        )

        def chosen(word: str | None) -> None:
            if word:
                then(run, replace(choice, wanted=choices[word][0]), summary)

        if len(choices) == 1:
            chosen(next(iter(choices)))
            return
        lines = [(word, help_text) for word, (_, help_text) in choices.items()]
        screen.app.push_screen(ChooseScreen(f"{title}: weights of {run.name}", lines, here), chosen)

    lines = [(name, run_words(run)) for name, run in runs.items()]
    name = current.run if current is not None else ""
    screen.app.push_screen(ChooseScreen(f"{title}: run", lines, name), read)


def weights_choices(
    choice: CheckpointChoice, pinned: tuple[int, ...]
) -> dict[str, tuple[str, str]]:
    """Return what can be chosen, newest first: its name, and the choice with a few words on it."""
    found = {"now": (NOW, "current weights while it trains")} if choice.living else {}
    for row in sorted(choice.rows, key=lambda row: row.step, reverse=True):
        kind = "average of step" if is_average_path(row.path) else "step"
        marks = [
            word
            for word, is_marked in (
                ("last", row.last),
                ("best", row.best),
                ("pinned", row.step in pinned),
            )
            if is_marked
        ]
        if row.validation_loss is not None:
            marks.append(f"val ppl {formatting.figure(perplexity(row.validation_loss))}")
        wanted = BEST if row.best else LAST if row.last else row.path
        found.setdefault(f"{kind} {row.step:,}", (wanted, ", ".join(marks)))
    return found


def _row_of(choice: CheckpointChoice, wanted: str) -> CheckpointRow | None:
    return replace(choice, wanted=wanted).row
