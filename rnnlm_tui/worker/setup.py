"""Build one attempt's TrainingRun: model, weights or checkpoint, batches, trainer and all that
watches it.

Checks before a resume: same data, same settings and, in exact mode, the same environment.

The environment that each checkpoint records: what numbers depend on besides config and data.

The versions that attempts and checkpoints record, read without importing the packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import JsonValue
from tokenizers import Tokenizer

from rnnlm_tui import __version__
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
from rnnlm_tui.engine.checkpoint import load_training_state, load_weights
from rnnlm_tui.engine.device import (
    cuda_versions,
    describe,
    instructions,
    processor,
    seed_everything,
)
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import (
    CheckpointError,
    CorpusError,
    InputError,
    TokenizerError,
    UnknownCheckpointError,
    UnknownRunError,
)
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import baseline_key, effective_settings
from rnnlm_tui.schema.estimates import check_warmup, planned_warmup, total_steps, warmup_note
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.protocol import SETTINGS_KEY
from rnnlm_tui.schema.status import (
    CORPUS_HASH_KEY,
    CORPUS_LAYOUT_KEY,
    CORPUS_NOTES_KEY,
    MEMORY_BATCH_KEY,
    MEMORY_KEY,
    REHEARSED_KEY,
)
from rnnlm_tui.store.manifest import Manifest, read_manifest, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import run_named
from rnnlm_tui.store.verify import resolve_checkpoint
from rnnlm_tui.system.files import storage_errors
from rnnlm_tui.system.host import usable_cores
from rnnlm_tui.system.locks import host_name
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.worker.attempt import Attempt
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from rnnlm_tui.worker.checkpointing import Checkpointer
from rnnlm_tui.worker.evaluation import Evaluator
from rnnlm_tui.worker.guards import KNOWN_STEPS, LossGuard
from rnnlm_tui.worker.heartbeat import DeviceProbe
from rnnlm_tui.worker.loop import TrainingRun
from rnnlm_tui.worker.memory import MemoryBudget
from rnnlm_tui.worker.recorder import StepMetrics

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers")


def versions() -> dict[str, str]:
    """Versions of Python, this program and its numeric packages, by name."""
    return {
        "python": platform.python_version(),
        "rnnlm_tui": __version__,
        **{name: version(name) for name in PACKAGES},
    }


NOT_COMPARED = ("host", "tokenizers", "safetensors", "transformers")
"""Recorded but never compared. A machine is its processor and versions, not its name; the output of
these packages is on disk, under hashes."""
SAME_ARITHMETIC = frozenset({"0.1.0"})
"""Earlier versions of rnnlm-tui that compute the same bits as this one."""
KERNEL_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_CORETYPE",
)
"""Variables that select kernels; kernels round differently."""
GPU_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE")


def environment(trainer: Trainer, *, deterministic: bool) -> dict[str, str | int | bool]:
    """Names and values; for a bit-for-bit resume all but `NOT_COMPARED` must be equal."""
    device = trainer.device
    variables = KERNEL_VARIABLES + (GPU_VARIABLES if device.type == "cuda" else ())
    return {
        "device": str(device),
        "processor": processor(device),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        "deterministic": deterministic,
        "matmul": trainer.matmul.mode,
        **versions(),
        "cuda": cuda_versions(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "variables": " ".join(
            f"{name}={os.environ[name]}" for name in variables if name in os.environ
        ),
        "host": host_name(),
    }


CORPUS_KEY, TOKENIZER_KEY, RUN_SETTINGS_KEY, ENVIRONMENT_KEY = (
    "corpus_hash",
    "tokenizer_hash",
    "settings",
    "environment",
)
"""Keys of a checkpoint manifest's facts that a resume is checked against."""
FREE_SETTINGS = frozenset(
    {"device", "threads", "deterministic", "matmul", "cuda_graphs", "max_bad_steps", "patience"}
)
"""Of the section `training`: fields that the environment covers, or that only decide when a run
ends early."""
_SHOWN_DIGITS = 16


def resume_facts(
    config: RunConfig, corpus: PreparedCorpus, here: Mapping[str, str | int | bool]
) -> dict[str, object]:
    """The facts that a checkpoint's manifest records for a later resume; `here` is the
    environment."""
    return {
        CORPUS_KEY: corpus.manifest.hash,
        TOKENIZER_KEY: _tokenizer_hash(corpus),
        RUN_SETTINGS_KEY: settings(config),
        ENVIRONMENT_KEY: dict(here),
    }


def settings(config: RunConfig) -> dict[str, JsonValue]:
    """The config fields that define a run, by dotted path: with another value it would be another
    run."""
    sections: dict[str, Mapping[str, object]] = {
        **effective_settings(config.corpus, config.tokenizer),
        "model": config.model.model_dump(mode="json"),
        "optimizer": config.optimizer.model_dump(mode="json"),
        "schedule": config.schedule.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json", exclude=set(FREE_SETTINGS)),
    }
    flat = {
        f"{section}.{name}": value
        for section, values in sections.items()
        for name, value in values.items()
    }
    found: dict[str, JsonValue] = json.loads(json.dumps(flat))  # as a manifest returns them
    return found


def check_settings(run: RunDirectory, manifest: Manifest, config: RunConfig) -> None:
    """Refuse to resume with settings that differ from the checkpoint's.

    Raises:
        InputError: every field that differs, with both values.
    """
    if RUN_SETTINGS_KEY not in manifest.facts:
        return
    now = settings(config)
    usual = {
        name: value for name, value in settings(RunConfig()).items() if name in now
    }  # for fields that the checkpoint's version did not have
    found = _differences({**usual, **_recorded(manifest, RUN_SETTINGS_KEY)}, now)
    if found:
        raise InputError(
            f"the config has changed since step {manifest.step:,}: {'; '.join(found)}"
            f" ({run.config_path})",
            hint=(
                "restore the old values and resume, or start a new run from its weights: rnnlm-tui"
                f" train --from {run.name}@{manifest.step} --set KEY=VALUE"
            ),
        )


def trained_on(manifest: Manifest) -> str | None:
    """Hash of the corpus that a checkpoint was trained on; None: not recorded."""
    known = manifest.facts.get(CORPUS_KEY)
    return known if isinstance(known, str) else None


def check_data(run: RunDirectory, manifest: Manifest, corpus: PreparedCorpus) -> None:
    """Refuse to resume with another text or tokenizer than the checkpoint's.

    Raises:
        CorpusError, TokenizerError: with both hashes.
    """
    ways = (
        "restore it and resume, or start a new run from the weights: rnnlm-tui train --from"
        f" {run.name}@{manifest.step}"
    )
    known, source, now = (
        manifest.facts.get(CORPUS_KEY),
        corpus.manifest.corpus.source,
        _tokenizer_hash(corpus),
    )
    if known not in (None, corpus.manifest.hash, corpus.former_hash or None):
        raise CorpusError(
            f"the corpus {_changed(known, corpus.manifest.hash, manifest.step)} ({source})",
            hint=ways,
        )
    known = manifest.facts.get(TOKENIZER_KEY)
    if known not in (None, now):
        raise TokenizerError(
            f"the tokenizer {_changed(known, now, manifest.step)} ({corpus.path / TOKENIZER_NAME})",
            hint=ways,
        )


def check_environment(
    run: RunDirectory, manifest: Manifest, here: Mapping[str, str | int | bool]
) -> str:
    """The differences from the checkpoint's environment, for the run's log; empty: none, the resume
    is bit for bit.

    Raises:
        InputError: there are differences and the run is in exact mode; the message lists all.
    """
    then = {
        name: value
        for name, value in _recorded(manifest, ENVIRONMENT_KEY).items()
        if name not in NOT_COMPARED
    }
    now = {name: value for name, value in here.items() if name not in NOT_COMPARED}
    if then.get("rnnlm_tui") in SAME_ARITHMETIC:
        del then["rnnlm_tui"], now["rnnlm_tui"]
    found = _differences(then, now)
    if not found:
        return ""
    if not here["deterministic"]:
        return f"resumed within rounding error, not bit for bit: {'; '.join(found)}"
    names = [name for name in now if then.get(name) != now[name]]
    threads = (
        f" (threads = {then['threads']} under [training])"
        if "threads" in names and "threads" in then
        else ""
    )
    raise InputError(
        f"exact mode: the environment differs: {'; '.join(found)}; {run.name} is at step"
        f" {manifest.step:,}",
        hint=(
            f"restore {', '.join(names)}{threads}; or accept rounding differences: deterministic ="
            f" false under [training] in {run.config_path}; then rnnlm-tui resume {run.name}"
        ),
    )


def _recorded(manifest: Manifest, key: str) -> Mapping[str, JsonValue]:
    found = manifest.facts.get(key)
    return found if isinstance(found, dict) else {}


def _differences(then: Mapping[str, JsonValue], now: Mapping[str, object]) -> list[str]:
    """`threads was 1, is 2` for each name whose value differs."""
    return [
        f"{name} was {_shown(then, name)}, is {_shown(now, name)}"
        for name in {**now, **then}
        if _shown(then, name) != _shown(now, name)
    ]


def _shown(values: Mapping[str, object], name: str) -> str:
    if name not in values:
        return "not recorded"
    value = values[name]
    return (
        "empty"
        if value in (None, "")
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _changed(then: JsonValue, now: str, step: int) -> str:
    return (
        f"has changed since step {step:,}: its hash was {str(then)[:_SHOWN_DIGITS]}, it is"
        f" {now[:_SHOWN_DIGITS]}"
    )


def _tokenizer_hash(corpus: PreparedCorpus) -> str:
    path = corpus.path / TOKENIZER_NAME
    with storage_errors("read", path):
        return hashlib.sha256(path.read_bytes()).hexdigest()


WARMUP_FACT = "warmup_steps"
"""Manifest key of the run's warm-up steps, which may be fewer than the preset's."""


def watch_gpu(device: torch.device, probe: MachineReader) -> None:
    """Let the probe read the device that trains, unless it is the CPU."""
    if device.type != "cpu":
        probe.watch_card(DeviceProbe(device))


def assemble(attempt: Attempt, corpus: PreparedCorpus, device: torch.device) -> TrainingRun:
    """A run that is ready to train from its start step.

    Raises:
        DeviceError: out of memory for the model or its largest step.
        InputError: the corpus, the tokenizer, a setting or, in exact mode, the environment differs
            from the checkpoint's.
        ConfigError: the warm-up is as long as the run.
        CheckpointError: the checkpoint or the parent's weights don't fit this config.
    """
    config, recorder = attempt.config, attempt.recorder
    saved = None if attempt.checkpoint is None else read_manifest(attempt.checkpoint)
    if saved is not None:
        check_settings(attempt.run, saved, config)
        check_data(attempt.run, saved, corpus)
    budget = _memory_budget(attempt, corpus, device)
    with RunReader(attempt.run) as reader:
        meta = reader.meta()
        evaluations = reader.evaluations()
        newest = reader.recent_steps(KNOWN_STEPS)
    parent = meta.get("parent")
    attempt.enter("building")
    with budget.building():
        model = build_model(config, corpus)
        if attempt.checkpoint is None and parent:
            _load_parent(attempt, parent, model, corpus.path)
        model.to(device)
        batches = build_batches(config, corpus)
        trainer = build_trainer(
            config,
            model,
            batches,
            warmup=_warmup(attempt, saved, total_steps(config, batches.steps_per_epoch)),
        )
    seed_everything(config.training.seed)
    here = environment(trainer, deterministic=config.training.deterministic)
    facts = {
        "preset": config.preset,
        WARMUP_FACT: trainer.warmup_steps,
        **resume_facts(config, corpus, here),
    }
    if attempt.checkpoint is not None and saved is not None:
        different = check_environment(attempt.run, saved, here)
        with budget.building():
            load_training_state(attempt.checkpoint, trainer)
        if different:
            attempt.note(trainer.step, different)
    _describe(attempt, corpus, trainer, device)
    for remark in corpus.manifest.all_notes if attempt.number == 1 else ():
        attempt.note(trainer.step, remark)
    recorder.set_meta(REHEARSED_KEY, str(budget.rehearse(trainer, attempt.enter)))
    recorder.set_meta(MEMORY_KEY, "")
    guard = LossGuard(config.training.max_bad_steps, newest)
    metrics = StepMetrics(
        recorder.add_steps,
        attempt.number,
        observe=guard.add,
        active_seconds=trainer.active_seconds,
        asynchronous=device.type != "cpu",
    )
    before = parent if attempt.checkpoint is None else attempt.checkpoint.name
    checkpointer = Checkpointer(
        attempt, trainer, metrics, tokenizer_files=corpus.path, facts=facts, parent=before
    )
    checkpointer.require_space()
    evaluator = Evaluator(
        attempt,
        trainer,
        metrics,
        checkpointer,
        budget,
        corpus=corpus,
        codec=TextCodec(corpus.path),
        before=evaluations,
    )
    settings = json.loads(meta.get(SETTINGS_KEY, "{}"))
    return TrainingRun(
        attempt, trainer, metrics, checkpointer, evaluator, guard, budget, settings=settings
    )


def _memory_budget(attempt: Attempt, corpus: PreparedCorpus, device: torch.device) -> MemoryBudget:
    """The attempt's memory. Warn now if it may be short: an out-of-memory killer leaves no
    message."""
    train = corpus.manifest.splits["train"]
    budget = MemoryBudget(
        attempt.run.name,
        attempt.config,
        device,
        vocab_size=corpus.vocab_size,
        sentences=train.sentences,
        tokens=train.tokens,
    )
    warning = budget.warning()
    attempt.recorder.set_meta(
        MEMORY_BATCH_KEY, str(budget.largest_fitting_batch() or "") if warning else ""
    )
    attempt.recorder.set_meta(MEMORY_KEY, warning)
    if warning:
        attempt.note(
            0 if attempt.checkpoint is None else read_manifest(attempt.checkpoint).step, warning
        )
    return budget


def _warmup(attempt: Attempt, saved: Manifest | None, steps: int) -> int:
    """Warm-up steps, checked before the first step; a resumed run keeps those that it started
    with."""
    config = attempt.config
    if saved is not None:
        started_with = saved.facts.get(WARMUP_FACT)
        return started_with if isinstance(started_with, int) else config.schedule.warmup_steps
    check_warmup(config, steps)
    if words := warmup_note(config, steps):
        attempt.note(0, words)
    return planned_warmup(config, steps)


def _load_parent(
    attempt: Attempt, parent: str, model: RecurrentLanguageModel, tokenizer_files: Path
) -> None:
    checkpoint = parent_checkpoint(parent)
    theirs, ours = _vocabulary(checkpoint), _vocabulary(tokenizer_files)
    if theirs != ours:
        raise CheckpointError(
            f"{parent} and this corpus have different vocabularies ({counted(len(theirs), 'type')}"
            f" and {len(ours):,})",
            hint=(
                "use its corpus and tokenizer, or set tokenizer.kind=pretrained and"
                f" tokenizer.name={checkpoint}"
            ),
        )
    try:
        load_weights(checkpoint, model)
    except CheckpointError as error:
        raise CheckpointError(
            f"{parent} doesn't fit this config: {error.message}",
            hint="use the parent's values in the model section",
        ) from error
    attempt.note(0, f"starts from the weights of {parent}")


def parent_checkpoint(parent: str) -> Path:
    """The verified checkpoint that `run@step` names; the run's name must match exactly.

    Raises:
        UnknownCheckpointError: the run or the checkpoint is gone; lists those that exist.
        CheckpointError: it is damaged.
    """
    name, _, which = parent.partition("@")
    try:
        checkpoint = resolve_checkpoint(run_named(name), which or "last")
    except (UnknownRunError, UnknownCheckpointError) as error:
        raise UnknownCheckpointError(
            f"this run starts from the weights of {parent}, which are gone: {error.message}",
            hint=error.hint,
        ) from error
    verify_checkpoint(checkpoint)
    return checkpoint


def _vocabulary(folder: Path) -> dict[str, int]:
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    return dict(tokenizer.get_vocab(with_added_tokens=True))


def _describe(
    attempt: Attempt, corpus: PreparedCorpus, trainer: Trainer, device: torch.device
) -> None:
    """Store the facts that readers show of a run before its first step."""
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
        "parameters": trainer.model.num_parameters(),
        "vocab_size": corpus.vocab_size,
        "corpus_title": manifest.title,
        CORPUS_HASH_KEY: manifest.hash,
        CORPUS_NOTES_KEY: json.dumps(manifest.all_notes),
        CORPUS_LAYOUT_KEY: manifest.layout,
        "eos_text": manifest.eos_text,
        "baseline_loss": manifest.bigram.get(baseline_key("test", *mode)),
        "baseline_validation_loss": manifest.bigram.get(baseline_key("validation", *mode)),
        # Sentence mode doesn't predict a sentence's first word, so the source's entropy is no lower
        # bound of its loss.
        "source_loss": manifest.source_loss if training.data_mode == "stream" else None,
    }
    for key, value in facts.items():
        if value is not None:
            attempt.recorder.set_meta(key, str(value))
    if trainer.matmul.speedup is not None:
        attempt.note(trainer.step, str(trainer.matmul))
