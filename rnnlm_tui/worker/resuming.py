"""Checks before a resume: same data, same settings and, in exact mode, the same environment.

The data is checked wherever a run's text is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from shlex import quote

import torch
from pydantic import JsonValue

from rnnlm_tui.corpus.build import ProgressCallback
from rnnlm_tui.corpus.corpus import PreparedCorpus, prepare_corpus
from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
from rnnlm_tui.engine.device import cuda_versions, instructions, processor
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import CorpusError, InputError, TokenizerError
from rnnlm_tui.schema.config import RunConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import effective_settings
from rnnlm_tui.store.lineage import KEPT_BY_FORKS
from rnnlm_tui.store.manifest import Manifest
from rnnlm_tui.store.paths import RunDirectory, corpora_dir
from rnnlm_tui.system.files import storage_errors
from rnnlm_tui.system.locks import host_name
from rnnlm_tui.worker.parent import prepare_for_start
from rnnlm_tui.worker.recorder import versions

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
CORPUS_KEY = "corpus_hash"
TOKENIZER_KEY = "tokenizer_hash"
RUN_SETTINGS_KEY = "settings"
ENVIRONMENT_KEY = "environment"
"""Keys of a checkpoint manifest's facts that a resume is checked against."""
FREE_SETTINGS = frozenset(
    {"device", "accumulate", "threads", "deterministic", "matmul", "max_bad_steps", "patience"}
)
"""Of the section `training`: fields that the environment covers, or that only decide when a run
ends early."""
_SHOWN_DIGITS = 16


def environment(trainer: Trainer, *, deterministic: bool) -> dict[str, str | int | bool]:
    """Names and values; for a bit-for-bit resume all but `NOT_COMPARED` must be equal."""
    device = trainer.device
    variables = KERNEL_VARIABLES + (GPU_VARIABLES if device.type == "cuda" else ())
    return {
        "device": str(device),
        "processor": processor(device),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        "processes": 1 if trainer.ranks is None else trainer.ranks.size,
        "accumulate": trainer.accumulate,
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
    # For fields that the checkpoint's version did not have.
    usual = {name: value for name, value in settings(RunConfig()).items() if name in now}
    found = _differences({**usual, **_recorded(manifest, RUN_SETTINGS_KEY)}, now)
    if found:
        fitting = not any(one.startswith(KEPT_BY_FORKS) for one in found)
        start = (
            f"from its weights: rnnlm-tui train --from {run.name}@{manifest.step}"
            if fitting
            else f"from initial weights: rnnlm-tui train --config {quote(str(run.config_path))}"
        )
        raise InputError(
            f"the config has changed since step {manifest.step:,}: {'; '.join(found)}"
            f" ({run.config_path})",
            hint=f"restore the old values and resume, or start a new run {start}",
        )


def prepare_text(
    run: RunDirectory,
    config: RunConfig,
    checkpoint: Manifest | None,
    progress: ProgressCallback,
    known: Callable[[str], None] | None = None,
) -> PreparedCorpus:
    """Prepare a run's text, which must be the one that its checkpoint was trained on.

    Args:
        checkpoint: of this run; None: it has none yet.
        progress, known: as of `prepare_corpus`.

    Raises:
        CorpusError, TokenizerError: it has changed since, or can't be prepared.
        StorageError: the corpora folder can't be written.
    """

    def prepare(tokenizer: TokenizerConfig) -> PreparedCorpus:
        return prepare_corpus(
            config.corpus,
            tokenizer,
            config.training,
            corpora_dir(),
            progress,
            known,
        )

    with storage_errors("build the corpus in", corpora_dir()):
        corpus = prepare_for_start(run, config, prepare)
    if checkpoint is not None:
        check_data(run, checkpoint, corpus)
    return corpus


def check_data(run: RunDirectory, manifest: Manifest, corpus: PreparedCorpus) -> None:
    """Refuse another text or tokenizer than the checkpoint's.

    Raises:
        CorpusError, TokenizerError: with both hashes.
    """
    ways = (
        "restore it, or start a new run from the weights: rnnlm-tui train --from"
        f" {run.name}@{manifest.step}"
    )
    known = manifest.facts.get(CORPUS_KEY)
    source = corpus.manifest.corpus.source
    now = _tokenizer_hash(corpus)
    if known not in (None, corpus.manifest.hash):
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
    before_ranks = {"processes": 1, "accumulate": 1}  # earlier versions didn't record them
    then = {
        name: value
        for name, value in (before_ranks | {**_recorded(manifest, ENVIRONMENT_KEY)}).items()
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
    device = (
        f" (rnnlm-tui resume {run.name} --device {then['device']})"
        if "device" in names and "device" in then
        else ""
    )
    raise InputError(
        f"exact mode: the environment differs: {'; '.join(found)}; {run.name} is at step"
        f" {manifest.step:,}",
        hint=(
            f"restore {', '.join(names)}{threads}{device}; or accept rounding differences:"
            f" deterministic = false under [training] in {run.config_path};"
            f" then rnnlm-tui resume {run.name}"
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
