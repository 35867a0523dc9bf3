"""The probe: train a few steps and report time and memory, or the losses at a growing rate.

It is a task of `worker.task`, and leaves no run.
"""

from __future__ import annotations

import math
import os
import sys
import time
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING

from rnnlm_tui import __version__
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import Schedule, config_flops_per_token
from rnnlm_tui.schema.memory import memory_shape
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.protocol import (
    Calibration,
    ProbeDone,
    decode_line,
)
from rnnlm_tui.schema.tuning import DIVERGED, RangeDone, RangeRequest, range_result
from rnnlm_tui.store.paths import corpora_dir
from rnnlm_tui.system.files import storage_errors
from rnnlm_tui.system.locks import host_name
from rnnlm_tui.worker.task import ReportProgress

if TYPE_CHECKING:
    from rnnlm_tui.corpus.corpus import PreparedCorpus
WARM_UP_STEPS = 5
"""Steps before the timed ones: libraries load kernels, memory is allocated."""
PROBE_STEPS = 20
EVALUATED_BATCHES = 2
"""An evaluation may need more memory than a step of a small batch."""
PREPARED = "--prepared"
"""Argument of a probe that has restarted itself, so that memory used to prepare the text doesn't
count."""


def prepare(config: RunConfig, report: ReportProgress) -> tuple[PreparedCorpus, bool]:
    """Prepare the corpus; also returns whether it had to be built.

    Raises:
        RnnlmError: the device, the text or the tokenizer is missing.
    """
    # torch, numpy and tokenizers take seconds to import.
    from rnnlm_tui.corpus.corpus import prepare_corpus
    from rnnlm_tui.worker.build import set_up_torch

    set_up_torch(config)  # first: a missing device should fail before a long preparation
    phases: set[str] = set()

    def advance(progress: Progress) -> None:
        phases.add(progress.phase)
        report(progress.phase, progress.done, progress.total)

    with storage_errors("build the corpus in", corpora_dir()):
        corpus = prepare_corpus(
            config.corpus, config.tokenizer, config.training, corpora_dir(), advance
        )
    return corpus, phases != {"checking"}


def measure(
    config: RunConfig,
    corpus: PreparedCorpus,
    report: ReportProgress,
    *,
    warm_up: int = WARM_UP_STEPS,
    steps: int = PROBE_STEPS,
) -> Calibration:
    """Train `warm_up` steps, then `steps` timed ones, and evaluate a little, as a run would.

    Raises:
        RnnlmError: missing device, text shorter than a batch, out of memory.
    """
    import torch

    from rnnlm_tui.engine.device import describe, wait
    from rnnlm_tui.engine.evaluate import evaluate
    from rnnlm_tui.engine.memory import held_bytes, peak_bytes, reset_peak
    from rnnlm_tui.worker.build import (
        build_batches,
        build_model,
        build_trainer,
        set_up_torch,
        split_batches,
    )

    device = set_up_torch(config)
    reset_peak(device)
    process = held_bytes(device)
    model = build_model(config, corpus).to(device)
    trainer = build_trainer(config, model, build_batches(config, corpus))
    torch.manual_seed(config.training.seed)
    for done in range(warm_up):
        report("warm-up", done, warm_up)
        float(trainer.train_step().loss)
    tokens = trainer.tokens_seen
    began, worked = time.perf_counter(), time.process_time()
    for done in range(steps):
        report("steps", done, steps)
        trainer.train_step()
    wait(device)
    seconds, work = time.perf_counter() - began, time.process_time() - worked
    tokens = trainer.tokens_seen - tokens
    validation = split_batches(config, corpus, "validation", config.evaluation.max_sentences)
    evaluate(model, islice(validation, EVALUATED_BATCHES))
    report("steps", steps, steps)
    return Calibration(
        host=host_name(),
        device="cuda" if device.type == "cuda" else "mps" if device.type == "mps" else "cpu",
        device_name=describe(device),
        threads=torch.get_num_threads(),
        shape=memory_shape(
            config, corpus.manifest.vocab_size, corpus.manifest.splits["train"].sentences
        ),
        steps=steps,
        flops_per_step=tokens / steps * config_flops_per_token(config, corpus.manifest.vocab_size),
        step_seconds=seconds / steps,
        processor_seconds=work / steps,
        tokens_per_second=tokens / seconds,
        memory_bytes=peak_bytes(device),
        process_bytes=process,
        versions={
            "rnnlm_tui": __version__,
            "torch": version("torch"),
            "python": sys.version.split()[0],
        },
        time=time.time(),
    )


def range_test(wanted: RangeRequest, corpus: PreparedCorpus, report: ReportProgress) -> RangeDone:
    """Train initial weights with a growing rate until the loss diverges, or up to the last rate.

    Raises:
        RnnlmError: text shorter than a batch, out of memory, or the first step isn't finite.
    """
    import torch

    from rnnlm_tui.worker.build import build_batches, build_model, build_trainer, set_up_torch

    config, losses = wanted.config, list[float]()
    model = build_model(config, corpus).to(set_up_torch(config))
    trainer = build_trainer(config, model, build_batches(config, corpus))
    torch.manual_seed(config.training.seed)
    for done, rate in enumerate(wanted.rates):
        report("steps", done, len(wanted.rates))
        trainer.schedule = Schedule(rate)
        losses.append(float(trainer.train_step().loss))
        if not losses[-1] <= DIVERGED * min(losses) < math.inf:  # NaN, infinite, or diverged
            break
    finite = tuple(filter(math.isfinite, losses))
    if not finite:
        raise RnnlmError(f"the loss is {losses[0]} at the first step, whatever the learning rate")
    return range_result(wanted.rates, finite)


def task(request: bytes, report: ReportProgress) -> ProbeDone | RangeDone:
    """Measure a config, or test a range of learning rates with it."""
    config = decode_line(request, RunConfig, RangeRequest)
    if isinstance(config, RangeRequest):
        return range_test(config, prepare(config.config, report)[0], report)
    assert isinstance(config, RunConfig)
    corpus, built = prepare(config, report)
    if built and PREPARED not in sys.argv:
        os.lseek(sys.stdin.fileno(), 0, os.SEEK_SET)
        os.execv(sys.executable, [*sys.orig_argv, PREPARED])
    from rnnlm_tui.engine.device import cpu_warning, resolve_device

    name = config.training.device
    return ProbeDone(
        calibration=measure(config, corpus, report), warning=cpu_warning(name, resolve_device(name))
    )
