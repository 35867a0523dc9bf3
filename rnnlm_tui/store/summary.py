"""Summarize a run for lists, the dashboard's header and JSON output.

`RunState` holds what was read of a run at one moment, `Evaluations` its evaluations;
`summarize_state` computes the summary from them.
"""

import math
import shlex
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import fmean, median
from typing import Any, NamedTuple, cast

from pydantic_core import ValidationError

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts, Parent
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import (
    SMOOTHED_STEPS,
    AttemptRow,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    HardwareRow,
    RankReading,
    StepRow,
    evaluations_during_run,
    evaluations_without_improvement,
    perplexity,
)
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.reference import (
    first_pass_sentences,
    follows_reference,
    nearest_reference_point,
)
from rnnlm_tui.schema.status import LIVING, RunStatus
from rnnlm_tui.schema.summary import (
    BaselineFigures,
    ChangedField,
    CheckpointFigures,
    EvaluationFigures,
    LineageFigures,
    ModelFigures,
    PatienceFigures,
    PreparingFigures,
    ReferenceFigures,
    RequestFigures,
    RunSummary,
    SourceFigures,
    TrainFigures,
)
from rnnlm_tui.store.labels import RunLabels
from rnnlm_tui.system.json_files import Found
from rnnlm_tui.system.locks import LockPage

RECENT_STEPS = 400
"""Rates and the ETA are computed from at most this many newest steps."""

_NONE = EvaluationFigures()
_SHAPE = {"cell_type", "num_layers", "hidden_size", "tie_weights"}
_AS_THEY_ARE = {
    "precision", "matmul", "cores", "epochs", "corpus_hash", "corpus_notes", "corpus_layout",
}  # fmt: skip
"""Facts in a summary, if they are known."""
TIMED_EVALUATIONS = 10
"""Number of newest evaluations in the mean duration."""
LOAD_READINGS = 10
"""Number of machine readings in the mean: ten seconds."""
FEWEST_LOAD_READINGS = 5
"""Fewest readings needed: one may be from the moment when the run's own start kept the machine
busy."""
REPORTED_CORES = 0.3
"""Cores that must be missing for the run's threads before it is reported."""
STEADY_SECONDS = 10.0
"""A run's speed is measured over this much of its last training time."""


class RunState(NamedTuple):
    """What a run's logs, lock, folder and labels say at one moment."""

    name: str
    config: RunConfig
    status: RunStatus
    facts: Facts
    recent: Sequence[StepRow]
    """The newest steps in order."""
    evaluations: "Evaluations"
    checkpoints: Sequence[CheckpointRow] = ()
    attempts: Sequence[AttemptRow] = ()
    """Oldest first."""
    last_state: EventRow | None = None
    pid: int | None = None
    """The running worker's pid."""
    page: LockPage = LockPage()
    """What the running worker does."""
    created: float = 0.0
    """Unix seconds."""
    parent: Parent | None = None
    """The checkpoint that the run started from."""
    hardware: Sequence[HardwareRow] = ()
    """The newest machine readings in order."""
    ranks: tuple[RankReading, ...] = ()
    """The newest readings of processes that train together."""
    labels: Found[RunLabels] = Found(RunLabels())
    config_path: str = ""
    """Path of the run's config, which a new run can start from."""
    last_words: str = ""
    """Why the newest attempt failed, from the worker's output; read if its log has no reason."""

    @property
    def host(self) -> str | None:
        """The newest worker's host; None before the first one."""
        return self.attempts[-1].host if self.attempts else None

    @property
    def device(self) -> str | None:
        """The device that it trains on, as far as it is known."""
        return self.facts.device or (self.attempts[-1].device if self.attempts else None) or None


def last_activity_time(state: RunState) -> float | None:
    """Unix seconds of the newest step, evaluation, checkpoint or state event."""
    times = [
        rows[-1].time for rows in (state.recent, state.evaluations.rows, state.checkpoints) if rows
    ]
    times += [state.last_state.time] if state.last_state is not None else []
    return max(times, default=None)


def median_step_seconds(state: RunState) -> float | None:
    """Median duration of recent steps in seconds; before two steps, that of the trial step."""
    taken = [row.active_seconds - before.active_seconds for before, row in pairwise(state.recent)]
    return median(taken) if taken else state.facts.rehearsed_seconds


class Evaluations(NamedTuple):
    """A run's evaluations by step, with summaries."""

    rows: tuple[EvaluationRow, ...] = ()
    validation: EvaluationFigures = _NONE
    test: EvaluationFigures = _NONE
    judged: EvaluationFigures = _NONE
    """On the split that the config evaluates during training."""
    waited: int = 0
    """Consecutive evaluations on the validation set without a lower loss, up to the newest."""
    best_step: int | None = None
    """The step of the lowest loss for early stopping."""
    seconds: float = 0.0
    """Mean duration of all evaluations of a step; 0 before the first."""


def read_evaluations(rows: Sequence[EvaluationRow], split: str) -> Evaluations:
    """Summarize evaluations; `split` is the config's evaluation split."""
    by_step: dict[int, float] = {}
    for row in rows:
        by_step[row.step] = by_step.get(row.step, 0.0) + row.seconds
    return Evaluations(
        rows=tuple(rows),
        validation=_figures([row for row in rows if row.split == "validation"]),
        test=_figures([row for row in rows if row.split == "test"]),
        judged=_figures(evaluations_during_run(rows, split)),
        waited=evaluations_without_improvement(rows),
        best_step=_figures(evaluations_during_run(rows, "validation")).best_step,
        seconds=fmean(list(by_step.values())[-TIMED_EVALUATIONS:]) if by_step else 0.0,
    )


def known_perplexity(loss: float | None) -> float | None:
    """exp(loss); None if the loss is unknown or NaN."""
    return None if loss is None or math.isnan(loss) else perplexity(loss)


def _figures(rows: Sequence[EvaluationRow]) -> EvaluationFigures:
    """Summarize the newest evaluation, and the best one on the same set."""
    if not rows:
        return EvaluationFigures()
    newest = rows[-1]
    found: dict[str, Any] = {"perplexity": known_perplexity(newest.loss)}
    finite = [row for row in rows if row.name == newest.name and math.isfinite(row.loss)]
    if finite:
        best = min(finite, key=lambda row: row.loss)
        found |= {"best_step": best.step, "best_perplexity": best.perplexity}
    names = fields_of(EvaluationFigures).keys() - found.keys()
    found |= {name: getattr(newest, name) for name in names if hasattr(newest, name)}
    return EvaluationFigures(**found)


def reference_figures(
    config: RunConfig, evaluated_step: int | None, steps_per_epoch: float | None = None
) -> ReferenceFigures | None:
    """The reference's result nearest to the run's newest evaluation; no result before the first
    evaluation and after the first epoch, because the reference saw no sentence twice.

    None if they aren't comparable because of the config.
    """
    if not follows_reference(config):
        return None
    if evaluated_step is None:
        return ReferenceFigures()
    sentences = evaluated_step * config.training.batch_size
    if sentences > first_pass_sentences(config.training.batch_size, steps_per_epoch):
        return ReferenceFigures(sentences=sentences)
    near = nearest_reference_point(sentences)
    return ReferenceFigures(
        sentences=sentences, perplexity=near.perplexity, reference_sentences=near.sentences
    )


def _reference(state: RunState) -> ReferenceFigures | None:
    """None also after a start from other weights, or with a changed learning rate."""
    facts = state.facts
    if state.parent is not None or "optimizer.learning_rate" in facts.settings:
        return None
    per_epoch = facts.max_steps / facts.epochs if facts.max_steps and facts.epochs else None
    return reference_figures(state.config, state.evaluations.judged.step, per_epoch)


def others_cores(rows: Sequence[HardwareRow], *, cores: int, threads: int) -> float | None:
    """Cores used by other processes in the last readings; None if the run's threads have enough
    cores.

    A run with fewer threads than cores leaves the rest to other processes.

    Args:
        rows: machine readings, oldest first.
    """
    recent = rows[-LOAD_READINGS:]
    if len(recent) < FEWEST_LOAD_READINGS or cores < 1:
        return None
    held = (
        fmean(max(0.0, row.cpu_percent - row.process_cpu_percent) for row in recent) / 100 * cores
    )
    missed = held - max(0, cores - threads)
    return round(held, 1) if missed > REPORTED_CORES else None


def summarize_state(state: RunState, eta_seconds: float | None = None) -> RunSummary:
    """Summarize a run; `eta_seconds` is from `estimate_remaining`."""
    facts, config, evaluations = state.facts, state.config, state.evaluations
    labels = state.labels.value
    last = state.recent[-1] if state.recent else None
    reached = max(
        (rows[-1] for rows in (state.recent, state.checkpoints) if rows),
        key=lambda row: row.step,
        default=None,
    )
    living = state.status in LIVING
    return RunSummary(
        run=state.name,
        status=state.status,
        attempt=state.attempts[-1].attempt if state.attempts else 0,
        step=reached.step if reached else 0,
        max_steps=config.training.max_steps if facts.max_steps is None else facts.max_steps,
        epoch=reached.epoch if reached else 0.0,
        tokens_seen=reached.tokens_seen if reached else 0,
        pid=state.pid if living else None,
        host=state.host,
        device=state.device,
        others_cores=_others(state),
        started=(
            datetime.fromtimestamp(state.attempts[0].started, UTC).isoformat(timespec="seconds")
            if state.attempts
            else None
        ),
        updated=last_activity_time(state) or state.created,
        active_seconds=last.active_seconds if last else 0.0,
        preset=config.preset,
        corpus=facts.corpus_title or config.corpus.source,
        corpus_source=config.corpus.source,
        model=ModelFigures(
            **config.model.model_dump(include=_SHAPE),
            parameters=facts.parameters,
            vocab_size=facts.vocab_size,
        ),
        train=_train_figures(state.recent),
        validation=evaluations.validation,
        test=evaluations.test,
        evaluation=evaluations.judged,
        baseline=BaselineFigures(
            name=config.evaluation.baseline_name,
            perplexity=known_perplexity(facts.baseline_loss),
            validation_perplexity=known_perplexity(facts.baseline_validation_loss),
        ),
        source=SourceFigures(perplexity=known_perplexity(facts.source_loss)),
        reference=_reference(state),
        tokens_per_second=_speed(state),
        eta_seconds=eta_seconds,
        checkpoints=CheckpointFigures(
            best=next((row.step for row in state.checkpoints if row.best), None),
            last=next((row.step for row in state.checkpoints if row.last), None),
            pinned=tuple(row.step for row in state.checkpoints if row.step in labels.pins),
            count=len(state.checkpoints),
            bytes=sum(row.bytes for row in state.checkpoints),
        ),
        preparing=_preparing(state),
        patience=_patience(state),
        requests=_requests(state.page) if living else (),
        stop_after=facts.stop_after if living else None,
        ranks=state.ranks,
        parent=None if state.parent is None else state.parent.address,
        lineage=None if state.parent is None else _lineage(state.parent),
        created=state.created,
        message=_message(state),
        hint=_hint(state),
        labels_damaged=bool(state.labels.damage),
        diverged=_diverged(state),
        **labels.of_run,
        **facts.model_dump(include=_AS_THEY_ARE, exclude_defaults=True),
    )


def _preparing(state: RunState) -> PreparingFigures | None:
    if state.status != "preparing" or state.page.progress is None:
        return None
    phase, done, total = state.page.progress
    return PreparingFigures(phase=phase, done=done, total=total)


def _requests(page: LockPage) -> tuple[RequestFigures, ...]:
    """The commands that wait; none if another version wrote them."""
    try:
        return tuple(map(RequestFigures.model_validate, page.requests))
    except ValidationError:
        return ()


def _lineage(parent: Parent) -> LineageFigures:
    return LineageFigures(
        **parent.model_dump(exclude={"hash", "validation_loss", "changed"}),
        perplexity=known_perplexity(parent.validation_loss),
        changed=tuple(
            ChangedField(key=key, before=_plain(before), after=_plain(after))
            for key, (before, after) in parent.changed.items()
        ),
    )


def _plain(value: Any) -> str | bool | int | float | None:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return str(value) if isinstance(value, dict) else cast(str | bool | int | float | None, value)


def _others(state: RunState) -> float | None:
    """Cores used by other processes while a run trains on the CPU."""
    cores = state.facts.cores
    if state.status != "running" or cores is None or not (state.device or "").startswith("cpu"):
        return None
    return others_cores(state.hardware, cores=cores, threads=state.facts.threads or cores)


def _train_figures(recent: Sequence[StepRow]) -> TrainFigures:
    if not recent:
        return TrainFigures()
    rows, newest = recent[-SMOOTHED_STEPS:], recent[-1]
    losses = [row.loss for row in rows if math.isfinite(row.loss)]
    norms = [row.grad_norm for row in rows if math.isfinite(row.grad_norm)]
    loss = fmean(losses) if losses else None
    return TrainFigures(
        loss=loss,
        perplexity=known_perplexity(loss),
        # smoothed like the loss; if the newest step's is not finite, that one
        grad_norm=fmean(norms) if math.isfinite(newest.grad_norm) else newest.grad_norm,
        learning_rate=newest.learning_rate,
    )


def _speed(state: RunState) -> float | None:
    """Tokens per second: of a whole ended run, or while it trains over the last STEADY_SECONDS, at
    least SMOOTHED_STEPS: fifty quick steps are too short a time."""
    recent = state.recent
    if not recent or (state.status in LIVING and state.status != "running"):
        return None
    tokens, seconds = recent[-1].tokens_seen, recent[-1].active_seconds
    if state.status == "running":
        begin = bisect_left(recent, seconds - STEADY_SECONDS, key=lambda row: row.active_seconds)
        first = recent[max(0, min(begin, len(recent) - SMOOTHED_STEPS))]
        tokens, seconds = tokens - first.tokens_seen, seconds - first.active_seconds
    return tokens / seconds if seconds > 0 else None


def _patience(state: RunState) -> PatienceFigures | None:
    limit = state.config.training.patience
    return PatienceFigures(waited=state.evaluations.waited, limit=limit) if limit else None


def _ended_by_patience(state: RunState) -> PatienceFigures | None:
    """The patience that stopped the run early; None if it did not."""
    patience, most = _patience(state), state.facts.max_steps
    if state.status != "finished" or patience is None or patience.waited < patience.limit:
        return None
    return patience if most and state.recent and state.recent[-1].step < most else None


def _stalled_message(state: RunState) -> str:
    newest = last_activity_time(state)
    since = (
        "" if newest is None else f" since {datetime.fromtimestamp(newest).strftime('%H:%M:%S')}"
    )
    process = "its worker" if state.pid is None else f"the process (pid {state.pid})"
    return (
        f"no step{since}, {process} still holds the run; `rnnlm-tui stop {state.name}`, or kill the"
        " process and resume"
    )


def _hint(state: RunState) -> str | None:
    """What to do next."""
    if state.status == "failed":
        return state.facts.hint or None
    if state.status in ("crashed", "stopped"):
        last = _last_saved(state)
        if state.facts.memory_warning:
            return _memory_hint(state, last)
        return f"`rnnlm-tui resume {state.name}` " + (
            "restarts from step 0: no checkpoint was saved"
            if last is None
            else f"resumes from step {last:,}, the last checkpoint"
        )
    patience = _ended_by_patience(state)
    if patience is not None:
        which = "best" if any(row.best for row in state.checkpoints) else "last"
        start = f"train --from {state.name}@{which} --set training.patience={2 * patience.limit}"
        return (
            f"`rnnlm-tui {start}` starts a new run from its {which} weights with twice the patience"
        )
    return None


def _memory_hint(state: RunState, last: int | None) -> str:
    """A hint after running out of memory: start a new run that fits, since a resume would fail
    again."""
    batch = state.facts.memory_batch
    config = f"--config {shlex.quote(state.config_path)}"
    if batch:
        start = (
            f"`rnnlm-tui train {config if last is None else f'--from {state.name}@{last}'} --set"
            f" training.batch_size={batch}` starts a new run that should fit"
        )
    else:
        start = (
            f"`rnnlm-tui train {config} --set …` with a smaller model.hidden_size, model.num_layers"
            " or tokenizer.vocab_size starts a new run that needs less"
        )
    again = "restarts from step 0" if last is None else f"resumes from step {last:,}"
    return f"{start}; `rnnlm-tui resume {state.name}` {again} once more memory is free"


def _last_saved(state: RunState) -> int | None:
    return state.checkpoints[-1].step if state.checkpoints else None


def _diverged(state: RunState) -> bool:
    """Whether the run failed after `max_bad_steps` steps without a finite loss or gradient."""
    newest = state.recent[-state.config.training.max_bad_steps :]
    return (
        state.status == "failed"
        and bool(newest)
        and not any(math.isfinite(row.loss) and math.isfinite(row.grad_norm) for row in newest)
    )


def _message(state: RunState) -> str | None:
    if state.status == "failed":
        return state.facts.message or (state.last_state.text if state.last_state else None)
    if state.status == "stopped" and state.facts.message:
        return state.facts.message
    if state.status == "crashed":
        if state.last_words:
            return f"its worker failed and could not store why: {state.last_words}"
        short = state.facts.memory_warning
        why = f"maybe because memory ran out: {short}" if short else "or the machine went down"
        return f"its worker was killed, {why}"
    if state.status == "stalled":
        return _stalled_message(state)
    if state.status == "preparing" and state.facts.memory_warning and not state.page.degraded:
        return state.facts.memory_warning
    if state.page.degraded and state.status in LIVING:
        words = f"{_durable(state)}; {state.page.degraded}"
        return f"it keeps training, {words}" if state.status == "degraded" else words
    if state.status in LIVING and state.facts.device_warning:
        return state.facts.device_warning
    patience = _ended_by_patience(state)
    if patience is not None:
        best = state.evaluations.best_step
        which = "" if best is None else f"; best at step {best:,}"
        return (
            f"stopped early: {counted(patience.waited, 'evaluation')} without a better validation"
            f" loss{which}"
        )
    if state.status == "lost":
        return f"its worker ran on {state.host}, which has not been heard from since"
    return None


def _durable(state: RunState) -> str:
    """What is already on disk if the worker should die."""
    last = _last_saved(state)
    rows = f"metrics up to step {state.recent[-1].step:,}" if state.recent else "no metrics"
    saved = "no checkpoint" if last is None else f"the checkpoint of step {last:,}"
    return f"on disk: {rows} and {saved}"
