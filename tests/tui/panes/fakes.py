"""A run for the tests of the config, checkpoints and prompt panes."""

from __future__ import annotations

from pathlib import Path

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import CheckpointRow, SampleRow
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import RunDirectory
from tests.tui.demo_run import NOW as NOW

RUN = RunDirectory(Path("/runs/plain-otter"))


CONFIG = parse_config(
    merge(
        RunConfig(),
        {
            "model.embedding_dim": 192,
            "model.hidden_size": 192,
            "model.num_layers": 2,
            "model.dropout": 0.15,
            "optimizer.learning_rate": 3e-3,
            "optimizer.weight_decay": 0.01,
            "optimizer.max_grad_norm": 1.0,
            "schedule.warmup_steps": 100,
            "schedule.final_fraction": 0.02,
            "training.epochs": 8,
            "training.batch_size": 20,
            "training.bptt": 35,
            "tokenizer.vocab_size": 2_048,
            "evaluation.every": 500,
            "checkpoint.every": 500,
            "checkpoint.keep_last": 3,
            "sampling.temperature": 0.8,
            "sampling.top_p": 0.95,
        },
    )
)
"""Fixed values, independent of the presets."""


def checkpoint(
    step: int, loss: float | None, *, best: bool = False, last: bool = False, age: float = 0.0
) -> CheckpointRow:
    """Return a row of the checkpoint index."""
    return CheckpointRow(
        1, step, step / 594, step * 640, 3.93, loss, 6_500_000, f"checkpoints/step-{step:09d}",
        best, last, NOW - age,
    )  # fmt: skip


CHECKPOINTS = (
    checkpoint(1000, 4.4671, age=150),
    checkpoint(2000, 4.2077, age=43),
    checkpoint(3000, 4.1059, age=19),
    checkpoint(3700, 4.0622, best=True, age=12),
    checkpoint(3750, None, last=True),
)
SAMPLES = tuple(
    SampleRow(1, step, prompt, text, 40, 7, NOW + after)
    for step, after, prompt, text in (
        (3700, 0, "The state of the Union", " is strong, and the Congress must act on the program"
            " of the American people. We have a great responsibility."),
        (3700, 1, "My fellow Americans,", " we are now in the second year of a new effort to bring"
            " down the cost of health care, and we will not let it."),
        (3700, 2, "We must", " work together to reduce the deficit and strengthen the security of"
            " the nation. That is why I propose tonight."),
        (1000, -90, "The state of the Union", " of the the people of the world. We have to the"
            " Congress."),
    )
)  # fmt: skip
