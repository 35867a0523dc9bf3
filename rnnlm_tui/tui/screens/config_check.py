"""What is found out about the shown draft: its estimate (parameters, steps, time, memory, disk and
losses to beat), and its problems: invalid values, and what this machine lacks for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui import client, store
from rnnlm_tui.errors import (
    ConfigError,
    CorpusError,
    DeviceError,
    InputError,
    Problem,
    TokenizerError,
)
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, RunConfig, value_of
from rnnlm_tui.schema.corpora import SET_SOURCE
from rnnlm_tui.schema.estimates import WARMUP, planned_warmup, warmup_note
from rnnlm_tui.schema.formatting import counted, figure, percent, share
from rnnlm_tui.schema.presets import has_prompts_of_another_text
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, THIRD, TRAIN, WARN
from rnnlm_tui.tui.text import amount, bar, line, safe_text, spread
from rnnlm_tui.tui.views.form import FIELDS, Draft, by_field, field_of, shown_value
from rnnlm_tui.tui.widgets.panel import Label
from rnnlm_tui.tui.widgets.run_detail import remark_lines

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import Preview
    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.system.machine import MachineFacts

GAP = Content("")
OWN, OTHERS = ("━", TRAIN), ("╍", THIRD)
STRONG = f"bold {BRIGHT}"


@dataclass(frozen=True, slots=True)
class ShownEstimate:
    """A draft's estimate, or that of a run's config: a column beside the form or five lines below
    it."""

    estimate: Estimate | None
    """None while it is computed."""
    draft: Draft
    problems: Sequence[Problem]
    machine: MachineFacts | None
    run: RunSummary | None
    """The run whose config it is."""

    def lines(self, width: int, height: int) -> list[Content]:
        """Return all lines.

        The figures of a draft with problems, which are those of the last valid config, are dim.
        """
        if self.estimate is None:
            return [line("computing …")]
        tall = height > 8
        rows = list(self._column(self.estimate, width) if tall else self._five_lines(self.estimate))
        if self.problems:
            rows = [line(row.plain) for row in rows]
        return [*rows, *(self._changes(width) if tall else ())]

    def legend(self, *, wide: bool) -> Label:
        """Return what the lines of this layout don't have."""
        draft = self.draft
        if self.run is not None:
            return ""
        if wide:
            return "out of date" if self.problems else "live"
        state = base = _base_name(draft)
        if draft.changes:
            state = line(f"{{}} {len(draft.changes)} changed from {{}}", ("●", WARN), base)
        if self.problems:
            problems = f"✗ {counted(len(self.problems), 'problem')}", BAD
            state = line("{} · {}", state, problems)
        return state

    def _five_lines(self, estimate: Estimate) -> Iterator[Content]:
        """Yield lines of 76 columns."""
        count = estimate.parameters
        parts = count.embedding / count.total, sum(count.layers) / count.total
        yield line(
            "parameters {}   {}  {} embedding " + "  {} layers ".join(map(share, parts)),
            (f"{count.total:,}", STRONG), bar(20, parts[0], 1 - parts[0]), OWN, OTHERS,
        )  # fmt: skip
        steps, each = estimate.steps, estimate.steps_per_epoch
        factors = f" = {steps // each:,} × {each:,}" if steps and each and steps % each == 0 else ""
        known = line("   steps {}" + factors, f"{steps:,}") if steps is not None else GAP
        time = _time(estimate) + line("   ") if estimate.seconds is not None else GAP
        yield line("time   {}{}{}", time, line(_calibration(estimate)), known)
        yield _columns(line("memory {}", self._memory(estimate)), self._disk(estimate, "disk "))
        work = line("work   {}", _flops(estimate.run_flops))
        if estimate.run_flops is None:
            work = line("work   {} per step", _flops(estimate.step_flops))
        tokens, text = estimate.tokens_per_parameter, percent(estimate.vocabulary_share)
        ratio = line("{} tokens/parameter, ", figure(tokens)) if tokens is not None else GAP
        yield _columns(work, ratio + line(f"vocabulary {text}"))
        beat = GAP
        if estimate.unused_gpu is not None:
            beat = Content.styled("torch can't use the GPU: see doctor", BAD)
        elif estimate.too_large:
            beat = Content.styled(estimate.what_fits, BAD)
        elif estimate.baseline_perplexity:
            beat = line("test n-gram to beat {}", figure(estimate.baseline_perplexity))
        loss = estimate.start_loss
        start = line("start  {} = ln V, ppl {}", f"{loss:.2f}", f"{math.exp(loss):,.0f}")
        yield _columns(start, beat)

    def _column(self, estimate: Estimate, width: int) -> Iterator[Content]:
        """Yield a column about 36 cells wide and up to 36 lines high."""

        def row(name: str, value: Content | str) -> Content:
            return spread(line(name), line("{}", value), width, least=bool(name))

        def loss(name: str, nats: float) -> Content:
            perplexity = figure(math.exp(nats)).rjust(5)
            return row(name, line("{}  ppl {}", f"{nats:.2f}", perplexity))

        count, text, gpu = estimate.parameters, estimate.text, estimate.unused_gpu
        layers = [(f"layer {at}", size, THIRD) for at, size in enumerate(count.layers, start=1)]
        if len(layers) > 6:
            layers = [(counted(len(layers), "layer"), sum(count.layers), THIRD)]
        last = "bias" if count.output == text.vocab_size else "output"
        yield row("parameters", Content.styled(f"{count.total:,}", STRONG))
        first = ("embedding", count.embedding, TRAIN)
        for name, size, colour in (first, *layers, (last, count.output, TRAIN)):
            part = size / count.total
            shares = bar(max(4, width - 26), part, colour=colour)
            yield line(f" {name:<10}{{}}{{}}{share(part):>6}", shares, f"{size:>9,}")
        yield GAP
        yield row("time", _time(estimate))
        yield row("", line(_calibration(estimate)))
        yield GAP
        on_gpu, used, total = self._room(estimate)
        yield row("GPU memory" if on_gpu else "memory", self._memory(estimate))
        if total:
            yield bar(width, estimate.memory_bytes / total, (used or 0) / total)
            others = formatting.gib(used or 0)
            yield GAP if used is None else line("{} this run  {} others {}", OWN, OTHERS, others)
        if estimate.too_large:
            yield row("", Content.styled(estimate.what_fits, BAD))
        if estimate.processes > 1:
            rows = counted(estimate.rows_at_once, "row")
            yield row("processes", f"{estimate.processes:,} × {rows}")
            yield row("gradients per step", amount(formatting.disk(estimate.gradient_bytes)))
        yield GAP
        yield row("disk", self._disk(estimate))
        if self.machine is not None and self.machine.disk_free is not None:
            yield row("free", amount(formatting.disk(self.machine.disk_free)))
        yield GAP
        known = "tokens, counted" if text.known == "counted" else "tokens"
        yield row(known, formatting.count(text.tokens))
        yield row("steps/epoch", formatting.count(estimate.steps_per_epoch))
        yield row("steps", formatting.count(estimate.steps))
        yield GAP
        yield row("work", _flops(estimate.run_flops))
        yield row("work per step", _flops(estimate.step_flops))
        yield row("parameters in the vocabulary", percent(estimate.vocabulary_share))
        yield row("tokens per parameter", figure(estimate.tokens_per_parameter))
        notes = (f"CPU, not GPU: {gpu.fact}", gpu.fix) if gpu is not None else ()
        for remarks in (notes, estimate.notes):
            if remarks:
                yield GAP
                yield from remark_lines(remarks, width)
        yield GAP
        yield loss("loss at start, ln V", estimate.start_loss)
        if estimate.baseline_perplexity:
            yield loss("test n-gram", math.log(estimate.baseline_perplexity))
        yield GAP

    def _changes(self, width: int) -> Iterator[Content]:
        """Yield the changed values, and the titles of fields with problems."""
        draft = self.draft
        if draft.changes:
            number = (f"{len(draft.changes)}", BRIGHT)
            yield line("{} {} changed from {}", ("●", WARN), number, _base_name(draft))
            for field in FIELDS.values():
                if field.path in draft.changes:
                    was, now = (
                        safe_text(shown_value(field, value), limit=12) or "none"
                        for value in (value_of(draft.base, field.path), draft.value(field.path))
                    )
                    yield line(f"  {field.title.ljust(15)} {was} → {{}}", (now, BRIGHT))
            yield GAP
        if self.problems:
            number = (f"✗ {counted(len(self.problems), 'problem')}", f"bold {BAD}")
            yield line("{}, start is blocked", number)
            # the field itself shows the problem
            for path in dict.fromkeys(map(field_of, self.problems)):
                title = FIELDS[path].title if path in FIELDS else path
                yield line(safe_text(f"  {title}", limit=width))

    def _room(self, estimate: Estimate) -> tuple[bool, int | None, int | None]:
        """Return whether it trains on a GPU; and the bytes of the memory there that others use and
        that there are, None if unknown."""
        machine, device = self.machine, self.draft.value("training.device")
        if machine is None:
            return False, None, None
        gpu = machine.gpu
        if gpu.memory_total and device not in ("cpu", "mps") and estimate.unused_gpu is None:
            return True, gpu.memory_used, gpu.memory_total
        return False, machine.memory_total - machine.memory_free, machine.memory_total

    def _memory(self, estimate: Estimate) -> Content:
        total, need = self._room(estimate)[2], estimate.memory_bytes
        measured = " measured" if estimate.memory_measured else ""
        if total is None:
            return line(f"{{}}{measured}", amount(formatting.memory(need)))
        fits = need < total and not estimate.too_large
        words = (formatting.gib if need >= 0.095 * formatting.GIB else formatting.memory)(need)
        of = f"{{}} of {formatting.gib(total)} GiB{measured}"
        return line(of, (words, TEXT if fits else BAD))

    def _disk(self, estimate: Estimate, name: str = "") -> Content:
        """Return what its checkpoints will take, or those of a run that has ended do."""
        count, size, kept = estimate.checkpoints, estimate.disk_bytes, ""
        if self.run is not None and self.run.status not in LIVING:
            count, size, kept = self.run.checkpoints.count, self.run.checkpoints.bytes, " kept"
        words = f"{name}{{}}, {counted(count, 'checkpoint')}{kept}"
        return line(words, amount(formatting.disk(size)))


def _base_name(draft: Draft) -> Content:
    kind, _, name = safe_text(draft.base_name, limit=40).partition(" ")
    return line("{} {}", (kind, DIM), name) if name else line("{}", kind)


def _time(estimate: Estimate) -> Content:
    return Content.styled(formatting.about(estimate.seconds), f"bold {TRAIN}")


def _calibration(estimate: Estimate) -> str:
    if estimate.steps is None:
        return "known once the corpus is built"
    if estimate.seconds is None:
        return "not measured here yet"
    based = f"based on {safe_text(estimate.calibrated_run or '', limit=24) or 'a probe'}"
    return f"{based} × {estimate.speedup:,}" if estimate.speedup > 1 else based


def _flops(value: float | None) -> Content:
    return line(formatting.NOTHING) if value is None else amount(formatting.flops(value))


def _columns(left: Content, right: Content) -> Content:
    return Content.assemble(left, " " * max(2, 38 - left.cell_length), right)


ERROR_FIELDS: tuple[tuple[type[InputError], str], ...] = (
    (CorpusError, "corpus.source"),
    (TokenizerError, "tokenizer.name"),
    (DeviceError, "training.device"),
)
"""The fields beside which errors about this machine are shown."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the disk says about a config."""

    config: RunConfig | None = None
    """None: the disk hasn't been read yet."""
    estimate: Estimate | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts to show beside fields, by path."""
    missing: Problem | None = None
    """Why its text or tokenizer can't be used, at the field that names it; None if both can."""
    preview: Preview | None = None
    """The first lines of its text."""
    tokenizer_size: int | None = None
    """Vocabulary size of its pretrained tokenizer; None if unknown."""


def look_up(config: RunConfig) -> Findings:
    """Look for a config's text and estimate it; blocks while the disk is read.

    Raises:
        RnnlmError, OSError: something on the disk can't be read.
    """
    estimate = client.estimate.estimate(config)
    corpus = store.corpora.find_corpus(config.corpus, config.tokenizer)
    facts: dict[str, str] = {}
    if corpus is not None:
        size = formatting.disk(sum(split.bytes for split in corpus.splits.values()))
        facts["corpus.source"] = "; ".join((f"{corpus.title}, {size}", *corpus.all_notes))
    if estimate.steps is not None and warmup_note(config, estimate.steps):
        planned = planned_warmup(config, estimate.steps)
        facts[WARMUP] = f"shortened to {planned:,} of {estimate.steps:,}"
    if has_prompts_of_another_text(config):
        facts["evaluation.prompts"] = "this text's own beginnings instead"
    missing, preview, at = None, None, "corpus.source"
    try:
        client.start.check_source(config.corpus.model_copy(update={"test_source": None}))
        if config.corpus.test_source is not None:
            at = "corpus.test_source"
            client.start.check_source(config.corpus)
            at = "corpus.source"
        preview = client.corpora.preview(config)
        own_text = config.corpus.source not in BUILT_IN_SOURCES
        if preview is not None and config.corpus.layout == "auto" and own_text:
            layout = (preview.layout, preview.reason)
            facts["corpus.layout"] = ": ".join(filter(None, layout))
        at = "tokenizer.name"
        client.pretrained.check_tokenizer(config.tokenizer)
    except (CorpusError, TokenizerError) as error:  # training would fail too
        missing = _problem("corpus.text_field" if "corpus.text_field" in error.hint else at, error)
    vocabulary = client.pretrained.tokenizer_size(config.tokenizer)
    return Findings(config, estimate, facts, missing, preview, vocabulary)


class DraftCheck:
    """The problems of the shown draft, from the newest findings and the last failed start."""

    def __init__(self) -> None:
        self.blocking: tuple[Problem, ...] = ()
        """Problems of the draft itself, to fix before it can start."""
        self.problems: tuple[Problem, ...] = ()
        """The same with what this machine lacks: a start may be tried again, because that may have
        been fixed."""
        self.found = Findings()
        """The newest findings; until the disk has been read, those of the config before."""
        self._asked: RunConfig | None = None
        self._failure: tuple[RunConfig, Problem] | None = None

    def check(self, draft: Draft, config: RunConfig, *, locked: bool) -> None:
        """Find the problems of a draft with this config; a run's config (`locked`) has none."""
        self.blocking = self.problems = ()
        if locked:
            return
        found = self.found if self.found.config == config else Findings()
        self.blocking, missing = draft.problems(), found.missing
        if found.estimate is not None:
            wrong = by_field(self.blocking)
            self.blocking += tuple(
                problem for problem in found.estimate.problems if field_of(problem) not in wrong
            )
        if self._failure is not None and self._failure[0] == config:
            missing = self._failure[1]
        self.problems = (*self.blocking, missing) if missing is not None else self.blocking

    def needs_estimate(self, config: RunConfig) -> bool:
        """Whether the disk has to be read for this config; asks only once."""
        asked, self._asked = self._asked, config
        return asked != config

    def start_failed(self, config: RunConfig, error: InputError) -> str | None:
        """Note that a start of this config failed.

        Return the path of the field that caused it, None if none did.
        """
        found = self.found.missing if self.found.config == config else None
        path = next((path for kind, path in ERROR_FIELDS if isinstance(error, kind)), None)
        if isinstance(error, ConfigError):  # the fields that don't fit the parent's weights
            problem = error.problems[0]
        elif found is not None and found.message == error.message:
            problem = found
        elif path is not None:
            problem = _problem(path, error)
        else:
            return None
        self._failure = config, problem
        return problem.path

    def forget(self) -> None:
        """Forget the failed start and what was missing: it is tried again."""
        self.found, self._failure = replace(self.found, missing=None), None


def _problem(path: str, error: InputError) -> Problem:
    """Return an error as a problem of a field."""
    return Problem(
        path, error.message, error.hint.replace(SET_SOURCE, "set the field source to the folder")
    )
