"""The prompt screen's data: choice of weights, prompt history, and a sample's progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

from textual.content import Content

from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted, escaped
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece
from rnnlm_tui.tui.palette import DIM, GOOD, TEXT, TRAIN, VALIDATION, WARN
from rnnlm_tui.tui.text import safe_content, safe_text


class PromptHistory:
    """Prompts from oldest to newest; recalling one keeps the unsent text."""

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts = list(prompts)
        self._place: int | None = None
        self._unsent = ""

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts, newest last."""
        return tuple(self._prompts)

    def load(self, prompts: Iterable[str]) -> None:
        """Add prompts of earlier sessions before those of this one."""
        self._prompts = [*prompts, *self._prompts]
        self._place = None

    def add(self, prompt: str) -> bool:
        """Add a sent prompt; return False if it is empty or repeats the newest."""
        self._place = None
        if not prompt.strip() or (self._prompts and self._prompts[-1] == prompt):
            return False
        self._prompts.append(prompt)
        return True

    def older(self, present: str) -> str | None:
        """Return the previous prompt, keeping `present` as unsent text; None at the oldest."""
        if self._place is None:
            self._unsent = present
        place = (len(self._prompts) if self._place is None else self._place) - 1
        if place < 0:
            return None
        self._place = place
        return self._prompts[place]

    def newer(self) -> str | None:
        """Return the next prompt, or at the end the unsent text; None if already there."""
        if self._place is None:
            return None
        self._place += 1
        if self._place >= len(self._prompts):
            self._place = None
            return self._unsent
        return self._prompts[self._place]


LAST, BEST, NOW = "last", "best", "now"
"""Choices that follow the run: its newest checkpoint, its best one, its current weights."""


@dataclass(frozen=True, slots=True)
class CheckpointChoice:
    """The available weights, and the chosen ones."""

    run: str
    rows: tuple[CheckpointRow, ...]
    """The last checkpoint, the best one, then older ones."""
    living: bool
    """A worker is running, so its current weights are available."""
    wanted: str | None = None
    """The directory of a checkpoint, or LAST, BEST or NOW; None means the best."""

    @classmethod
    def of(
        cls, run: str, checkpoints: Sequence[CheckpointRow], wanted: str | None, *, living: bool
    ) -> CheckpointChoice:
        """Sort the checkpoints in the order in which the key cycles through them."""
        newest_first = sorted(checkpoints, key=lambda row: row.step, reverse=True)
        marked = [row for row in newest_first if row.last] + [
            row for row in newest_first if row.best and not row.last
        ]
        return cls(
            run,
            tuple(marked + [row for row in newest_first if not row.last and not row.best]),
            living,
            wanted,
        )

    @property
    def row(self) -> CheckpointRow | None:
        """The chosen checkpoint, or the best if it is gone; None for current weights."""
        if self.wanted == NOW and self.living:
            return None
        best = next((row for row in self.rows if row.best), self.rows[0] if self.rows else None)
        return next(
            (
                row
                for row in self.rows
                if row.path == self.wanted or (self.wanted == LAST and row.last)
            ),
            best,
        )

    @property
    def gone(self) -> bool:
        """Whether the chosen checkpoint no longer exists."""
        return self.wanted not in (None, LAST, BEST, NOW) and self.wanted not in {
            row.path for row in self.rows
        }

    @property
    def possible(self) -> bool:
        """Whether there are weights to sample from."""
        return bool(self.rows) or self.living

    def next(self) -> str | None:
        """Return the choice after the current one; None if there is nothing to choose."""
        choices = [BEST if row.best else LAST if row.last else row.path for row in self.rows] + (
            [NOW] if self.living else []
        )
        if not choices:
            return None
        row = self.row
        here = len(choices) - 1 if row is None else self.rows.index(row)
        return choices[(here + 1) % len(choices)]

    def legend(self) -> Content:
        """Return `plain-otter @best step 3,700, val 58.1`."""
        row = self.row
        name = safe_content(self.run, limit=30, newlines="show").stylize(DIM)
        if row is None:
            return (
                Content.assemble(name, (" @now", f"bold {TRAIN}"), (" current weights", DIM))
                if self.living
                else name
            )
        mark = (
            Content.styled(" @best", f"bold {VALIDATION}")
            if row.best
            else Content.styled(" @last", f"bold {TRAIN}")
            if row.last
            else Content("")
        )
        value = (
            ""
            if row.validation_loss is None
            else formatting.figure(perplexity(row.validation_loss))
        )
        return Content.assemble(
            name,
            mark,
            (" step ", DIM),
            (f"{row.step:,}", TEXT),
            (", val " if value else "", DIM),
            (value, TEXT),
        )

    def invitation(self) -> tuple[str, ...]:
        """Return the lines shown before the first text."""
        if self.row is not None:
            return ("Type a prompt and press enter to continue it.",)
        if self.living:
            return (
                "No checkpoint yet: enter samples from the current weights.",
                "This does not change the run.",
            )
        return (
            f"{safe_text(self.run, limit=40)} has no checkpoint to sample from.",
            "Press 2 to watch it train.",
        )

    def row_of_choices(self) -> Content:
        """Return `checkpoint  last 3,750  best 3,700  older…  now`; empty without choices."""
        row, parts = self.row, []
        for candidate in self.rows[:2]:
            word = "best" if candidate.best else "last" if candidate.last else "step"
            here = row is not None and candidate.path == row.path
            parts.append(
                Content.styled(
                    f"{word} {candidate.step:,}",
                    f"bold underline {VALIDATION if candidate.best else TRAIN}" if here else DIM,
                )
            )
        if row is not None and row not in self.rows[:2]:
            parts.append(Content.styled(f"step {row.step:,}", f"bold underline {TEXT}"))
        elif len(self.rows) > 2:
            parts.append(Content.styled("older…", DIM))
        if self.living:
            parts.append(Content.styled("now", f"bold underline {TRAIN}" if row is None else DIM))
        return (
            Content.assemble(("checkpoint  ", DIM), Content("  ").join(parts))
            if parts
            else Content("")
        )


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

    def __init__(
        self,
        request_id: str,
        settings: SamplingConfig,
        *,
        where: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
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
        parts = [
            Content.assemble(
                ("● ", TRAIN),
                (f"{self._tokens:,}", TEXT),
                (f" of {counted(self._wanted, 'token')}", DIM),
            )
        ]
        elapsed = self._clock() - self._first
        if elapsed > RATE_SECONDS:
            parts.append(
                Content.assemble((formatting.count(self._tokens / elapsed), TEXT), (" tok/s", DIM))
            )
        parts.append(
            Content.assemble(
                ("first token ", DIM),
                (f"{(self._first - self._started) * 1000:,.0f}", TEXT),
                (" ms", DIM),
            )
        )
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
        drawing = (
            done.seconds - done.first_token_seconds
        )  # the first token includes loading the model and reading the prompt
        rate = (done.tokens - 1) / drawing if done.tokens > 1 and drawing > 0 else None
        parts = [
            Content.assemble(
                ("■ ", DIM) if stopped else ("✓ ", GOOD), (f"{done.tokens:,}", TEXT), (words, DIM)
            ),
            Content.assemble((formatting.count(rate), TEXT), (" tok/s", DIM)),
            Content.assemble(
                ("first token ", DIM),
                (f"{done.first_token_seconds * 1000:,.0f}", TEXT),
                (" ms", DIM),
            ),
            Content.assemble((f"{done.bits_per_token:.1f}", TEXT), (" bits/token", DIM)),
        ]
        if done.unknown:  # more important than the speed
            unknown = safe_content(", ".join(done.unknown), newlines="show", limit=30)
            parts[1:3] = [
                Content.assemble(
                    ("no token for ", WARN), unknown.stylize(TEXT), (", read as <unk>", DIM)
                )
            ]
        while (
            not wide
            and len(parts) > 2
            and sum(part.cell_length + 3 for part in parts) - 3 > min(cells, NARROW_CELLS)
        ):
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
