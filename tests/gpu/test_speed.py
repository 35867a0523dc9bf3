"""The speed of training on a GPU, measured by `bench` and recorded as properties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.bench.runner import LEFT_OUT, BenchOptions, run_bench
from rnnlm_tui.engine.device import cuda_versions, describe
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.system.gpu import driver_version
from tests.gpu import DEVICE, DRY, NEEDS_GPU, ON_DEVICE
from tests.gpu.shapes import SHAPES, TINY

pytestmark = ON_DEVICE

SMALL = {**TINY, "corpus.source": "elman", "corpus.sentences": 400, "tokenizer.kind": "word"}
"""Changes for a dry run."""


@pytest.mark.parametrize("name", ["book", pytest.param("lstm 2x1024", marks=NEEDS_GPU)])
def test_training_is_measured_beside_a_naive_loop_and_torchs_own_layers(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    shape = SHAPES[name]
    changes: dict[str, object] = {"training.device": str(DEVICE), "training.deterministic": False}
    changes |= SMALL if DRY else {}
    options = BenchOptions(
        parse_config(merge(shape.config, changes)),
        seconds=0.05 if DRY else 4.0,
        only="training",
        logs=tmp_path,
    )
    found = run_bench(options, print)
    record_property("device", describe(DEVICE))
    record_property("versions", f"driver {driver_version()}, CUDA {cuda_versions()}")
    for row in found.training:
        milliseconds = 1e3 * found.data.tokens_per_step / row.tokens_per_second.median
        epoch = 1e-3 * milliseconds * shape.steps_per_epoch
        record_property(
            row.name,
            f"{milliseconds:.3f} ms a step, {row.ratio.median:.2f} x naive, an epoch in"
            f" {epoch / 60:.1f} min, {row.peak_bytes / 2**20:,.0f} MiB",
        )
    assert not [note for note in found.notes if note.startswith(LEFT_OUT)]
