"""Puts one attempt's TrainingRun together: device, corpus, model, the weights or the checkpoint it goes on from."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from rnnlm_tui.contract.commands import SETTINGS_KEY
from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.corpora import baseline_key
from rnnlm_tui.contract.estimates import check_warmup, planned_warmup, total_steps, warmup_note
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.metrics import EventRow, Phase, Progress
from rnnlm_tui.contract.status import CORPUS_HASH_KEY, CORPUS_LAYOUT_KEY, CORPUS_NOTES_KEY, MEMORY_BATCH_KEY, MEMORY_KEY, REHEARSED_KEY
from rnnlm_tui.corpus.text import TextCodec
from rnnlm_tui.corpus.token_store import PreparedCorpus
from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
from rnnlm_tui.engine.checkpoint import load_training_state, load_weights
from rnnlm_tui.engine.device import describe, seed_everything
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import CheckpointError, UnknownCheckpointError, UnknownRunError
from rnnlm_tui.store.checkpoints import resolve_checkpoint
from rnnlm_tui.store.cores import usable_cores
from rnnlm_tui.store.manifest import Manifest, read_manifest, verify_checkpoint
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import run_named
from rnnlm_tui.supervisor.machine_reader import MachineReader
from rnnlm_tui.worker.accelerator import DeviceProbe
from rnnlm_tui.worker.building import build_batches, build_model, build_trainer
from rnnlm_tui.worker.commands import Steering
from rnnlm_tui.worker.environment import environment
from rnnlm_tui.worker.evaluating import Evaluator
from rnnlm_tui.worker.guards import KNOWN_STEPS, LossGuard
from rnnlm_tui.worker.inbox import Inbox
from rnnlm_tui.worker.records import Records
from rnnlm_tui.worker.reporter import Reporter
from rnnlm_tui.worker.resuming import check_data, check_environment, check_settings, resume_facts
from rnnlm_tui.worker.room import Room
from rnnlm_tui.worker.saving import Saver
from rnnlm_tui.worker.training import TrainingRun

WARMUP_FACT = "warmup_steps"
"""Manifest key of the run's warm-up steps, which may be fewer than the preset's."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt has at hand before anything heavy is imported."""

    run: RunDirectory
    config: RunConfig
    records: Records
    number: int
    checkpoint: Path | None
    """The newest valid checkpoint, from which it goes on."""
    inbox: Inbox
    steering: Steering

    def note(self, step: int, text: str) -> None:
        """Add a fact to the run's log."""
        self.records.add_event(EventRow(self.number, step, "note", text, time.time()))

    def enter(self, phase: Phase) -> None:
        """Say what is done before the first step: it may take minutes."""
        self.records.set_progress(Progress(phase))


def watch(device: torch.device, probe: MachineReader) -> None:
    """Let the probe read the device that trains as well, where that is not the processor."""
    if device.type != "cpu":
        probe.watch_card(DeviceProbe(device))


def assemble(attempt: Attempt, corpus: PreparedCorpus, device: torch.device) -> TrainingRun:
    """The run, ready to train from its start step.

    Raises:
        DeviceError: memory can't hold the model or its largest step.
        InputError: the corpus, the tokenizer or a setting is not what the checkpoint was made with, or exact mode is in another environment.
        ConfigError: the user's warm-up is as long as the run.
        CheckpointError: the checkpoint or the parent's weights don't fit this config.
    """
    config, records = attempt.config, attempt.records
    saved = None if attempt.checkpoint is None else read_manifest(attempt.checkpoint)
    if saved is not None:
        check_settings(attempt.run, saved, config)
        check_data(attempt.run, saved, corpus)
    room = _room(attempt, corpus, device)
    with RunReader(attempt.run) as reader:
        meta = reader.meta()
        evaluations = reader.evaluations()
        newest = reader.recent_steps(KNOWN_STEPS)
    parent = meta.get("parent")
    attempt.enter("building")
    with room.building():
        model = build_model(config, corpus)
        if attempt.checkpoint is None and parent:
            _load_parent(attempt, parent, model, corpus.path)
        model.to(device)
        batches = build_batches(config, corpus)
        trainer = build_trainer(config, model, batches, warmup=_warmup(attempt, saved, total_steps(config, batches.steps_per_epoch)))
    seed_everything(config.training.seed)
    here = environment(trainer, deterministic=config.training.deterministic)
    facts = {"preset": config.preset, WARMUP_FACT: trainer.warmup_steps, **resume_facts(config, corpus, here)}
    if attempt.checkpoint is not None and saved is not None:
        different = check_environment(attempt.run, saved, here)
        with room.building():
            load_training_state(attempt.checkpoint, trainer)
        if different:
            attempt.note(trainer.step, different)
    _describe(attempt, corpus, model, trainer, device)
    for remark in corpus.manifest.all_notes if attempt.number == 1 else ():
        attempt.note(trainer.step, remark)
    records.set_meta(REHEARSED_KEY, str(room.rehearse(trainer, attempt.enter)))
    records.set_meta(MEMORY_KEY, "")
    evaluator = Evaluator(
        config=config,
        corpus=corpus,
        codec=TextCodec(corpus.path),
        model=model,
        records=records,
        attempt=attempt.number,
        check_stop=attempt.inbox.check_stop,
    )
    before = parent if attempt.checkpoint is None else attempt.checkpoint.name
    saver = Saver(attempt.run, config, records, attempt.number, tokenizer_files=corpus.path, facts=facts, parent=before)
    saver.require_space(trainer)
    guard = LossGuard(config.training.max_bad_steps, newest)
    reporter = Reporter(records.add_steps, attempt.number, observe=guard.take, active_seconds=trainer.active_seconds, asynchronous=device.type != "cpu")
    return TrainingRun(
        config,
        records,
        attempt.number,
        inbox=attempt.inbox,
        steering=attempt.steering,
        trainer=trainer,
        reporter=reporter,
        evaluator=evaluator,
        saver=saver,
        guard=guard,
        room=room,
        settings=json.loads(meta.get(SETTINGS_KEY, "{}")),
        saved_path="" if attempt.checkpoint is None else str(attempt.checkpoint.relative_to(attempt.run.path)),
        evaluations=evaluations,
    )


def _room(attempt: Attempt, corpus: PreparedCorpus, device: torch.device) -> Room:
    """The attempt's memory; that it may be short is said now, for a system that runs out of it kills without a word."""
    train = corpus.manifest.splits["train"]
    room = Room(attempt.run.name, attempt.config, device, vocab_size=corpus.vocab_size, sentences=train.sentences, tokens=train.tokens)
    warning = room.warning()
    attempt.records.set_meta(MEMORY_BATCH_KEY, str(room.largest_fitting_batch() or "") if warning else "")
    attempt.records.set_meta(MEMORY_KEY, warning)
    if warning:
        attempt.note(0 if attempt.checkpoint is None else read_manifest(attempt.checkpoint).step, warning)
    return room


def _warmup(attempt: Attempt, saved: Manifest | None, steps: int) -> int:
    """Warm-up steps of this run, checked before its first step; a resumed run keeps the warm-up that it started with."""
    config = attempt.config
    if saved is not None:
        started_with = saved.facts.get(WARMUP_FACT)
        return started_with if isinstance(started_with, int) else config.schedule.warmup_steps
    check_warmup(config, steps)
    if words := warmup_note(config, steps):
        attempt.note(0, words)
    return planned_warmup(config, steps)


def _load_parent(attempt: Attempt, parent: str, model: RecurrentLanguageModel, tokenizer_files: Path) -> None:
    checkpoint = parent_checkpoint(parent)
    theirs, ours = _vocabulary(checkpoint), _vocabulary(tokenizer_files)
    if theirs != ours:
        raise CheckpointError(
            f"{parent} has another vocabulary ({counted(len(theirs), 'type')}) than this corpus ({len(ours):,})",
            hint=f"keep its corpus and tokenizer, or set tokenizer.kind=pretrained and tokenizer.name={checkpoint}",
        )
    try:
        load_weights(checkpoint, model)
    except CheckpointError as error:
        raise CheckpointError(f"{parent} has another shape than this config: {error.message}", hint="give the model section the parent's values") from error
    attempt.note(0, f"starts from the weights of {parent}")


def parent_checkpoint(parent: str) -> Path:
    """The verified checkpoint that `run@step` names: a run of exactly this name, or none.

    Raises:
        UnknownCheckpointError: the run or its checkpoint is not there any more, with the checkpoints that are.
        CheckpointError: it is damaged.
    """
    name, _, which = parent.partition("@")
    try:
        checkpoint = resolve_checkpoint(run_named(name), which or "last")
    except (UnknownRunError, UnknownCheckpointError) as error:
        raise UnknownCheckpointError(f"this run starts from the weights of {parent}, which are gone: {error.message}", hint=error.hint) from error
    verify_checkpoint(checkpoint)
    return checkpoint


def _vocabulary(folder: Path) -> dict[str, int]:
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    return dict(tokenizer.get_vocab(with_added_tokens=True))


def _describe(attempt: Attempt, corpus: PreparedCorpus, model: RecurrentLanguageModel, trainer: Trainer, device: torch.device) -> None:
    """What readers want to know of the run before its first step."""
    manifest, training = corpus.manifest, attempt.config.training
    mode = (training.data_mode, training.context_length)
    facts: dict[str, object] = {
        "device": describe(device),
        "matmul": trainer.matmul.mode,
        "precision": trainer.precision,
        "threads": torch.get_num_threads(),
        "cores": usable_cores(),
        "max_steps": trainer.max_steps,
        "steps_per_epoch": trainer.batches.steps_per_epoch,
        "epochs": trainer.max_steps / trainer.batches.steps_per_epoch,
        "parameters": model.num_parameters(),
        "vocab_size": corpus.vocab_size,
        "corpus_title": manifest.title,
        CORPUS_HASH_KEY: manifest.hash,
        CORPUS_NOTES_KEY: json.dumps(manifest.all_notes),
        CORPUS_LAYOUT_KEY: manifest.layout,
        "eos_text": manifest.eos_text,
        "baseline_loss": manifest.bigram.get(baseline_key("test", *mode)),
        "baseline_validation_loss": manifest.bigram.get(baseline_key("validation", *mode)),
        # A sentence's first word is not predicted in sentence mode, so the source's entropy is no floor of that loss.
        "source_loss": manifest.source_loss if training.data_mode == "stream" else None,
    }
    for key, value in facts.items():
        if value is not None:
            attempt.records.set_meta(key, str(value))
    if trainer.matmul.speedup is not None:
        attempt.note(trainer.step, str(trainer.matmul))
