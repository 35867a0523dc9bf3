"""Summarize a run for lists, the dashboard's header and JSON output.

`RunFacts` holds what was read of a run at one moment, `Evaluations` its evaluations;
`summarize_facts` computes the summary from them.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from statistics import fmean, median

from pydantic import JsonValue, TypeAdapter, ValidationError

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.lineage import LINEAGE_KEY, parse_parent
from rnnlm_tui.schema.metrics import (
    SMOOTHED_STEPS,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    HardwareRow,
    Progress,
    StepRow,
    evaluations_during_run,
    evaluations_without_improvement,
    perplexity,
)
from rnnlm_tui.schema.protocol import SETTINGS_KEY, StopMark
from rnnlm_tui.schema.reference import (
    first_pass_sentences,
    follows_reference,
    nearest_reference_point,
)
from rnnlm_tui.schema.status import (
    CORPUS_HASH_KEY,
    CORPUS_LAYOUT_KEY,
    CORPUS_NOTES_KEY,
    DATABASE_KEY,
    DEVICE_KEY,
    LIVING,
    MEMORY_BATCH_KEY,
    MEMORY_KEY,
    REHEARSED_KEY,
    REQUESTS_KEY,
    STOP_AFTER_KEY,
    RunStatus,
)
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

RECENT_STEPS = 400
"""Rates and the ETA are computed from at most this many newest steps."""

_NONE = EvaluationFigures()
_REQUESTS = TypeAdapter(tuple[RequestFigures, ...])
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


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Content of a run's database, lock and labels at one moment."""

    name: str
    config: RunConfig
    status: RunStatus
    meta: Mapping[str, str]
    attempt: int
    started: float | None
    """Unix seconds of the first attempt."""
    pid: int | None
    """The running worker's pid."""
    recent: Sequence[StepRow]
    """The newest steps in order."""
    evaluations: Evaluations
    checkpoints: Sequence[CheckpointRow]
    last_state: EventRow | None
    progress: Progress | None
    pinned: Collection[int] = ()
    """Steps of pinned checkpoints."""
    hardware: Sequence[HardwareRow] = ()
    """The newest machine readings in order."""
    labels: Found[RunLabels] = field(default_factory=lambda: Found(RunLabels()))
    config_path: str = ""
    """Path of the run's config, which a new run can start from."""
    newest_on_disk: int | None = None
    """Step of the newest checkpoint on disk; read if the worker crashed, maybe before it was
    indexed."""
    last_words: str = ""
    """Why the newest attempt failed, from the worker's log; read if the database has no reason."""
    degraded: str = ""
    """Why the running worker can't store its metrics; empty if it can."""

    def number(self, key: str) -> float | None:
        """A finite number among the meta values, or None."""
        return number(self.meta.get(key))


def last_activity_time(facts: RunFacts) -> float | None:
    """Unix seconds of the newest step, evaluation, checkpoint or state event."""
    times = [
        rows[-1].time for rows in (facts.recent, facts.evaluations.rows, facts.checkpoints) if rows
    ]
    times += [facts.last_state.time] if facts.last_state is not None else []
    return max(times, default=None)


def median_step_seconds(facts: RunFacts) -> float | None:
    """Median duration of recent steps in seconds; before two steps, that of the trial step."""
    ends = [row.active_seconds for row in facts.recent if math.isfinite(row.active_seconds)]
    taken = [after - before for before, after in pairwise(ends)]
    return median(taken) if taken else facts.number(REHEARSED_KEY)


def number(text: str | None) -> float | None:
    """Parse a finite number; None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Evaluations:
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
    finite = [row for row in rows if row.name == newest.name and math.isfinite(row.loss)]
    best = min(finite, key=lambda row: row.loss, default=None)
    return EvaluationFigures(
        name=newest.name,
        step=newest.step,
        loss=newest.loss,
        perplexity=known_perplexity(newest.loss),
        bits_per_byte=newest.bits_per_byte,
        unknown_share=newest.unknown_share,
        scored_bytes=newest.scored_bytes,
        scored_share=newest.scored_share,
        best_step=None if best is None else best.step,
        best_perplexity=None if best is None else best.perplexity,
    )


def reference_figures(
    config: RunConfig,
    meta: Mapping[str, str],
    evaluated_step: int | None,
    steps_per_epoch: float | None = None,
) -> ReferenceFigures | None:
    """The reference's result nearest to the run's newest evaluation; no result before the first
    evaluation and after the first epoch, because the reference saw no sentence twice.

    None if they aren't comparable: another config, initial weights, or a changed learning rate.
    """
    if (
        not follows_reference(config)
        or meta.get("parent")
        or "optimizer.learning_rate" in _changed(meta)
    ):
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


def _changed(meta: Mapping[str, str]) -> Mapping[str, object]:
    """Settings changed by `set`."""
    try:
        found = json.loads(meta.get(SETTINGS_KEY) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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


def summarize_facts(facts: RunFacts, eta_seconds: float | None = None) -> RunSummary:
    """Summarize a run; `eta_seconds` is from `estimate_remaining`."""
    meta, config = facts.meta, facts.config
    last = facts.recent[-1] if facts.recent else None
    reached = max(
        (rows[-1] for rows in (facts.recent, facts.checkpoints) if rows),
        key=lambda row: row.step,
        default=None,
    )
    source_loss = facts.number("source_loss")
    max_steps, epochs, parameters, vocab_size, cores = (
        facts.number(key) for key in ("max_steps", "epochs", "parameters", "vocab_size", "cores")
    )
    evaluations = facts.evaluations
    living = facts.status in LIVING
    return RunSummary(
        run=facts.name,
        status=facts.status,
        attempt=facts.attempt,
        step=reached.step if reached else 0,
        max_steps=int(max_steps) if max_steps is not None else config.training.max_steps,
        epoch=reached.epoch if reached else 0.0,
        epochs=epochs,
        tokens_seen=reached.tokens_seen if reached else 0,
        pid=facts.pid if living else None,
        host=meta.get("host"),
        device=meta.get("device") or None,
        precision=meta.get("precision") or None,
        matmul=meta.get("matmul") or None,
        cores=None if cores is None else int(cores),
        others_cores=_others(facts, cores),
        started=(
            None
            if facts.started is None
            else datetime.fromtimestamp(facts.started, UTC).isoformat(timespec="seconds")
        ),
        updated=_updated(facts),
        active_seconds=last.active_seconds if last else 0.0,
        preset=config.preset,
        corpus=meta.get("corpus_title") or config.corpus.source,
        corpus_hash=meta.get(CORPUS_HASH_KEY),
        corpus_notes=_corpus_notes(facts),
        corpus_layout=meta.get(CORPUS_LAYOUT_KEY, "sentences"),
        corpus_source=config.corpus.source,
        model=ModelFigures(
            cell_type=config.model.cell_type,
            num_layers=config.model.num_layers,
            hidden_size=config.model.hidden_size,
            tie_weights=config.model.tie_weights,
            parameters=None if parameters is None else int(parameters),
            vocab_size=None if vocab_size is None else int(vocab_size),
        ),
        train=_train_figures(facts.recent),
        validation=evaluations.validation,
        test=evaluations.test,
        evaluation=evaluations.judged,
        baseline=BaselineFigures(
            perplexity=known_perplexity(facts.number("baseline_loss")),
            validation_perplexity=known_perplexity(facts.number("baseline_validation_loss")),
        ),
        source=SourceFigures(perplexity=known_perplexity(source_loss)),
        reference=reference_figures(
            config,
            meta,
            evaluations.judged.step,
            max_steps / epochs if max_steps and epochs else None,
        ),
        tokens_per_second=(
            None
            if not facts.recent
            else (
                _whole_speed(facts.recent)
                if not living
                else _tokens_per_second(facts.recent)
                if facts.status == "running"
                else None
            )
        ),
        eta_seconds=eta_seconds,
        checkpoints=CheckpointFigures(
            best=next((row.step for row in facts.checkpoints if row.best), None),
            last=next((row.step for row in facts.checkpoints if row.last), None),
            pinned=tuple(row.step for row in facts.checkpoints if row.step in facts.pinned),
            count=len(facts.checkpoints),
            bytes=sum(row.bytes for row in facts.checkpoints),
        ),
        preparing=(
            None
            if facts.status != "preparing" or facts.progress is None
            else PreparingFigures(
                phase=facts.progress.phase, done=facts.progress.done, total=facts.progress.total
            )
        ),
        patience=_patience(facts),
        requests=_requests(meta) if living else (),
        stop_after=_stop_mark(meta) if living else None,
        parent=meta.get("parent"),
        lineage=_lineage(meta),
        created=facts.number("created"),
        database=meta.get(DATABASE_KEY),
        message=_message(facts),
        hint=_hint(facts),
        tags=facts.labels.value.tags,
        note=facts.labels.value.note,
        pinned=facts.labels.value.pinned,
        labels_damaged=bool(facts.labels.damage),
        diverged=_diverged(facts),
    )


def _requests(meta: Mapping[str, str]) -> tuple[RequestFigures, ...]:
    """The commands that wait; none if the fact is damaged."""
    try:
        return _REQUESTS.validate_json(meta.get(REQUESTS_KEY) or "[]")
    except ValidationError:
        return ()


def _stop_mark(meta: Mapping[str, str]) -> StopMark | None:
    found = meta.get(STOP_AFTER_KEY)
    return "epoch" if found == "epoch" else "evaluation" if found == "evaluation" else None


def _lineage(meta: Mapping[str, str]) -> LineageFigures | None:
    parent = parse_parent(meta.get(LINEAGE_KEY, ""))
    if parent is None:
        return None
    return LineageFigures(
        run=parent.run,
        checkpoint=parent.checkpoint,
        step=parent.step,
        created=parent.created,
        optimizer=parent.optimizer,
        perplexity=None if parent.validation_loss is None else perplexity(parent.validation_loss),
        corpus_hash=parent.corpus_hash,
        changed=tuple(
            ChangedField(key=key, before=_plain(before), after=_plain(after))
            for key, (before, after) in parent.changed.items()
        ),
    )


def _plain(value: JsonValue) -> str | bool | int | float | None:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return str(value) if isinstance(value, dict) else value


def _corpus_notes(facts: RunFacts) -> tuple[str, ...]:
    try:
        notes = json.loads(facts.meta.get(CORPUS_NOTES_KEY, "[]"))
    except ValueError:
        return ()
    return tuple(note for note in notes if isinstance(note, str)) if isinstance(notes, list) else ()


def _others(facts: RunFacts, cores: float | None) -> float | None:
    """Cores used by other processes while a run trains on the CPU."""
    if (
        facts.status != "running"
        or cores is None
        or not facts.meta.get("device", "").startswith("cpu")
    ):
        return None
    return others_cores(
        facts.hardware, cores=int(cores), threads=int(facts.number("threads") or cores)
    )


def _train_figures(recent: Sequence[StepRow]) -> TrainFigures:
    if not recent:
        return TrainFigures()
    losses = [row.loss for row in recent[-SMOOTHED_STEPS:] if math.isfinite(row.loss)]
    loss = fmean(losses) if losses else None
    return TrainFigures(
        loss=loss,
        perplexity=known_perplexity(loss),
        grad_norm=_gradient_norm(recent),
        learning_rate=recent[-1].learning_rate,
    )


def _gradient_norm(recent: Sequence[StepRow]) -> float:
    """Smoothed like the loss; if the newest step's is not finite, that one."""
    newest = recent[-1].grad_norm
    return (
        fmean(row.grad_norm for row in recent[-SMOOTHED_STEPS:] if math.isfinite(row.grad_norm))
        if math.isfinite(newest)
        else newest
    )


def _whole_speed(recent: Sequence[StepRow]) -> float | None:
    """Mean speed of a whole run; that of the last steps if its training time is unknown."""
    last = recent[-1]
    return (
        last.tokens_seen / last.active_seconds
        if last.active_seconds > 0 and math.isfinite(last.active_seconds)
        else _tokens_per_second(recent)
    )


def _tokens_per_second(recent: Sequence[StepRow]) -> float | None:
    """Speed over the last STEADY_SECONDS of training, at least SMOOTHED_STEPS: fifty quick steps
    are too short a time."""
    if len(recent) < 2:
        return None
    newest = recent[-1].active_seconds
    first = bisect_left(recent, newest - STEADY_SECONDS, key=lambda row: row.active_seconds)
    rows = recent[max(0, min(first, len(recent) - SMOOTHED_STEPS)) :]
    seconds = rows[-1].active_seconds - rows[0].active_seconds
    return (rows[-1].tokens_seen - rows[0].tokens_seen) / seconds if seconds > 0 else None


def _updated(facts: RunFacts) -> float | None:
    times = [row.time for row in facts.recent[-1:] or []]
    times += [row.time for row in facts.evaluations.rows[-1:]]
    times += [facts.last_state.time] if facts.last_state is not None else []
    created = facts.number("created")
    return max(times, default=created)


def _patience(facts: RunFacts) -> PatienceFigures | None:
    limit = facts.config.training.patience
    return PatienceFigures(waited=facts.evaluations.waited, limit=limit) if limit else None


def _ended_by_patience(facts: RunFacts) -> PatienceFigures | None:
    """The patience that stopped the run early; None if it did not."""
    patience = _patience(facts)
    return (
        patience
        if facts.status == "finished"
        and patience is not None
        and patience.waited >= patience.limit
        and _steps_left(facts)
        else None
    )


def _stalled_message(facts: RunFacts) -> str:
    newest = last_activity_time(facts)
    since = (
        "" if newest is None else f" since {datetime.fromtimestamp(newest).strftime('%H:%M:%S')}"
    )
    process = "its worker" if facts.pid is None else f"the process (pid {facts.pid})"
    return (
        f"no step{since}, {process} still holds the run; `rnnlm-tui stop {facts.name}`, or kill the"
        " process and resume"
    )


def _hint(facts: RunFacts) -> str | None:
    """What to do next."""
    if facts.status == "failed":
        return _with_current_name(facts.meta.get("hint") or "", facts) or None
    if facts.status in ("crashed", "stopped"):
        last = _last_saved(facts)
        if facts.meta.get(MEMORY_KEY):
            return _memory_hint(facts, last)
        return f"`rnnlm-tui resume {facts.name}` " + (
            "restarts from step 0: no checkpoint was saved"
            if last is None
            else f"resumes from step {last:,}, the last checkpoint"
        )
    patience = _ended_by_patience(facts)
    if patience is not None:
        best = any(row.best for row in facts.checkpoints)
        start = (
            f"`rnnlm-tui train --from {facts.name}@{'best' if best else 'last'} --set"
            f" training.patience={2 * patience.limit}`"
        )
        return (
            f"{start} starts a new run from its {'best' if best else 'last'} weights with twice the"
            " patience"
        )
    return None


def _with_current_name(hint: str, facts: RunFacts) -> str:
    """Replace the run's former names in a stored hint by its current one."""
    for former in facts.labels.value.former_names:
        hint = re.sub(
            rf"(?<![\w.-]){re.escape(former)}(?=@|/config\.toml|`|$)", lambda _: facts.name, hint
        )
    return hint


def _memory_hint(facts: RunFacts, last: int | None) -> str:
    """A hint after running out of memory: start a new run that fits, since a resume would fail
    again."""
    batch = facts.meta.get(MEMORY_BATCH_KEY)
    config = f"--config {shlex.quote(facts.config_path)}"
    if batch:
        start = (
            f"`rnnlm-tui train {config if last is None else f'--from {facts.name}@{last}'} --set"
            f" training.batch_size={batch}` starts a new run that should fit"
        )
    else:
        start = (
            f"`rnnlm-tui train {config} --set …` with a smaller model.hidden_size, model.num_layers"
            " or tokenizer.vocab_size starts a new run that needs less"
        )
    again = "restarts from step 0" if last is None else f"resumes from step {last:,}"
    return f"{start}; `rnnlm-tui resume {facts.name}` {again} once more memory is free"


def _last_saved(facts: RunFacts) -> int | None:
    indexed = [row.step for row in facts.checkpoints]
    return max(
        indexed if facts.newest_on_disk is None else [*indexed, facts.newest_on_disk], default=None
    )


def _diverged(facts: RunFacts) -> bool:
    """Whether the run failed after `max_bad_steps` steps without a finite loss or gradient."""
    newest = facts.recent[-facts.config.training.max_bad_steps :]
    return (
        facts.status == "failed"
        and bool(newest)
        and not any(math.isfinite(row.loss) and math.isfinite(row.grad_norm) for row in newest)
    )


def _message(facts: RunFacts) -> str | None:
    if facts.status == "failed":
        return facts.meta.get("message") or (facts.last_state.text if facts.last_state else None)
    if facts.status == "crashed":
        if facts.last_words:
            return f"its worker failed and could not store why: {facts.last_words}"
        short = facts.meta.get(MEMORY_KEY)
        why = f"maybe because memory ran out: {short}" if short else "or the machine went down"
        return f"its worker was killed, {why}"
    if facts.status == "stalled":
        return _stalled_message(facts)
    if facts.status == "preparing" and facts.meta.get(MEMORY_KEY) and not facts.degraded:
        return facts.meta[MEMORY_KEY]
    if facts.degraded and facts.status in LIVING:
        return (
            f"it keeps training, {_durable(facts)}; {facts.degraded}"
            if facts.status == "degraded"
            else f"{_durable(facts)}; {facts.degraded}"
        )
    if facts.status in LIVING and facts.meta.get(DEVICE_KEY):
        return facts.meta[DEVICE_KEY]
    patience = _ended_by_patience(facts)
    if patience is not None:
        best = facts.evaluations.best_step
        which = "" if best is None else f"; best at step {best:,}"
        return (
            f"stopped early: {counted(patience.waited, 'evaluation')} without a better validation"
            f" loss{which}"
        )
    if facts.status == "lost":
        return (
            f"its worker ran on {facts.meta.get('host', 'another host')}, which has not been heard"
            " from since"
        )
    return None


def _durable(facts: RunFacts) -> str:
    """What is already on disk if the worker should die."""
    last = _last_saved(facts)
    rows = f"metrics up to step {facts.recent[-1].step:,}" if facts.recent else "no metrics"
    return (
        f"on disk: {rows} and"
        f" {'no checkpoint' if last is None else f'the checkpoint of step {last:,}'}"
    )


def _steps_left(facts: RunFacts) -> bool:
    """Whether the run has not reached its maximum number of steps."""
    max_steps = facts.number("max_steps")
    return max_steps is not None and bool(facts.recent) and facts.recent[-1].step < max_steps
