"""Sides: up to four checkpoints with the same prompt, their texts, and a grid of short samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, TypeVar

from textual.content import Content

from rnnlm_tui.client.checkpoints import is_average_path, weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import SAMPLING_OFF, SamplingConfig
from rnnlm_tui.schema.formatting import age, counted
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.schema.status import LIVING
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
from rnnlm_tui.tui.views.text_differences import (
    Span,
    TextScore,
    common_start,
    hunks,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.sampling import SampleDone
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory

ValueT = TypeVar("ValueT")

LEAST_SIDES, MOST_SIDES = 2, 4
MOST_ROUNDS = 50
"""Prompts whose texts stay on the screen."""
RATE_SECONDS = 0.05
"""Below this time, a speed is noise."""


class SideText(Drawing):
    """A text that one side makes of a prompt."""

    def __init__(self, side: Side, prompt: str, settings: SamplingConfig, start: str = "") -> None:
        super().__init__(Sample(prompt, settings, Weights.of(side.run, side.row), state=start))
        self.scores: dict[int, TextScore] = {}
        """The text's surprise for each side, by the side's place; its own first."""
        self.refused: dict[int, str] = {}
        """Why a side can't score it."""
        self._shown = ("", "")
        self._wrapped = WrappedText(1)

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

    @property
    def rate(self) -> float | None:
        """Tokens per second without the first one, which waits for the model and the prompt."""
        if self.done is None:
            return None
        seconds = self.done.seconds - self.done.first_token_seconds
        return (self.done.tokens - 1) / seconds if self.done.tokens > 1 and seconds > 0 else None


@dataclass(slots=True)
class SampleRound:
    """A prompt that was sampled on all sides, with the same settings and seed."""

    number: int
    prompt: str
    settings: SamplingConfig
    start: str = ""
    """Path of the kept state that all sides start from; empty: the initial state."""


@dataclass(slots=True)
class Side:
    """A checkpoint, or the current weights of a run that trains, and its texts."""

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
    snapshot: tuple[int, float] | None = None
    """Step and time of the last snapshot of current weights."""
    texts: dict[int, SideText] = field(default_factory=dict)
    """By the number of the round."""

    def take_weights(
        self, run: RunDirectory, choice: CheckpointChoice, summary: RunSummary
    ) -> None:
        """Take other weights, of the same run or another."""
        self.run, self.choice, self.unreadable = run, choice, ""
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
        if self.choice.gone:
            return ""
        row = self.row
        if row is None:
            return "@now" if self.choice.living else ""
        if row.best:
            return "@best"
        pinned = row.step in self.pinned and not is_average_path(row.path)
        return "@last" if row.last else "@pinned" if pinned else ""

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


def title(side: Side, place: int, room: int, *, marked: bool) -> Content:
    """Return `A plain-otter @best` in at most `room` cells; `marked` inverts the letter."""
    (letter, colour), mark = letter_of(place), side.mark
    mark_colour = {"@best": VALIDATION, "@now": TRAIN}.get(mark, BRIGHT)
    least = len(letter) + 1 + (len(mark) + 1 if mark else 0)
    name = safe_content(side.run.name, newlines="show", limit=max(6, room - least))
    return Content.assemble(
        (letter, f"bold {BACKGROUND} on {colour}" if marked else f"bold {colour}"),
        (" ", colour),
        name.stylize(f"bold {BRIGHT}"),
        (f" {mark}" if mark else "", f"bold {mark_colour}"),
    )


def legends(side: Side) -> list[Content]:
    """Return `step 3,700, val 58.1` and shorter forms of it."""
    row = side.row
    if side.choice.gone:
        return [Content.styled(f"{side.wanted_step}, deleted", DIM), Content.styled("deleted", DIM)]
    if row is None:
        if side.snapshot is None:
            return [Content.styled("current weights", DIM)] if side.choice.living else []
        step, written = side.snapshot
        number = line("step {}", f"{step:,}")
        old = age(max(0.0, time() - written))
        return [number + Content.styled(f", {old}{'' if old == 'now' else ' ago'}", DIM), number]
    before, _, last = weights_words(row.path, row.step).rpartition(" ")
    short = Content.styled(last, TEXT)
    step_words = Content.assemble((f"{before} " if before else "", DIM), short)
    if row.validation_loss is None:
        return [step_words, short]
    value = formatting.figure(perplexity(row.validation_loss))
    return [step_words + line(", val {}", value), step_words, short]


def status_parts(side: Side, asked: SampleRound, place: int, *, by_bytes: bool) -> list[Content]:
    """Return `42 tokens`, `2,110 tok/s`, `4.1 bits/token` and `seed 7`, most important first.

    The step follows the tokens if the side's checkpoint has changed since. With `by_bytes`, bits
    per byte: the sides have different tokenizers.
    """
    text = side.texts.get(asked.number)
    if text is None or text.error:
        return []
    if not text.asked and not text.over:
        return [Content.styled("…", DIM)]
    tokens = text.samples[0].tokens
    number, _, noun = counted(tokens, "token").partition(" ")
    if text.living and not tokens:
        return [Content.assemble(("● ", TRAIN), ("loading …", DIM))]
    if text.living:
        most = counted(asked.settings.max_new_tokens, "token")
        return [Content.styled("● ", TRAIN) + line(f"{{}} of {most}", number)]
    stopped = text.done is None or text.done.reason == "cancelled"
    parts = [line(f"■ {{}} {noun}, stopped" if stopped else f"{{}} {noun}", number)]
    used, now = text.wanted.weights.row, side.row
    if used is not None and now is not None and used.step != now.step:
        parts.append(line("step {}", f"{used.step:,}"))
    if text.done is not None and tokens:
        score = text.scores.get(place)
        if not by_bytes:
            parts.append(line("{} bits/token", f"{text.done.bits_per_token:.1f}"))
        elif score is not None:
            parts.append(line("{} bits/byte", formatting.figure(score.bits_per_byte)))
    if text.rate is not None and text.done is not None and text.done.seconds >= RATE_SECONDS:
        parts.append(line("{} tok/s", formatting.count(text.rate)))
    settings = asked.settings
    parts.append(line("greedy") if settings.is_greedy else line("seed {}", settings.seed))
    return parts


def status_line(parts: Sequence[Content], room: int) -> Content:
    """Return the parts that fit, the speed in second place as on the prompt's line."""
    gap = "   " if sum(part.cell_length + 3 for part in parts) - 3 <= room else "  "
    kept = list(parts)
    while len(kept) > 1 and sum(part.cell_length for part in kept) + len(gap) * (len(kept) - 1) > (
        room
    ):
        kept.pop()
    speed = next((part for part in kept if part.plain.endswith(" tok/s")), None)
    if speed is not None and len(kept) > 2:
        kept.remove(speed)
        kept.insert(1, speed)
    return Content(gap).join(kept)


SHOWN_SETTINGS = ("temperature", "top_p", "top_k", "min_p", "max_new_tokens")
FURTHER_SETTINGS = ("typical_p", "repetition_penalty", "penalty_window", "stop")
OFF: dict[str, object] = {**SAMPLING_OFF, "stop": ()}


def settings_line(settings: SamplingConfig, *, sides: int, random_seed: bool, room: int) -> Content:
    """Return `temperature 0.8   top-p 0.95   …   seed 7, the same for both`.

    Settings that are off are left out where there is little room.
    """

    def entry(name: str) -> Content:
        field_title = SamplingConfig.model_fields[name].title or name
        value = getattr(settings, name)
        if name == "temperature" and settings.is_greedy:
            words = "greedy"
        elif name in OFF and value == OFF[name]:
            words = "off"
        elif name == "stop":
            words = safe_text(formatting.escaped_list(value), limit=20)
        else:
            words = f"{value:,}" if isinstance(value, int) else f"{value:g}"
        style = DIM if words == "off" else f"bold {BRIGHT}" if name == "temperature" else TEXT
        return Content.assemble((f"{field_title} ", DIM), (words, style))

    on = [name for name in FURTHER_SETTINGS if getattr(settings, name) != OFF[name]]
    if "penalty_window" in on and "repetition_penalty" not in on:
        on.remove("penalty_window")
    drawn = line("seed {}", "random" if random_seed else settings.seed)
    seed = [] if settings.is_greedy else [drawn]
    same = Content.styled(f", the same for {'both' if sides == LEAST_SIDES else 'all'}", DIM)
    every = [*SHOWN_SETTINGS[:-1], *on, SHOWN_SETTINGS[-1]]
    needed = [name for name in every if getattr(settings, name) != OFF.get(name, ())]
    for names, gap, ending in (
        (every, "   ", [same]),
        (needed, "   ", [same]),
        (needed, "  ", []),
    ):
        last = [seed[0] + ending[0]] if seed and ending else seed
        shown = Content(gap).join([*(entry(name) for name in names), *last])
        if shown.cell_length <= room:
            break
    return shown


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
    _hunks: tuple[tuple[str, str], list[tuple[Span, Span]]] | None = None

    def clear(self) -> None:
        """Remove all sides and their texts."""
        self.sides.clear()
        self.rounds.clear()
        self.chosen, self.difference = 0, None

    def take(self, snapshot: RunSnapshot, run: RunDirectory) -> None:
        """Take the open run's checkpoints; without sides, begin with two of them.

        A chosen checkpoint that is gone stays, and says so.
        """
        living = snapshot.summary.status in LIVING
        pinned, rows = snapshot.summary.checkpoints.pinned, snapshot.checkpoints
        if not self.sides:
            self.sides += [
                Side(run, CheckpointChoice.of(run.name, rows, wanted, living=living))
                for wanted in default_wanted(rows, pinned, living=living)
            ]
        for side in self.sides:
            if side.run.path == run.path:
                wanted = side.choice.wanted
                side.choice = CheckpointChoice.of(run.name, rows, wanted, living=living)
                side.pinned, side.corpus = pinned, snapshot.summary.corpus

    def take_summaries(self, summaries: Iterable[RunSummary], open_run: Path | None) -> None:
        """Take what has changed about the runs of the sides, the open one excepted."""
        by_name = {summary.run: summary for summary in summaries}
        for side in self.sides:
            summary = by_name.get(side.run.name)
            if summary is not None and side.run.path != open_run:
                side.choice = replace(side.choice, living=summary.status in LIVING)
                side.corpus, side.pinned = summary.corpus, summary.checkpoints.pinned

    @property
    def weights(self) -> tuple[Weights, ...]:
        """The checkpoints of the sides, without current weights and what can't be read."""
        return tuple(
            Weights.of(side.run, side.row)
            for side in self.sides
            if side.row is not None and not side.problem
        )

    @property
    def newest(self) -> SampleRound | None:
        """The round at the top."""
        return self.rounds[-1] if self.rounds else None

    @property
    def pair(self) -> tuple[int, int]:
        """The two sides that are compared closely: A, and the chosen one or B."""
        return 0, max(1, self.chosen) if len(self.sides) > 1 else 0

    def text(self, place: int, asked: SampleRound | None = None) -> SideText | None:
        """Return a side's text of a round, the newest by default."""
        asked = asked or self.newest
        if asked is None or place >= len(self.sides):
            return None
        return self.sides[place].texts.get(asked.number)

    def begin(self, prompt: str, settings: SamplingConfig, start: str = "") -> SampleRound:
        """Begin a round; each side waits for its text."""
        number = self.rounds[-1].number + 1 if self.rounds else 0
        asked = SampleRound(number, prompt, settings, start)
        self.rounds.append(asked)
        self.difference = None
        for dropped in self.rounds[:-MOST_ROUNDS]:
            for side in self.sides:
                side.texts.pop(dropped.number, None)
        del self.rounds[:-MOST_ROUNDS]
        for side in self.sides:
            side.texts[number] = SideText(side, prompt, settings, start)
        return asked

    def add(self, side: Side) -> bool:
        """Add a side and choose it; False if there are `MOST_SIDES`."""
        if len(self.sides) >= MOST_SIDES:
            return False
        self.sides.append(side)
        self.chosen = len(self.sides) - 1
        return True

    def remove(self) -> bool:
        """Remove the chosen side; those after it move up. False if only `LEAST_SIDES` are left."""
        if len(self.sides) <= LEAST_SIDES:
            return False
        gone = self.chosen
        del self.sides[gone]
        self.chosen = min(self.chosen, len(self.sides) - 1)
        self.difference = None
        for side in self.sides:
            for text in side.texts.values():
                text.scores = _without(text.scores, gone)
                text.refused = _without(text.refused, gone)
        return True

    def forget(self, place: int) -> None:
        """Drop a side's texts and scores: it has other weights now."""
        self.sides[place].texts.clear()
        self.difference = None
        for side in self.sides:
            for text in side.texts.values():
                text.scores.pop(place, None)
                text.refused.pop(place, None)

    @property
    def one_tokenizer(self) -> bool:
        """Whether the sides divide a text into the same tokens, as far as known."""
        return len({side.tokenizer for side in self.sides if side.tokenizer}) <= 1

    def texts(self, places: Iterable[int]) -> list[str] | None:
        """Return the newest texts of these sides, sanitized; None if one has none."""
        found = [self.text(place) for place in places]
        return (
            [text.shown for text in found if text is not None]
            if all(text is not None and text.text for text in found)
            else None
        )

    def same_start(self, place: int) -> int:
        """Return how many characters a side's newest text has in common with A's at its start.

        For A itself, with the other one of the pair.
        """
        texts = self.texts((0, place or self.pair[1]))
        return common_start(texts) if texts and len(self.sides) > 1 else 0

    def hunks(self) -> list[tuple[Span, Span]]:
        """Return where the newest texts of the pair differ."""
        texts = self.texts(self.pair)
        if texts is None or self.pair[0] == self.pair[1]:
            return []
        key = (texts[0], texts[1])
        if self._hunks is None or self._hunks[0] != key:
            self._hunks = (key, hunks(*key))
        return self._hunks[1]

    def marked(self, place: int) -> Span | None:
        """Return the characters of a side's newest text that the marked difference has."""
        if self.difference is None or place not in self.pair:
            return None
        found, side = self.hunks(), 0 if place == self.pair[0] else 1
        return found[min(self.difference, len(found) - 1)][side] if found else None


def _without(values: Mapping[int, ValueT], gone: int) -> dict[int, ValueT]:
    """Return the values by place after the side at `gone` was removed."""
    return {place - (place > gone): value for place, value in values.items() if place != gone}


def letter_of(place: int) -> tuple[str, str]:
    """Return a side's letter and colour."""
    return LETTERS[place], MARK_COLOURS[place]


def letter(place: int) -> Content:
    """Return a side's letter in its colour."""
    return Content.styled(LETTERS[place], f"bold {MARK_COLOURS[place]}")


def default_wanted(
    rows: Sequence[CheckpointRow], pinned: Sequence[int], *, living: bool
) -> tuple[str | None, str | None]:
    """Return the checkpoints that two sides begin with: the best, and the newest pinned one.

    Without a pinned one, the oldest; if that is the best, the last, or the current weights.
    """
    by_step = sorted(rows, key=lambda row: row.step)
    best = next((row for row in by_step if row.best), by_step[-1] if by_step else None)
    others = [row for row in by_step if row is not best]
    chosen = next((row for row in reversed(others) if row.step in pinned), None)
    if chosen is None and others:
        chosen = others[0]
    if chosen is not None:
        return None, chosen.path
    return None, NOW if living else None


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
