"""The Penn Treebank preset, made small, on files of its format, in a real worker."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config
from rnnlm_tui.store.reader import RunReader
from tests.integration.runs import start, wait_until_ended

WORDS = (
    "the",
    "a",
    "<unk>",
    "N",
    "company",
    "said",
    "shares",
    "fell",
    "rose",
    "in",
    "new",
    "york",
    "mr.",
    "million",
    "of",
    "to",
    "its",
    "'s",
)


@pytest.fixture
def treebank(tmp_path: Path) -> Path:
    """A folder with the three files, formatted like the published ones."""
    draw = random.Random(3)
    folder = tmp_path / "simple-examples"
    folder.mkdir()
    for split, lines in (("train", 300), ("valid", 40), ("test", 40)):
        text = "".join(
            f" {' '.join(draw.choices(WORDS, k=draw.randint(3, 12)))} \n" for _ in range(lines)
        )
        (folder / f"ptb.{split}.txt").write_text(text, encoding="utf-8")
    return folder


def test_the_small_penn_treebank_model_trains_to_its_end_with_the_published_schedule(
    treebank: Path,
) -> None:
    changes = [
        f"corpus.source={treebank}",
        "model.embedding_dim=16",
        "model.hidden_size=16",
        "training.epochs=7",
        "training.device=cpu",
        "training.threads=1",
    ]
    config = parse_config(
        merge(
            PRESETS["ptb-small"],
            parse_assignments([*changes, "evaluation.every=0", "checkpoint.every=0"]),
        )
    )
    run = start(config)
    summary = wait_until_ended(run)
    assert summary.status == "finished"
    with RunReader(run) as reader:
        facts, rows = reader.facts(), reader.recent_steps(10_000)
    per_epoch = facts.steps_per_epoch or 0
    assert summary.step == summary.max_steps == 7 * per_epoch
    # Each word of the files, the end of a line and the padding.
    assert facts.vocab_size == len(WORDS) + 2
    rates = {row.step: row.learning_rate for row in rows}
    assert [rates[epoch * per_epoch] for epoch in range(1, 8)] == [
        20.0,
        20.0,
        20.0,
        20.0,
        10.0,
        5.0,
        2.5,
    ]
    assert summary.test.perplexity is not None
    # Uniformly drawn words have the perplexity of their number and of the line ends.
    assert summary.test.perplexity < len(WORDS) + 1
