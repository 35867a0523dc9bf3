"""Average checkpoints from the app: evaluate in the background, ask, keep or discard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.messages import AverageRequested
from rnnlm_tui.tui.screens.overlay import ConfirmScreen

if TYPE_CHECKING:
    from rnnlm_tui.client.average import StagedAverage
    from rnnlm_tui.store.checkpoints import CheckpointEntry
    from rnnlm_tui.tui.app import RnnlmApp


def average(app: RnnlmApp, message: AverageRequested) -> None:
    """Average the checkpoints in a separate process; then ask whether to keep the result."""

    def evaluated(staged: StagedAverage) -> None:
        app.push_screen(average_question(staged), partial(answered, staged))

    def answered(staged: StagedAverage, kept: bool | None) -> None:
        if kept:
            app.in_thread(staged.keep, partial(shown, staged))
        else:
            app.in_thread(staged.discard, lambda _nothing: app.report("average discarded"))

    def shown(staged: StagedAverage, entry: CheckpointEntry) -> None:
        app.watcher.poll_now()
        app.report(f"kept as {staged.run.name}@{entry.name}")

    addresses = [f"{message.run}@{checkpoint}" for checkpoint in message.checkpoints]
    count = counted(len(addresses), "checkpoint")
    app.report(f"averaging and evaluating {count}…")
    app.in_thread(
        lambda: client.average.average_checkpoints(
            client.average.parts_at(addresses), lambda _progress: None
        ),
        evaluated,
    )


def average_question(staged: StagedAverage) -> ConfirmScreen:
    """Return the question whether to keep an average, with its perplexity and its best part's."""
    rows = staged.lines()
    _, figure, difference = rows[-1]
    best = min(zip(staged.result.parts, rows, strict=False), key=lambda pair: pair[0].loss)[1]
    verdict = "better" if staged.is_better else "not better"
    return ConfirmScreen(
        "Keep the average?",
        f"perplexity {figure}, {verdict} than its best part ({difference})",
        f"{best[0]}: {best[1]}. Weights only: it can't be resumed.",
        "discard it",
        "keep it",
    )
