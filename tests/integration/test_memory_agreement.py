"""The estimated peak memory of training agrees with the measured peak of a separate process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.memory import WORKER_BYTES, memory_parts, process_bytes
from rnnlm_tui.schema.presets import BOOK, DEMO
from rnnlm_tui.schema.protocol import Calibration
from rnnlm_tui.system.processes import child_environment
from tests.fakes.random_corpus import SENTENCES, changed

AGREEMENT = 0.15
GIB = 2**30

GROWTH = 50 * 2**20
"""Without limits, the caches of compiled matmuls grow by 120 MiB in as many steps."""

WIDE = changed(
    DEMO,
    model={"embedding_dim": 1_024, "hidden_size": 1_024, "tie_weights": False, "dropout": 0.0},
    training={"batch_size": 8},
)
LARGE_BATCH = changed(
    DEMO,
    model={"embedding_dim": 384, "hidden_size": 384, "cell_type": "lstm"},
    training={"batch_size": 192},
)


def of_cell(cell: str) -> RunConfig:
    """A transformer's state is full after the first of the two measured steps."""
    widths: dict[str, object] = {"embedding_dim": 256, "hidden_size": 256, "attention_window": 36}
    return changed(
        DEMO,
        model={"cell_type": cell, "dropout": 0.0, **widths},
        training={"batch_size": 96},
    )


@pytest.mark.parametrize(
    ("config", "vocab_size", "beyond"),
    [
        pytest.param(changed(BOOK), 32_011, 0.1, id="book"),
        pytest.param(WIDE, 32_011, 1.0, id="hidden size 1,024"),
        pytest.param(LARGE_BATCH, 2_048, 0.25, id="large batch of an lstm with dropout"),
        *(
            pytest.param(of_cell(cell), 2_048, 0.1, id=f"large batch of {cell}")
            for cell in ("slstm", "mlstm", "transformer")
        ),
    ],
)
def test_the_estimate_agrees_with_the_measured_peak(
    config: RunConfig, vocab_size: int, beyond: float
) -> None:
    process = subprocess.run(
        [sys.executable, "-P", "-m", "tests.fakes.random_corpus", str(vocab_size)],
        input=config.model_dump_json().encode(),
        capture_output=True,
        check=True,
        timeout=300,
        env=child_environment(WORKER_SETTINGS),
    )
    measured = Calibration.model_validate_json(process.stdout)
    estimated = memory_parts(config, vocab_size, sentences=SENTENCES)
    assert measured.memory_bytes - measured.process_bytes > beyond * GIB
    # The process's own memory depends on torch's build: one for CUDA loads libraries that the
    # constant doesn't count. A probe has no database and no socket.
    assert (
        estimated.training - process_bytes() - WORKER_BYTES + measured.process_bytes
        == pytest.approx(measured.memory_bytes, rel=AGREEMENT)
    )


def test_sentences_of_many_lengths_dont_fill_the_memory_with_compiled_matmuls() -> None:
    process = subprocess.run(
        [sys.executable, "-P", "-m", "tests.fakes.varied_shapes", "150"],
        capture_output=True,
        check=True,
        timeout=300,
        env=child_environment(WORKER_SETTINGS),
    )
    assert int(process.stdout) < GROWTH
