"""The probe: `python -m rnnlm_tui.worker.probe` trains a few steps and reports time and memory.

It reads a config from the file on stdin, writes messages on stdout and leaves no run.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

from pydantic import BaseModel, ValidationError

from rnnlm_tui import __version__
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import config_flops_per_token
from rnnlm_tui.schema.memory import memory_shape
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.protocol import (
    Calibration,
    ProbeDone,
    ProbeFailed,
    ProbeProgress,
    encode_line,
)
from rnnlm_tui.store.paths import corpora_dir
from rnnlm_tui.system.files import keep_private
from rnnlm_tui.system.locks import host_name
from rnnlm_tui.system.processes import end_with_parent

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
Report = Callable[[str, int, int], None]
"""Called with the phase, how much of it is done, and the total."""


class Interrupted(Exception):  # noqa: N818 - not an error: it was requested
    """Raised by SIGTERM, wherever the probe is."""


def prepare(config: RunConfig, report: Report) -> tuple[PreparedCorpus, bool]:
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

    return prepare_corpus(
        config.corpus, config.tokenizer, config.training, corpora_dir(), advance
    ), phases != {"checking"}


def measure(
    config: RunConfig,
    corpus: PreparedCorpus,
    report: Report,
    *,
    warm_up: int = WARM_UP_STEPS,
    steps: int = PROBE_STEPS,
) -> Calibration:
    """Train `warm_up` steps, then `steps` timed ones, and evaluate a little, as a run would.

    Raises:
        RnnlmError: missing device, text shorter than a batch, out of memory.
    """
    import torch

    from rnnlm_tui.engine.batches import evaluation_batches
    from rnnlm_tui.engine.device import describe, seed_everything, wait
    from rnnlm_tui.engine.evaluate import evaluate
    from rnnlm_tui.engine.memory import held_bytes, peak_bytes, reset_peak
    from rnnlm_tui.worker.build import build_batches, build_model, build_trainer, set_up_torch

    training = config.training
    device = set_up_torch(config)
    reset_peak(device)
    process = held_bytes(device)
    model = build_model(config, corpus).to(device)
    trainer = build_trainer(config, model, build_batches(config, corpus))
    seed_everything(training.seed)
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
    validation = evaluation_batches(
        corpus.tokens("validation"),
        corpus.offsets("validation"),
        data_mode=training.data_mode,
        context_length=training.context_length,
        pad_id=corpus.pad_id,
        max_sentences=config.evaluation.max_sentences,
    )
    evaluate(model, islice(iter(validation), EVALUATED_BATCHES))
    report("steps", steps, steps)
    return Calibration(
        host=host_name(),
        device="cuda" if device.type == "cuda" else "mps" if device.type == "mps" else "cpu",
        device_name=describe(device),
        threads=torch.get_num_threads(),
        shape=memory_shape(config, corpus.vocab_size, corpus.manifest.splits["train"].sentences),
        steps=steps,
        flops_per_step=tokens / steps * config_flops_per_token(config, corpus.vocab_size),
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


def _device_warning(config: RunConfig) -> str:
    from rnnlm_tui.engine.device import cpu_warning, resolve_device

    return cpu_warning(config.training.device, resolve_device(config.training.device))


def main() -> int:
    """Measure the config on stdin; returns the exit code, as in `rnnlm_tui.errors`."""
    end_with_parent()
    keep_private()
    # Ctrl-C is for the parent process, which sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    answers = sys.stdout.buffer

    def report(phase: str, done: int, total: int) -> None:
        _write(answers, ProbeProgress(phase=phase, done=done, total=total))

    try:
        config = RunConfig.model_validate_json(sys.stdin.buffer.read())
        corpus, built = prepare(config, report)
        if built and PREPARED not in sys.argv:
            os.lseek(sys.stdin.fileno(), 0, os.SEEK_SET)
            os.execv(sys.executable, [*sys.orig_argv, PREPARED])
        calibration = measure(config, corpus, report)
        _write(answers, ProbeDone(calibration=calibration, warning=_device_warning(config)))
    except Interrupted:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # The reader is gone; without this Python's last flush would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        traceback.print_exc()  # to stderr, the log of the parent process
        failed = _failed(error)
        _write(answers, failed)
        return failed.exit_code
    return 0


@dataclass(frozen=True, slots=True)
class ProcessFailure:
    """An error in words."""

    message: str
    hint: str
    exit_code: int
    out_of_memory: bool
    """The device or the machine ran out of memory."""


def failure_of(error: Exception) -> ProcessFailure:
    """The failure of any exception: its message, or the type and text of one that isn't ours."""
    exhausted = _is_out_of_memory(error) or _is_out_of_memory(error.__cause__)
    if isinstance(error, RnnlmError):
        return ProcessFailure(error.message, error.hint, error.exit_code, exhausted)
    return ProcessFailure(
        "out of memory" if exhausted else f"{type(error).__name__}: {error}",
        "",
        RnnlmError.exit_code,
        exhausted,
    )


def _is_out_of_memory(error: BaseException | None) -> bool:
    if error is None or "torch" not in sys.modules:  # importing torch may be what failed
        return isinstance(error, MemoryError)
    from rnnlm_tui.engine.device import is_out_of_memory

    return is_out_of_memory(error)


def _failed(error: Exception) -> ProbeFailed:
    if isinstance(error, ValidationError):
        error = InputError(
            "no valid config on standard input",
            hint="the probe is started by: rnnlm-tui estimate --probe",
        )
    failure = failure_of(error)
    return ProbeFailed(
        message=failure.message,
        hint=failure.hint,
        exit_code=failure.exit_code,
        out_of_memory=failure.out_of_memory,
    )


def _write(stream: BinaryIO, message: BaseModel) -> None:
    stream.write(encode_line(message))
    stream.flush()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main())
