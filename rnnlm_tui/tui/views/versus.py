"""Sides: up to four checkpoints that continue the same prompts, and their texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from time import time
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.client.checkpoints import is_average_path, weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import SAMPLING_OFF, SamplingConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.validation import fields
from rnnlm_tui.tui.palette import (
    BACKGROUND,
    BRIGHT,
    DIM,
    MARK_COLOURS,
    STATUS_WORDS,
    TEXT,
    TRAIN,
    VALIDATION,
)
from rnnlm_tui.tui.text import WrappedText, line, safe_content, safe_text
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.prompt import NOW, CheckpointChoice
from rnnlm_tui.tui.views.sample_tree import Drawing, Sample, Weights
from rnnlm_tui.tui.views.text_differences import Span, TextScore, hunks

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.sampling import SampleDone
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory

LEAST_SIDES, MOST_SIDES = 2, 4
MOST_ROUNDS = 50
"""Prompts whose texts stay on the screen."""
RATE_SECONDS = 0.05
"""Below this time, a speed is noise."""


@dataclass(slots=True, eq=False)  # texts and scores are kept by side
class Side:
    """A checkpoint, or the current weights of a run that trains. Other weights are another side."""

    run: RunDirectory
    choice: CheckpointChoice
    pinned: tuple[int, ...] = ()
    """Steps of the run's pinned checkpoints."""
    corpus: str = ""
    """Name of the run's text."""
    unreadable: str = ""
    """Why the run can't be read, in one sentence."""
    tokenizer: str = ""
    """SHA-256 of the tokenizer's file; empty until it has been read."""
    snapshot: tuple[Weights, float] | None = None
    """The last snapshot of current weights, and its time."""

    def take(self, summary: RunSummary, rows: Sequence[CheckpointRow]) -> None:
        """Take what is known of the run by now, and its checkpoints."""
        living, wanted = summary.status in LIVING, self.choice.wanted
        self.choice = CheckpointChoice.of(self.run.name, rows, wanted, living=living)
        self.pinned, self.corpus = summary.checkpoints.pinned, summary.corpus

    @property
    def row(self) -> CheckpointRow | None:
        """The chosen checkpoint; None for current weights."""
        return self.choice.row

    @property
    def problem(self) -> str:
        """Why it can't be sampled from, in one sentence with `{key:id}`; empty if it can."""
        if self.unreadable:
            return self.unreadable
        if self.choice.gone:
            way = "{key:next_checkpoint} chooses another checkpoint"
            return f"{self.wanted_step} was deleted: {way}"
        if not self.choice.possible:
            return f"{safe_text(self.run.name, limit=40)} has no checkpoint yet"
        return ""

    @property
    def wanted_step(self) -> str:
        """`step 3,000`, also of a checkpoint that is gone."""
        number = (self.choice.wanted or "").rpartition("-")[2]
        return f"step {int(number):,}" if number.isdigit() else "the checkpoint"

    @property
    def mark(self) -> str:
        """`@best`, `@last`, `@pinned` or `@now`; empty for any other checkpoint."""
        row = self.row
        if self.choice.gone:
            return ""
        if row is None:
            return "@now" if self.choice.living else ""
        if row.best:
            return "@best"
        pinned = row.step in self.pinned and not is_average_path(row.path)
        return "@last" if row.last else "@pinned" if pinned else ""

    @property
    def loss(self) -> float | None:
        """The checkpoint's validation loss; None if there is none."""
        row = None if self.choice.gone else self.row
        return None if row is None else row.validation_loss

    @property
    def perplexity(self) -> str:
        """The checkpoint's validation perplexity; empty if there is none."""
        return "" if self.loss is None else formatting.figure(perplexity(self.loss))

    def next_choice(self, others: Sequence[Side]) -> CheckpointChoice:
        """Return the choice of the next weights that none of the others has, if there are any."""
        taken = {
            one.row.path if one.row is not None else NOW for one in others if one.run == self.run
        }
        choice = self.choice
        for _ in range(len(choice.rows) + 1):
            choice = replace(choice, wanted=choice.next())
            if (choice.row.path if choice.row is not None else NOW) not in taken:
                return choice
        return replace(self.choice, wanted=self.choice.next())

    def label(self) -> str:
        """`plain-otter @best, step 3,700`, for a text."""
        row = self.row
        step = "current weights" if row is None else weights_words(row.path, row.step)
        return " ".join(part for part in (self.run.name, self.mark) if part) + f", {step}"


class SideText(Drawing):
    """A text that one side makes of a prompt."""

    def __init__(self, side: Side, prompt: str, settings: SamplingConfig, start: str = "") -> None:
        super().__init__(Sample(prompt, settings, Weights.of(side.run, side.row), state=start))
        self.side = side
        self.scores: dict[Side, TextScore] = {}
        """The text's surprise for each side, its own first."""
        self.refused: dict[Side, str] = {}
        """Why a side can't score it."""
        self._shown = ("", "")
        self._wrapped = WrappedText(1)

    def use(self, weights: Weights) -> None:
        """Draw from these weights; the side keeps those of a new snapshot."""
        super().use(weights)
        known = self.side.snapshot
        if weights.path and weights.row is None and (known is None or known[0] != weights):
            self.side.snapshot = (weights, time())

    @property
    def text(self) -> str:
        """The continuation so far."""
        return self.samples[0].text

    @property
    def done(self) -> SampleDone | None:
        """The sampler's last word on it."""
        return self.samples[0].done

    @property
    def living(self) -> bool:
        """Whether it grows."""
        return self.asked and not self.over

    @property
    def shown(self) -> str:
        """The continuation, sanitized."""
        if self._shown[0] is not self.text:
            self._shown = (self.text, safe_text(self.text))
        return self._shown[1]

    def wrapped(self, width: int) -> WrappedText:
        """Return prompt and text, wrapped; a text that grows costs only what is new."""
        whole = safe_text(self.wanted.prompt) + self.shown
        if not whole.startswith(self._wrapped.text):
            self._wrapped = WrappedText(width)
        self._wrapped.fit(width)
        self._wrapped.append(whole[len(self._wrapped.text) :])
        return self._wrapped

    def split(self) -> tuple[str, str]:
        """Return prompt and text as the model read and wrote them."""
        prompt = self.wanted.prompt
        if self.done is None:
            return prompt, self.text
        return prompt[: len(prompt) - self.done.unread], self.done.repeated + self.text

    def figures(self, room: int, *, by_bytes: bool = False) -> Content:
        """Return `42 tokens   2,110 tok/s   4.1 bits/token   seed 7`, with the parts that fit.

        The step follows if the side's checkpoint has changed since. With `by_bytes`, bits per byte:
        the sides have different tokenizers.
        """
        settings, tokens, done = self.wanted.settings, self.samples[0].tokens, self.done
        if self.error or not (self.asked or self.over):
            return Content.styled("" if self.error else "…", DIM)
        number, _, noun = counted(tokens, "token").partition(" ")
        if not self.over:
            most = counted(settings.max_new_tokens, "token")
            words = line(f"{{}} of {most}", number) if tokens else line("loading …")
            return Content.styled("● ", TRAIN) + words
        stopped = done is None or done.reason == "cancelled"
        parts = {"tokens": line(f"■ {{}} {noun}, stopped" if stopped else f"{{}} {noun}", number)}
        if done is not None and tokens:
            # the first token waits for the model and the prompt
            seconds = done.seconds - done.first_token_seconds
            if tokens > 1 and seconds > 0 and done.seconds >= RATE_SECONDS:
                parts["speed"] = line("{} tok/s", formatting.count((tokens - 1) / seconds))
            if not by_bytes:
                parts["bits"] = line("{} bits/token", f"{done.bits_per_token:.1f}")
            elif score := self.scores.get(self.side):
                parts["bits"] = line("{} bits/byte", score.words(by_bytes=True))
        used, now = self.wanted.weights.row, self.side.row
        if used is not None and now is not None and used.step != now.step:
            parts["step"] = line("step {}", f"{used.step:,}")
        parts["seed"] = line("greedy") if settings.is_greedy else line("seed {}", settings.seed)
        shown = Content("   ").join(parts.values())
        for name in ("", "seed", "speed", "bits", "step"):  # the least important first
            if shown.cell_length > room:
                parts.pop(name, None)
                shown = Content("  ").join(parts.values())
        return shown


class SampleRound:
    """A prompt that is sampled on all sides with the same seed: once, or once a column.

    Args:
        start: path of the kept state that all sides start from; empty: the initial state.
    """

    def __init__(
        self, sides: Iterable[Side], prompt: str, columns: Sequence[SamplingConfig], start: str = ""
    ) -> None:
        self.prompt, self.columns, self.start = prompt, columns, start
        self.texts = {
            side: [SideText(side, prompt, settings, start) for settings in columns]
            for side in sides
        }
        """A row for each side, a text for each column."""


@dataclass(slots=True)
class SideBySide:
    """All sides with their rounds, and the chosen side."""

    sides: list[Side] = field(default_factory=list)
    rounds: list[SampleRound] = field(default_factory=list)
    """Oldest first."""
    chosen: int = 0
    """The place of the side that keys act on."""
    difference: int | None = None
    """The difference between the newest texts that is marked; None for none."""

    def take(self, snapshot: RunSnapshot, run: RunDirectory) -> None:
        """Take the open run's checkpoints; without sides, begin with two of them.

        A chosen checkpoint that is gone stays, and says so.
        """
        summary, rows = snapshot.summary, snapshot.checkpoints
        if not self.sides:
            living = summary.status in LIVING
            other = other_wanted(rows, summary.checkpoints.pinned, living=living)
            choices = (CheckpointChoice(run.name, (), living, one) for one in (None, other))
            self.sides = [Side(run, choice) for choice in choices]
        for side in self.sides:
            if side.run.path == run.path:
                side.take(summary, rows)

    @property
    def side(self) -> Side:
        """The chosen side."""
        return self.sides[self.chosen]

    @property
    def newest(self) -> SampleRound | None:
        """The round at the top."""
        return self.rounds[-1] if self.rounds else None

    @property
    def pair(self) -> tuple[int, int]:
        """The places of the two sides that are compared closely: A, and the chosen one or B."""
        return 0, max(1, self.chosen)

    def text(self, place: int, asked: SampleRound | None = None) -> SideText | None:
        """Return a side's text of a round, the newest by default."""
        asked = asked or self.newest
        if asked is None or place >= len(self.sides):
            return None
        return next(iter(asked.texts.get(self.sides[place], ())), None)

    def begin(self, prompt: str, settings: SamplingConfig, start: str = "") -> SampleRound:
        """Begin a round; each side waits for its text."""
        self.rounds.append(SampleRound(self.sides, prompt, (settings,), start))
        self.difference = None
        del self.rounds[:-MOST_ROUNDS]
        return self.rounds[-1]

    @property
    def one_tokenizer(self) -> bool:
        """Whether the sides divide a text into the same tokens, as far as known."""
        return len({side.tokenizer for side in self.sides if side.tokenizer}) <= 1

    def texts(self, places: Iterable[int]) -> list[str] | None:
        """Return the newest texts of these sides, sanitized; None if one has none."""
        found = [text.shown if text is not None else "" for text in map(self.text, places)]
        return found if all(found) else None

    def hunks(self) -> Sequence[tuple[Span, Span]]:
        """Return where the newest texts of the pair differ."""
        texts = self.texts(self.pair)
        return hunks(*texts) if texts else ()

    def marked(self, place: int) -> Span | None:
        """Return the characters of a side's newest text that the marked difference has."""
        if self.difference is None or place not in self.pair:
            return None
        found = self.hunks()
        return found[min(self.difference, len(found) - 1)][place != 0] if found else None


def other_wanted(
    rows: Sequence[CheckpointRow], pinned: Sequence[int], *, living: bool
) -> str | None:
    """Return the checkpoint that the best one is compared with at first: the newest pinned one.

    Without a pinned one, the oldest; if that is the best, the last, or the current weights.
    """
    by_step = sorted(rows, key=lambda row: row.step)
    best = next((row for row in by_step if row.best), by_step[-1] if by_step else None)
    others = [row for row in by_step if row is not best]
    chosen = [row for row in others if row.step in pinned][-1:] or others[:1]
    return chosen[0].path if chosen else NOW if living else None


def letter(place: int) -> Content:
    """Return a side's letter in its colour."""
    return Content.styled(LETTERS[place], f"bold {MARK_COLOURS[place]}")


def title(side: Side, place: int, room: int, *, marked: bool) -> Content:
    """Return `A plain-otter @best` in at most `room` cells; `marked` inverts the letter."""
    colour, mark = MARK_COLOURS[place], f" {side.mark}" if side.mark else ""
    mark_colour = {" @best": VALIDATION, " @now": TRAIN}.get(mark, BRIGHT)
    name = safe_content(side.run.name, newlines="show", limit=max(6, room - 2 - len(mark)))
    return Content.assemble(
        letter(place).stylize(f"bold {BACKGROUND} on {colour}" if marked else ""),
        (" ", colour),
        name.stylize(f"bold {BRIGHT}"),
        (mark, f"bold {mark_colour}"),
    )


def legends(side: Side) -> tuple[Content, ...]:
    """Return `step 3,700, val 58.1`, and shorter forms of it."""
    taken = side.snapshot and (side.snapshot[0].step, time() - side.snapshot[1])
    before, number, after = side.choice.chosen(taken)
    if side.choice.gone:
        before, number, after = line(f"{side.wanted_step}, "), line("deleted"), Content("")
    return before + number + after, before + number, number


SHOWN_SETTINGS = ("temperature", "top_p", "top_k", "min_p", "max_new_tokens")
"""Settings that are shown also if they are off, where there is room."""
SETTINGS = ("temperature", *SAMPLING_OFF, "stop", "max_new_tokens")
OFF: dict[str, object] = {**SAMPLING_OFF, "stop": ()}


def settings_line(
    settings: SamplingConfig, sides: int, room: int, *, random_seed: bool = False
) -> Content:
    """Return `temperature 0.8   top-p 0.95   …   seed 7, the same for both`.

    Settings that are off are left out where there is little room.
    """
    off = {name for name, value in OFF.items() if getattr(settings, name) == value}
    if "repetition_penalty" in off:
        off.add("penalty_window")

    def entry(name: str) -> Content:
        value, style = getattr(settings, name), TEXT
        if name == "temperature":
            words, style = "greedy" if settings.is_greedy else f"{value:g}", f"bold {BRIGHT}"
        elif name in off:
            words, style = "off", DIM
        elif name == "stop":
            words = safe_text(formatting.escaped_list(value), limit=20)
        else:
            words = f"{value:,}" if isinstance(value, int) else f"{value:g}"
        return line(f"{fields()[f'sampling.{name}'].title} {{}}", (words, style))

    seed = line("seed {}", "random" if random_seed else settings.seed)
    seed += Content.styled(f", the same for {'both' if sides == LEAST_SIDES else 'all'}", DIM)
    ending = [] if settings.is_greedy else [seed]
    for also in (SHOWN_SETTINGS, ()):
        names = [name for name in SETTINGS if name not in off or name in also]
        shown = Content("   ").join([*map(entry, names), *ending])
        if shown.cell_length <= room:
            break
    return shown


def run_words(run: RunSummary) -> str:
    """Return a run's status, checkpoints and best perplexity, for the list of runs."""
    best = run.validation.best_perplexity
    parts = [
        STATUS_WORDS[run.status],
        counted(run.checkpoints.count, "checkpoint"),
        f"val ppl {formatting.figure(best)}" if best is not None else "",
        safe_text(run.corpus, limit=30, newlines="show"),
    ]
    return ", ".join(part for part in parts if part)
