"""The prompt screen's data: choice of weights, prompt history, and a sample's progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

from textual.content import Content

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted, escaped
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece
from rnnlm_tui.tui.palette import DIM, GOOD, TEXT, TRAIN, VALIDATION, WARN
from rnnlm_tui.tui.text import safe_content, safe_text


class PromptHistory:
    """Prompts from oldest to newest; recalling one keeps the unsent text.

    An unsent text that other prompts contain is a search: only those are recalled.
    """

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts = list(prompts)
        self._found: list[str] = []
        """The prompts that are recalled, all or those with the unsent text."""
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

    def matches(self, text: str) -> list[str]:
        """Return the longer prompts that contain a text, in any case; none for an empty one."""
        wanted = text.strip().casefold()
        if not wanted or text in self._prompts:
            return []
        return [prompt for prompt in self._prompts if wanted in prompt.casefold()]

    def older(self, present: str) -> str | None:
        """Return the previous prompt, keeping `present` as unsent text; None at the oldest."""
        if self._place is None:
            self._unsent, self._found = present, self.matches(present) or self._prompts
        place = (len(self._found) if self._place is None else self._place) - 1
        if place < 0:
            return None
        self._place = place
        return self._found[place]

    def newer(self) -> str | None:
        """Return the next prompt, or at the end the unsent text; None if already there."""
        if self._place is None:
            return None
        self._place += 1
        if self._place >= len(self._found):
            self._place = None
            return self._unsent
        return self._found[self._place]


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

    def legend(self, taken: tuple[int, float] | None = None) -> Content:
        """Return `plain-otter @best step 3,700, val 58.1`.

        Args:
            taken: step and age in seconds of the last snapshot of current weights.
        """
        row = self.row
        name = safe_content(self.run, limit=30, newlines="show").stylize(DIM)
        if row is None and not self.living:
            return name
        if row is None:
            now = Content.assemble(name, (" @now", f"bold {TRAIN}"))
            if taken is None:
                return Content.assemble(now, (" current weights", DIM))
            step, age = taken
            past = formatting.age(age) if age >= 10 else f"{int(age)} s"
            when = f"{past} ago" if age >= 1 else "just now"
            return Content.assemble(now, (" step ", DIM), (f"{step:,}", TEXT), (f", {when}", DIM))
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
        before, _, last = f" {weights_words(row.path, row.step)}".rpartition(" ")
        return Content.assemble(
            name,
            mark,
            (f"{before} ", DIM),
            (last, TEXT),
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
            "Press esc, then 2 to watch it train.",
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
            words = weights_words(row.path, row.step)
            parts.append(Content.styled(words, f"bold underline {TEXT}"))
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


@dataclass(slots=True)
class _SampleFigures:
    tokens: int = 0
    bits_per_token: float | None = None


class SampleProgress:
    """One sampling request, from start to end: its texts and figures.

    Args:
        where: the weights: `step 3,700`, `now`.
        base_tokens: tokens of the text that is continued, without the prompt's.
    """

    def __init__(
        self,
        settings: SamplingConfig,
        *,
        where: str,
        count: int = 1,
        base_tokens: int = 0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.where = where
        self.count = count
        self._wanted = settings.max_new_tokens
        self._seed = None if settings.is_greedy else settings.seed
        self._base_tokens = base_tokens
        self._clock = clock
        self._started = clock()
        self._first: float | None = None
        self._figures = [_SampleFigures() for _ in range(count)]
        self._pieces: dict[int, list[str]] = {}

    def seed_label(self, sample: int | None = None) -> str:
        """`seed 7`, for all samples `seeds 7–10`, or `greedy`."""
        if self._seed is None:
            return "greedy"
        if sample is not None or self.count == 1:
            return f"seed {(self._seed + (sample or 0)) % 2**63}"
        return f"seeds {self._seed}–{(self._seed + self.count - 1) % 2**63}"

    def take(self, piece: SamplePiece) -> None:
        """Add text, shown at the next update."""
        if self._first is None:
            self._first = self._clock()
        self._pieces.setdefault(piece.sample, []).append(piece.text)
        figures = self._figures[piece.sample]
        figures.tokens, figures.bits_per_token = piece.tokens, piece.bits_per_token

    def drain(self) -> dict[int, str]:
        """Return the texts added since the last call, by their sample."""
        texts = {sample: "".join(pieces) for sample, pieces in self._pieces.items()}
        self._pieces.clear()
        return texts

    def living(self, cells: int = NARROW_CELLS) -> Content:
        """Return `● 42 of 100 tokens   2,110 tok/s   first token 38 ms   4.1 bits/token   seed 7`,
        with the parts that fit into `cells`."""
        if self._first is None:
            waiting = self._clock() - self._started > WAKING_SECONDS
            return Content.assemble(("● ", TRAIN), ("loading the model …" if waiting else "…", DIM))
        tokens = sum(figures.tokens for figures in self._figures)
        elapsed = self._clock() - self._first
        known = [
            (figures.tokens, figures.bits_per_token)
            for figures in self._figures
            if figures.bits_per_token is not None and figures.tokens
        ]
        parts = {
            "tokens": Content.assemble(
                ("● ", TRAIN),
                self._samples(),
                (f"{tokens:,}", TEXT),
                (f" of {counted(self._wanted * self.count, 'token')}", DIM),
            ),
            "rate": _figure(formatting.count(tokens / elapsed), " tok/s")
            if elapsed > RATE_SECONDS
            else Content(""),
            "first token": _first_token(self._first - self._started),
            "bits": _figure(
                f"{sum(count * mean for count, mean in known) / sum(n for n, _ in known):.1f}",
                " bits/token",
            )
            if known
            else Content(""),
        }
        return self._line(parts, cells)

    def given_up(self) -> Content:
        """Return `■ stopped before the first token`."""
        return Content.assemble(("■ ", DIM), ("stopped before the first token", DIM))

    def ended(self, results: Sequence[SampleDone], cells: int = NARROW_CELLS) -> Content:
        """Return `✓ 42 of 100 tokens   2,110 tok/s   first token 38 ms   4.1 bits/token   seed 7`,
        with the parts that fit into `cells`.

        After a stop string, `✓ 42 tokens, stopped at "\\n"`.
        """
        stopped = any(done.reason == "cancelled" for done in results)
        tokens = sum(done.tokens for done in results)
        last = max(results, key=lambda done: done.seconds)
        reason = "cancelled" if stopped else last.reason if len(results) == 1 else "length"
        words = {
            "length": f" of {counted(self._wanted * self.count, 'token')}",
            "cancelled": f" of {counted(self._wanted * self.count, 'token')}, stopped",
            "stop": f" {counted(tokens, 'token').partition(' ')[2]}, {_stop(last)}",
        }[reason]
        # the first token includes loading the model and reading the prompt
        drawing = last.seconds - last.first_token_seconds
        drawn = tokens - len(results)
        bits = sum(done.bits_per_token * done.tokens for done in results) / max(1, tokens)
        parts = {
            "tokens": Content.assemble(
                ("■ ", DIM) if stopped else ("✓ ", GOOD),
                self._samples(),
                (f"{tokens:,}", TEXT),
                (words, DIM),
            ),
            "unknown": Content(""),
            "rate": _figure(
                formatting.count(drawn / drawing if drawn > 0 and drawing > 0 else None), " tok/s"
            ),
            "first token": _first_token(last.first_token_seconds),
            "bits": _figure(f"{bits:.1f}", " bits/token"),
        }
        if last.unknown:  # more important than the speed
            unknown = safe_content(", ".join(last.unknown), newlines="show", limit=30)
            parts["unknown"] = Content.assemble(
                ("no token for ", WARN), unknown.stylize(TEXT), (", read as <unk>", DIM)
            )
            del parts["rate"], parts["first token"]
        return self._line(parts, cells)

    def meta(self, done: SampleDone) -> str:
        """Return `42 tokens · seed 7 · step 3,700`."""
        end = {"length": "", "cancelled": " · stopped", "stop": f" · {_stop(done)}"}[done.reason]
        tokens = counted(self._base_tokens + done.tokens, "token")
        return f"{tokens} · {self.seed_label(done.sample)} · {self.where}{end}"

    def _samples(self) -> Content:
        if self.count == 1:
            return Content("")
        return Content.assemble((f"{self.count}", TEXT), (" samples   ", DIM))

    def _line(self, parts: dict[str, Content], cells: int) -> Content:
        """Join the parts and the seed; some are dropped until the rest fits."""
        name, _, value = self.seed_label().partition(" ")
        parts["seed"] = Content.assemble((name, DIM), (f" {value}" if value else "", TEXT))
        shown = {name: part for name, part in parts.items() if part.plain}
        for name in ("seed", "first token", "rate", "bits"):
            if sum(part.cell_length + 3 for part in shown.values()) - 3 > cells:
                shown.pop(name, None)
        return Content("   ").join(shown.values())


def _figure(value: str, unit: str) -> Content:
    return Content.assemble((value, TEXT), (unit, DIM))


def _first_token(seconds: float) -> Content:
    return Content.assemble(("first token ", DIM), (f"{seconds * 1000:,.0f}", TEXT), (" ms", DIM))


def _stop(done: SampleDone) -> str:
    return f'stopped at "{safe_text(escaped(done.stop), limit=STOP_CELLS)}"'
