"""A sample in progress: text not shown yet, and a status line with progress and speed."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from textual.content import Content

from rnnlm_tui.contract import figures
from rnnlm_tui.contract.config import SamplingConfig
from rnnlm_tui.contract.escapes import escaped
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.requests import SampleDone, SamplePiece
from rnnlm_tui.tui.widgets.content import safe_content, safe_text
from rnnlm_tui.tui.widgets.palette import DIM, GOOD, TEXT, TRAIN, WARN

WAKING_SECONDS = 0.5
"""A longer wait for the first token is explained."""
NARROW_CELLS = 74
"""Room for the status line at 80 columns."""
STOP_CELLS = 20
"""Most cells of a stop string."""
RATE_SECONDS = 0.2
"""Below this time, a speed is noise."""


class SampleProgress:
    """One sampling request, from start to end."""

    def __init__(self, request_id: str, settings: SamplingConfig, *, where: str, clock: Callable[[], float] = monotonic) -> None:
        self.request_id = request_id
        self.where = where
        """The weights: `step 3,700`, `now`."""
        self.asked = False
        """Whether the request was sent to the sampler; before that there is nothing to cancel."""
        self._wanted = settings.max_new_tokens
        self._seed = None if settings.is_greedy else settings.seed
        self._clock = clock
        self._started = clock()
        self._first: float | None = None
        self._tokens = 0
        self._pieces: list[str] = []

    @property
    def seed(self) -> str:
        """`seed 7` or `greedy`."""
        return "greedy" if self._seed is None else f"seed {self._seed}"

    def take(self, piece: SamplePiece) -> None:
        """Add text, shown at the next update."""
        if self._first is None:
            self._first = self._clock()
        self._pieces.append(piece.text)
        self._tokens = piece.tokens

    def drain(self) -> str:
        """Return the text added since the last call."""
        text = "".join(self._pieces)
        self._pieces.clear()
        return text

    def living(self) -> Content:
        """Return `● 42 of 100 tokens   2,110 tok/s   first token 38 ms`."""
        if self._first is None:
            waiting = self._clock() - self._started > WAKING_SECONDS
            return Content.assemble(("● ", TRAIN), ("loading the model …" if waiting else "…", DIM))
        parts = [Content.assemble(("● ", TRAIN), (f"{self._tokens:,}", TEXT), (f" of {counted(self._wanted, 'token')}", DIM))]
        elapsed = self._clock() - self._first
        if elapsed > RATE_SECONDS:
            parts.append(Content.assemble((figures.count(self._tokens / elapsed), TEXT), (" tok/s", DIM)))
        parts.append(Content.assemble(("first token ", DIM), (f"{(self._first - self._started) * 1000:,.0f}", TEXT), (" ms", DIM)))
        return Content("   ").join(parts)

    def given_up(self) -> Content:
        """Return `■ stopped before the first token`."""
        return Content.assemble(("■ ", DIM), ("stopped before the first token", DIM))

    def ended(self, done: SampleDone, *, wide: bool, cells: int = NARROW_CELLS) -> Content:
        """Return `✓ 42 of 100 tokens   2,110 tok/s   first token 38 ms   4.1 bits/token`.

        After a stop string, `✓ 42 tokens, stopped at "\\n"`. Unless `wide`, parts are dropped until
        it
        fits into `cells`, down to two.
        """
        stopped = done.reason == "cancelled"
        words = {
            "length": f" of {counted(self._wanted, 'token')}",
            "cancelled": f" of {counted(self._wanted, 'token')}, stopped",
            "stop": f" {counted(done.tokens, 'token').partition(' ')[2]}, {_stop(done)}",
        }[done.reason]
        drawing = done.seconds - done.first_token_seconds  # the first token includes loading the model and reading the prompt
        rate = (done.tokens - 1) / drawing if done.tokens > 1 and drawing > 0 else None
        parts = [
            Content.assemble(("■ ", DIM) if stopped else ("✓ ", GOOD), (f"{done.tokens:,}", TEXT), (words, DIM)),
            Content.assemble((figures.count(rate), TEXT), (" tok/s", DIM)),
            Content.assemble(("first token ", DIM), (f"{done.first_token_seconds * 1000:,.0f}", TEXT), (" ms", DIM)),
            Content.assemble((f"{done.bits_per_token:.1f}", TEXT), (" bits/token", DIM)),
        ]
        if done.unknown:  # more important than the speed
            unknown = safe_content(", ".join(done.unknown), newlines="show", limit=30)
            parts[1:3] = [Content.assemble(("no token for ", WARN), unknown.stylize(TEXT), (", read as <unk>", DIM))]
        while not wide and len(parts) > 2 and sum(part.cell_length + 3 for part in parts) - 3 > min(cells, NARROW_CELLS):
            parts.pop(-2 if not done.unknown else -1)
        if wide:
            name, _, value = self.seed.partition(" ")
            parts.append(Content.assemble((name, DIM), (f" {value}" if value else "", TEXT)))
        return Content("   ").join(parts)

    def meta(self, done: SampleDone) -> str:
        """Return `42 tokens · seed 7 · step 3,700`."""
        end = {"length": "", "cancelled": " · stopped", "stop": f" · {_stop(done)}"}[done.reason]
        return f"{counted(done.tokens, 'token')} · {self.seed} · {self.where}{end}"


def _stop(done: SampleDone) -> str:
    return f'stopped at "{safe_text(escaped(done.stop), limit=STOP_CELLS)}"'
