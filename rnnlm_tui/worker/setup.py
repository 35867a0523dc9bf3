"""Build one attempt's TrainingRun: model, weights or checkpoint, trainer and its watchers."""

from __future__ import annotations

import torch

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.checkpoint import load_optimizer_state, load_training_state
from rnnlm_tui.engine.device import describe
from rnnlm_tui.engine.distributed import Ranks
from rnnlm_tui.engine.padded_loss import kernel_note
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.estimates import planned_warmup, total_steps, warmup_note
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.presets import has_prompts_of_another_text
from rnnlm_tui.store.lineage import PARENT_FOLDER
from rnnlm_tui.store.manifest import Manifest, read_manifest
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.machine import usable_cores
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from rnnlm_tui.worker.checkpointing import Checkpointer
from rnnlm_tui.worker.evaluation import Evaluator
from rnnlm_tui.worker.guards import KNOWN_STEPS, LossGuard
from rnnlm_tui.worker.loop import TrainingRun
from rnnlm_tui.worker.memory import MemoryBudget
from rnnlm_tui.worker.parent import find_start, load_parent
from rnnlm_tui.worker.recorder import Attempt
from rnnlm_tui.worker.resuming import check_environment, environment, resume_facts
from rnnlm_tui.worker.session import Session
from rnnlm_tui.worker.steering import Steering
from rnnlm_tui.worker.step_metrics import StepMetrics

WARMUP_FACT = "warmup_steps"
"""Manifest key of the run's warm-up steps, which may be fewer than the config's."""


def assemble(
    attempt: Attempt, corpus: PreparedCorpus, device: torch.device, ranks: Ranks | None = None
) -> TrainingRun:
    """A run that is ready to train from its start step.

    Args:
        ranks: the processes that share each batch; None: this one is alone.

    Raises:
        DeviceError: out of memory for the model or its largest step.
        InputError: in exact mode, the environment differs from the checkpoint's.
        CheckpointError: the checkpoint or the parent's weights don't fit this config.
    """
    config, recorder = attempt.config, attempt.recorder
    saved = None if attempt.checkpoint is None else read_manifest(attempt.checkpoint)
    processes, step = 1 if ranks is None else ranks.size, 0 if saved is None else saved.step
    budget = _memory_budget(attempt, step, corpus, device, processes)
    with RunReader(attempt.run) as reader:
        evaluations = reader.evaluations()
        changes = reader.changes()
        newest = reader.recent_steps(KNOWN_STEPS)
        health = reader.health()
    attempt.enter("building")
    with budget.building():
        model = build_model(config, corpus)
        parent = find_start(attempt.run) if attempt.checkpoint is None else None
        if parent is not None:
            load_parent(attempt, parent, model, corpus.path)
        model.to(device)
        batches = build_batches(config, corpus)
        trainer = build_trainer(
            config,
            model,
            batches,
            warmup=_warmup(attempt, saved, total_steps(config, batches.steps_per_epoch)),
            ranks=ranks,
        )
        if parent is not None and parent.optimizer == "keep":
            load_optimizer_state(attempt.run.path / PARENT_FOLDER, trainer)
    torch.manual_seed(config.training.seed)
    here = environment(trainer, deterministic=config.training.deterministic)
    facts = {
        "preset": config.preset,
        WARMUP_FACT: trainer.schedule.warmup_steps,
        **resume_facts(config, corpus, here),
    }
    if attempt.checkpoint is not None and saved is not None:
        different = check_environment(attempt.run, saved, here)
        with budget.building():
            load_training_state(attempt.checkpoint, trainer)
        if different:
            attempt.note(trainer.step, different)
    _describe(attempt, corpus, trainer, device)
    if attempt.number == 1:
        for remark in corpus.manifest.all_notes:
            attempt.note(trainer.step, remark)
        if has_prompts_of_another_text(config):
            attempt.note(
                trainer.step, "samples continue the text's own beginnings, not the preset's"
            )
    recorder.add(
        Facts(rehearsed_seconds=budget.rehearse(trainer, attempt.enter), memory_warning="")
    )
    guard = LossGuard(config.training.max_bad_steps, attempt.event, newest)
    metrics = StepMetrics(
        recorder.add,
        attempt.number,
        observe=guard.add,
        active_seconds=trainer.active_seconds,
        asynchronous=device.type != "cpu",
    )
    session = Session(attempt, trainer, corpus, budget, guard, metrics, evaluations, health)
    before = None if parent is None else parent.address
    checkpointer = Checkpointer(
        session,
        facts=facts,
        parent=before if attempt.checkpoint is None else attempt.checkpoint.name,
    )
    checkpointer.require_space()
    evaluator = Evaluator(session, checkpointer, TextCodec(corpus.path))
    steering = Steering(session, checkpointer, evaluator, journal=changes)
    return TrainingRun(session, checkpointer, evaluator, steering)


def _memory_budget(
    attempt: Attempt, step: int, corpus: PreparedCorpus, device: torch.device, processes: int
) -> MemoryBudget:
    """The attempt's memory. Warn now if it may be short: an out-of-memory killer leaves no
    message."""
    budget = MemoryBudget(
        attempt.run.name,
        attempt.config,
        device,
        vocab_size=corpus.manifest.vocab_size,
        sentences=corpus.manifest.splits["train"].sentences,
        processes=processes,
    )
    shortage = budget.shortage()
    attempt.recorder.add(shortage)
    if shortage.memory_warning:
        attempt.note(step, shortage.memory_warning)
    return budget


def _warmup(attempt: Attempt, saved: Manifest | None, steps: int) -> int:
    """Warm-up steps; a resumed run keeps those that it started with."""
    config = attempt.config
    if saved is not None:
        started_with = saved.facts.get(WARMUP_FACT)
        return started_with if isinstance(started_with, int) else config.schedule.warmup_steps
    if words := warmup_note(config, steps):
        attempt.note(0, words)
    return planned_warmup(config, steps)


def _describe(
    attempt: Attempt, corpus: PreparedCorpus, trainer: Trainer, device: torch.device
) -> None:
    """Store the facts that readers show of a run before its first step."""
    manifest, training = corpus.manifest, attempt.config.training
    facts = Facts(
        device=describe(device),
        matmul=trainer.matmul.mode,
        precision=trainer.precision,
        threads=torch.get_num_threads(),
        cores=usable_cores(),
        max_steps=trainer.max_steps,
        steps_per_epoch=trainer.batches.steps_per_epoch,
        epochs=trainer.max_steps / trainer.batches.steps_per_epoch,
        warmup_steps=trainer.schedule.warmup_steps,
        parameters=trainer.model.num_parameters(),
        vocab_size=corpus.manifest.vocab_size,
        corpus_title=manifest.title,
        corpus_hash=manifest.hash,
        corpus_notes=manifest.all_notes,
        corpus_layout=manifest.layout,
        eos_text=manifest.eos_text,
        baseline_loss=manifest.baseline_loss(attempt.config, "test"),
        baseline_validation_loss=manifest.baseline_loss(attempt.config, "validation"),
        # Sentence mode doesn't predict a sentence's first word, so the source's entropy is no lower
        # bound of its loss.
        source_loss=manifest.source_loss if training.data_mode == "stream" else None,
    )
    attempt.recorder.add(facts)
    if trainer.matmul.speedups:
        attempt.note(trainer.step, str(trainer.matmul))
    if words := kernel_note(device):
        attempt.note(trainer.step, words)
