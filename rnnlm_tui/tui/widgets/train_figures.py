"""The figures above the charts: how far, how long still, does it learn, is the machine busy; columns stand still while digits change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from rnnlm_tui.contract.figures import NOTHING, count, disk, figure, percent, scientific, short, time_left
from rnnlm_tui.contract.status import LIVING, RunStatus, RunSummary
from rnnlm_tui.contract.status import TrainFigures as Training
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.bars import bar
from rnnlm_tui.tui.widgets.line import Line
from rnnlm_tui.tui.widgets.status_line import progress_colour
from rnnlm_tui.tui.widgets.train_data import exponentials, held_out

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import EvaluationRow, HardwareRow
    from rnnlm_tui.supervisor.monitor import RunSnapshot

Trend = Literal["falling", "level", "rising"]
TREND_NATS = 0.003
"""Held-out losses within this of each other are level: 0.3 % of the perplexity."""
TREND_SIGNS: dict[Trend, tuple[str, str, str]] = {
    "falling": ("▼", "v", palette.GOOD),
    "level": ("─", "-", palette.DIM),
    "rising": ("▲", "^", palette.WARN),
}
PHASES = {
    "downloading": "fetching the archive",
    "unpacking": "unpacking the archive",
    "reading": "reading the text",
    "tokenizer": "training the tokenizer",
    "encoding": "turning text into tokens",
    "baseline": "computing the bigram baseline",
    "checking": "checking the corpus",
    "building": "building the model",
    "rehearsing": "rehearsing the largest step",
    "evaluating": "rehearsing an evaluation",
}
"""What a run that has no steps yet is doing."""
NARROW = (1, 28, 43, 60)
"""Columns of the figures at 80 cells."""


def trend(rows: list[EvaluationRow]) -> Trend | None:
    """Whether the newest held-out loss lies under, at or over the mean of the two before it; None for the first."""
    if len(rows) < 2:
        return None
    before = [row.loss for row in rows[-3:-1]]
    reference, newest = sum(before) / len(before), rows[-1].loss
    if newest < reference - TREND_NATS:
        return "falling"
    return "rising" if newest > reference + TREND_NATS else "level"


def busy(row: HardwareRow | None, status: RunStatus) -> Content:
    """`GPU 71 %`, or the CPU where there is no GPU."""
    if row is None or status not in LIVING:
        return Content("")
    name, value = ("GPU", row.gpu_percent) if row.gpu_percent is not None else ("CPU", row.cpu_percent)
    return Content.assemble((f"{name} ", palette.DIM), (f"{value:.0f}", f"bold {_alarm(status)}"), (" %", palette.DIM))


def _alarm(status: RunStatus) -> str:
    return palette.WARN if status in ("stalled", "degraded") else palette.BRIGHT


def _label(label: str, value: str, *, colour: str = palette.BRIGHT, bold: bool = True, unit: str = "") -> Content:
    style = f"bold {colour}" if bold else colour
    return Content.assemble((f"{label} ", palette.DIM), (value, style), (f" {unit}" if unit else "", palette.DIM))


def in_columns(places: tuple[int, ...], parts: list[Content], width: int) -> Content:
    """Each part at its column; one that is too long moves the next by as little as it must."""
    line = Content("")
    for place, part in zip(places, parts, strict=False):
        if not part.plain:
            continue
        gap = max(place - line.cell_length, 2 if line.plain else 0)
        if line.cell_length + gap + part.cell_length > width:
            break
        line = Content.assemble(line, " " * gap, part)
    return line


def progress_line(snapshot: RunSnapshot, width: int, *, ascii_only: bool) -> Content:
    """`step 3,751 / 4,754  ━━━━───  79 %   24 s left ±3`: the time left always at the right edge."""
    summary = snapshot.summary
    if summary.preparing is not None:
        return _preparing_line(summary, width, ascii_only=ascii_only)
    most = summary.max_steps
    step, end = count(summary.step), count(most) if most else NOTHING
    fraction = summary.step / most if most else None
    head = Content.assemble((" step ", palette.DIM), (step.rjust(len(end)), f"bold {palette.BRIGHT}"), (f" / {end}", palette.DIM))
    tail = _time_left(summary, snapshot.eta_margin, ascii_only=ascii_only)
    reserved = max(tail.cell_length, 21 if (summary.eta_seconds or 0) > 60 else 13)
    share = percent(fraction)
    number, _, sign = share.partition(" ")
    percents = Content.assemble((number.rjust(3), f"bold {palette.BRIGHT}"), (f" {sign}", palette.DIM))
    room = width - head.cell_length - 2 - 1 - percents.cell_length - 2 - reserved - 1
    if room < 6:
        return Content.assemble(head, " " * max(1, width - head.cell_length - tail.cell_length - 1), tail)
    line = Content.assemble(head, "  ", bar(room, fraction, colour=progress_colour(summary.status), ascii=ascii_only), " ", percents)
    return Content.assemble(line, " " * max(1, width - line.cell_length - tail.cell_length - 1), tail)


def _time_left(summary: RunSummary, margin: float | None, *, ascii_only: bool) -> Content:
    status = summary.status
    if status == "stalled":
        return Content.styled(f"{'~' if ascii_only else '◌'} time left unknown", f"bold {palette.WARN}")
    if status == "running" and summary.eta_seconds is not None:
        left, more = time_left(summary.eta_seconds, margin)
        return Content.assemble((left, f"bold {palette.TRAIN}"), (f" {more}" if more else "", palette.DIM))
    if status in ("finished", "stopped") and summary.test.perplexity is not None:
        sliced = summary.evaluation.name not in (None, "validation", summary.test.name)
        return _label("full test" if sliced else "test", figure(summary.test.perplexity), colour=palette.VALIDATION)
    words = {
        "running": "time left soon", "paused": "paused", "stopped": "stopped", "finished": "finished", "failed": "failed",
        "crashed": "crashed", "lost": "time left unknown", "draft": "not started", "preparing": "starting",
        "degraded": "time left unknown",
    }  # fmt: skip
    return Content.styled(words[status], palette.BAD if status in ("failed", "crashed") else palette.DIM)


def _preparing_line(summary: RunSummary, width: int, *, ascii_only: bool) -> Content:
    preparing = summary.preparing
    assert preparing is not None
    fraction = preparing.done / preparing.total if preparing.total else None
    head = Content.styled(f" {PHASES.get(preparing.phase, preparing.phase)}", palette.TEXT)
    if not preparing.total and not preparing.done:
        return head  # nothing that can be counted
    amount = f"{disk(preparing.done)} of {disk(preparing.total)}" if preparing.total else disk(preparing.done)
    tail = Content.styled(amount.rjust(17), palette.DIM)
    number, _, sign = percent(fraction).partition(" ")
    percents = Content.assemble((number.rjust(3), f"bold {palette.BRIGHT}"), (f" {sign}", palette.DIM))
    start = max(32, head.cell_length + 2)
    room = width - start - 1 - percents.cell_length - 2 - tail.cell_length - 1
    if room < 6:
        return Content.assemble(head, " " * max(1, width - head.cell_length - tail.cell_length - 1), tail)
    return Content.assemble(head, " " * (start - head.cell_length), bar(room, fraction, ascii=ascii_only), " ", percents, "  ", tail)


class TrainFigures(Vertical):
    """Three lines at 80 columns, two from 90 on in the wide arrangement."""

    DEFAULT_CSS = "TrainFigures { overflow: hidden; }"

    def compose(self) -> ComposeResult:
        for index in range(3):
            yield Line(id=f"figures-{index}")

    def show(self, snapshot: RunSnapshot | None, *, rows: int, width: int, ascii_only: bool, smooth: bool = True) -> None:
        """The run's figures in `rows` lines of `width` cells."""
        lines = [Content("")] * rows if snapshot is None else _lines(snapshot, rows, width, ascii_only, smooth)
        for index, line in enumerate(self.query(Line)):
            line.put(lines[index] if index < len(lines) else Content(""))


def training_figures(snapshot: RunSnapshot, *, smooth: bool) -> Training:
    """Loss and perplexity of training as the charts show them: smoothed, or those of the newest point alone."""
    newest = snapshot.series.columns["loss"].mean[-1:]
    if smooth or not newest or newest[0] != newest[0]:
        return snapshot.summary.train
    return snapshot.summary.train.model_copy(update={"loss": newest[0], "perplexity": exponentials(newest)[0]})


def _lines(snapshot: RunSnapshot, rows: int, width: int, ascii_only: bool, smooth: bool) -> list[Content]:
    summary = snapshot.summary
    first = progress_line(snapshot, width, ascii_only=ascii_only)
    hardware = snapshot.hardware[-1] if snapshot.hardware else None
    validation, stars = _validation(snapshot, ascii_only=ascii_only)
    speed = summary.tokens_per_second
    tokens = Content.assemble((short(speed), f"bold {_alarm(summary.status)}"), (" tok/s", palette.DIM))
    train = training_figures(snapshot, smooth=smooth)
    perplexity = _label("train", figure(train.perplexity))
    loss = _label("train loss", figure(train.loss))
    bits = _label(
        f"{'val' if snapshot.config.evaluation.split == 'validation' else 'test'} bits/byte",
        figure(summary.evaluation.bits_per_byte),
        bold=False,
        colour=palette.TEXT,
    )
    rate = _label("lr" if rows == 2 else "lr  ", scientific(summary.train.learning_rate), bold=False, colour=palette.TEXT)
    norm = _label("grad", figure(summary.train.grad_norm), bold=False, colour=palette.TEXT)
    epoch = _label("epoch", f"{summary.epoch:.1f}", bold=False, colour=palette.TEXT, unit=f"of {round(summary.epochs, 2):g}" if summary.epochs else "")
    if rows >= 3:
        scale = width / 80
        places = tuple(place if width < 96 else round(place * scale) for place in NARROW)
        second = in_columns(places, [validation + stars, perplexity, loss, bits], width)
        third = in_columns((places[0], places[0] + 13, *places[1:]), [tokens, busy(hardware, summary.status), norm, rate, epoch], width)
        return [first, second, third]
    if width < 150:
        short_epoch = _label("epoch", f"{summary.epoch:.1f}", bold=False, colour=palette.TEXT)
        places = (1, 23, 35, 52, 72, 85, 96)
        return [first, in_columns(places, [validation + stars, perplexity, loss, bits, tokens, rate, short_epoch], width)]
    since = summary.step - summary.evaluation.best_step if summary.evaluation.best_step is not None else None
    best = Content.assemble(("best ", palette.DIM), (count(since), palette.TEXT), (" steps ago", palette.DIM)) if since is not None else Content("")
    places = (1, 24, 46, 58, 75, 95, 108, 119, 130)
    return [first, in_columns(places, [validation + stars, best, perplexity, loss, bits, tokens, rate, norm, epoch], width)]


def _validation(snapshot: RunSnapshot, *, ascii_only: bool) -> tuple[Content, Content]:
    """`val 58.1 ★ ▼ falling`, or `val 58.1 patience 2/5` while that counts; a stalled run keeps the value alone."""
    rows = held_out(snapshot)
    name = "val" if snapshot.config.evaluation.split == "validation" else "test"
    if not rows:
        return _label(name, NOTHING), Content("")
    value = _label(name, figure(rows[-1].perplexity), colour=palette.VALIDATION)
    if snapshot.summary.status == "stalled":
        return value, Content("")
    best = rows[-1].loss <= min(row.loss for row in rows)
    star = Content.styled(" *" if ascii_only else " ★", palette.VALIDATION) if best else Content("")
    patience = snapshot.summary.patience
    if patience is not None and patience.waited and snapshot.summary.status in LIVING:
        return value, star + Content.styled(f" patience {patience.waited}/{patience.limit}", palette.WARN)
    going = trend(rows)
    if going is None or snapshot.summary.status not in ("running", "paused"):
        return value, star
    sign, plain, colour = TREND_SIGNS[going]
    return value, star + Content.styled(f" {plain if ascii_only else sign} {going}", colour)
