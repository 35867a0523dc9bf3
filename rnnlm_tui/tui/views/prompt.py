"""The prompt screen's data: choice of weights, prompt history, and samples that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from uuid import uuid4

from textual.content import Content

from rnnlm_tui.client.checkpoints import weights_words
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.formatting import counted, escaped
from rnnlm_tui.schema.metrics import CheckpointRow, perplexity
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.tui.palette import BAD, DIM, GOOD, TEXT, TRAIN, VALIDATION, WARN
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.views.sample_tree import Sample, Weights, with_seed


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
        """Return the lines shown before the first text, with `{key:id}` for keys."""
        if self.row is not None:
            return ("Type a prompt and press {key:generate} to continue it.",)
        if self.living:
            return (
                "No checkpoint yet: {key:generate} samples from the current weights.",
                "This does not change the run.",
            )
        return (
            f"{safe_text(self.run, limit=40)} has no checkpoint to sample from.",
            "Press {key:leave_field}, then {key:show_train} to watch it train.",
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


class Drawing:
    """Samples of one text that are drawn at once, and the line of their figures.

    Args:
        wanted: the text to continue; each sample has the next seed.
        length: how many tokens are drawn, if not as many as the settings say.
    """

    def __init__(
        self,
        wanted: Sample,
        count: int = 1,
        length: int | None = None,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.id = uuid4().hex
        self.wanted = wanted
        self.samples = [
            replace(
                wanted,
                settings=with_seed(wanted.settings, seed),
                request=self.id,
                meta="",
                tokens=0,
                bits=None,
                done=None,
            )
            for seed in range(wanted.settings.seed, wanted.settings.seed + count)
        ]
        self.where = ""
        """The weights: `step 3,700`, `now, step 3,712`."""
        self.error = ""
        """Why the request failed, in one sentence."""
        self.asked = self.over = False
        """Whether the request was sent, and whether it has ended."""
        self._length = wanted.settings.max_new_tokens if length is None else length
        self._clock, self._started = clock, clock()
        self._first: float | None = None

    @property
    def request(self) -> SampleRequest:
        """What the sampler is asked."""
        wanted = self.wanted
        return SampleRequest(
            id=self.id,
            checkpoint=wanted.weights.path,
            prompt=wanted.prompt,
            ids=wanted.ids,
            state=wanted.state,
            settings=wanted.settings.model_copy(update={"max_new_tokens": self._length}),
            count=len(self.samples),
        )

    def use(self, weights: Weights) -> None:
        """Draw from these weights."""
        for sample in (self.wanted, *self.samples):
            sample.weights = weights

    def take(self, answer: SamplePiece | SampleDone) -> None:
        """Add new text, or take the end of a sample."""
        sample = self.samples[answer.sample]
        sample.tokens, sample.bits = answer.tokens, answer.bits_per_token
        if isinstance(answer, SamplePiece):
            self._first = self._clock() if self._first is None else self._first
            sample.text += answer.text
            return
        sample.done = answer
        sample.text, sample.ids = self.wanted.text + answer.text, sample.ids + answer.ids
        end = {"length": "", "cancelled": " · stopped", "stop": f" · {_stop(answer)}"}
        tokens = counted(len(self.wanted.ids) + answer.tokens, "token")
        if answer.tokens:
            sample.meta = f"{tokens} · {sample.seed} · {self.where}{end[answer.reason]}"

    def finished(self) -> list[Sample]:
        """Return the samples with a text.

        One that an error has left without its tokens counts as a prompt.
        """
        for sample in self.samples:
            if sample.done is None and sample.text != self.wanted.text:
                sample.prompt, sample.text, sample.ids, sample.shared = sample.whole, "", (), 0
                sample.meta = f"incomplete · {sample.weights.label}"
        return [sample for sample in self.samples if sample.meta]

    def status(self, cells: int = NARROW_CELLS) -> Content:
        """Return `● 42 of 100 tokens   2,110 tok/s   first token 38 ms   4.1 bits/token   seed 7`,
        with the parts that fit into `cells`.

        At the end it begins with `✓`, or `■` if it was stopped; after a stop string it is
        `✓ 42 tokens, stopped at "\\n"`.
        """
        begun = any(sample.text != self.wanted.text for sample in self.samples)
        if self.over and self.error:
            return Content.assemble(("✗ ", BAD), ("incomplete" if begun else "no text", DIM))
        if self.over and not self.asked:
            return Content.styled("■ stopped before the first token", DIM)
        if not self.over and self._first is None:
            waiting = self._clock() - self._started > WAKING_SECONDS
            return Content.assemble(("● ", TRAIN), ("loading the model …" if waiting else "…", DIM))
        return _line(self._parts(), cells)

    def _parts(self) -> dict[str, Content]:
        """Return the figures, some of which may be empty."""
        count, tokens = len(self.samples), sum(sample.tokens for sample in self.samples)
        ends = [sample.done for sample in self.samples if sample.done is not None]
        words = f" of {counted(self._length * count, 'token')}"
        rate, unknown = Content(""), Content("")
        if self.over:
            last = max(ends, key=lambda done: done.seconds)
            stopped = any(done.reason == "cancelled" for done in ends)
            sign = ("■ ", DIM) if stopped else ("✓ ", GOOD)
            if stopped:
                words += ", stopped"
            elif last.reason == "stop" and count == 1:
                words = f" {counted(tokens, 'token').partition(' ')[2]}, {_stop(last)}"
            # the first token includes loading the model and reading the prompt
            first, drawn = last.first_token_seconds, tokens - count
            seconds = last.seconds - first
            per_second = drawn / seconds if drawn > 0 and seconds > 0 else None
            rate = _figure(formatting.count(per_second), " tok/s")
            if last.unknown:
                named = safe_content(", ".join(last.unknown), newlines="show", limit=30)
                unknown = Content.assemble(
                    ("no token for ", WARN), named.stylize(TEXT), (", read as <unk>", DIM)
                )
        else:
            begun = self._first or 0.0
            sign, first, elapsed = ("● ", TRAIN), begun - self._started, self._clock() - begun
            if elapsed > RATE_SECONDS:
                rate = _figure(formatting.count(tokens / elapsed), " tok/s")
        known = [(one.tokens, one.bits) for one in self.samples if one.bits is not None]
        read = sum(tokens for tokens, _ in known)
        mean = sum(tokens * bits for tokens, bits in known if tokens) / max(1, read)
        name, _, value = self._seeds.partition(" ")
        parts = {
            "tokens": Content.assemble(
                sign,
                *([(f"{count}", TEXT), (" samples   ", DIM)] if count > 1 else []),
                (f"{tokens:,}", TEXT),
                (words, DIM),
            ),
            "unknown": unknown,
            "rate": rate,
            "first token": Content.assemble(
                ("first token ", DIM), (f"{first * 1000:,.0f}", TEXT), (" ms", DIM)
            ),
            "bits": _figure(f"{mean:.1f}", " bits/token") if read else Content(""),
            "seed": Content.assemble((name, DIM), (f" {value}" if value else "", TEXT)),
        }
        if unknown.plain:  # more important than the speed
            del parts["rate"], parts["first token"]
        return parts

    @property
    def _seeds(self) -> str:
        """`seed 7`, for several samples `seeds 7–10`, or `greedy`."""
        first, last = self.samples[0], self.samples[-1]
        if first is last or self.wanted.settings.is_greedy:
            return first.seed
        return f"seeds {first.settings.seed}–{last.settings.seed}"


def _line(parts: dict[str, Content], cells: int) -> Content:
    """Join the parts; some are dropped until the rest fits."""
    shown = {name: part for name, part in parts.items() if part.plain}
    for name in ("seed", "first token", "rate", "bits"):
        if sum(part.cell_length + 3 for part in shown.values()) - 3 > cells:
            shown.pop(name, None)
    return Content("   ").join(shown.values())


def _figure(value: str, unit: str) -> Content:
    return Content.assemble((value, TEXT), (unit, DIM))


def _stop(done: SampleDone) -> str:
    return f'stopped at "{safe_text(escaped(done.stop), limit=STOP_CELLS)}"'
