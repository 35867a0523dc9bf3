"""Average checkpoints from the app: evaluate in the background, ask, keep or discard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.screens.overlay import ConfirmScreen

if TYPE_CHECKING:
    from rnnlm_tui.client.average import StagedAverage
    from rnnlm_tui.tui.app import RnnlmApp


async def average(app: RnnlmApp, addresses: Sequence[str]) -> None:
    """Average the checkpoints in a separate process; then ask whether to keep the result."""
    app.report(f"averaging and evaluating {counted(len(addresses), 'checkpoint')}…")
    staged = await app.wait_for(
        lambda: client.average.average_checkpoints(
            client.average.parts_at(addresses), lambda _progress: None
        )
    )
    if await app.ask(average_question(staged)):
        entry = await app.wait_for(staged.keep)
        app.watcher.poll_now()
        app.report(f"kept as {staged.run.name}@{entry.name}")
    else:
        await app.wait_for(staged.discard)
        app.report("average discarded")


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
