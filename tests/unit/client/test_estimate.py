"""Estimates of configs."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest

from rnnlm_tui import __version__
from rnnlm_tui.client.estimate import (
    estimate,
    kept_checkpoints,
    memory_warning,
    smaller_batch_words,
)
from rnnlm_tui.schema.config import (
    CheckpointConfig,
    CorpusConfig,
    DistributedConfig,
    EvaluationConfig,
    RunConfig,
    TokenizerConfig,
    TrainingConfig,
)
from rnnlm_tui.schema.corpora import Baseline
from rnnlm_tui.schema.estimates import flops_per_token, sent_bytes
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.memory import WORKER_BYTES, memory_parts, memory_shape
from rnnlm_tui.schema.presets import PRESETS, preset
from rnnlm_tui.schema.protocol import Calibration
from rnnlm_tui.store.corpora import add_calibration
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import host_name
from rnnlm_tui.system.machine import usable_cores
from tests.fakes.manifests import corpus_manifest, store_manifest
from tests.unit.client.logs import record, steps_at


def prepare(home: Path, config: RunConfig, *, tokens: int, vocab_size: int) -> None:
    """Write the manifest of a prepared corpus."""
    manifest = corpus_manifest(
        config.corpus,
        config.tokenizer,
        tokens,
        tokens // 20,
        vocab_size=vocab_size,
        baselines=(
            Baseline(
                kept_tokens=None,
                counted=tokens,
                losses={"test": (5.0, 4.5, 4.4, 4.3, math.log(73.0))},
            ),
        ),
        created=time.time(),
    )
    store_manifest(home, manifest)


def test_the_books_model_has_the_published_number_of_parameters() -> None:
    found = estimate(preset("book"))
    assert found.parameters.total == 8_292_619
    assert (found.text.vocab_size, found.text.vocab_exact) == (32_011, True)
    assert found.start_loss == pytest.approx(math.log(32_011))
    assert found.checkpoint_bytes == 12 * 8_292_619


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_can_be_estimated_without_its_text(name: str) -> None:
    config = PRESETS[name]
    found = estimate(config)
    if name == "elman":  # generated, so its types are counted
        assert (found.text.vocab_size, found.text.vocab_exact, found.text.known) == (
            36,
            True,
            "counted",
        )
    else:
        assert found.text.vocab_size == config.tokenizer.vocab_size
    assert (
        found.memory_bytes > found.checkpoint_bytes >= 4 * found.parameters.total
    )  # SGD has no moments to save
    assert found.disk_bytes >= found.checkpoint_bytes


def test_without_a_corpus_steps_are_known_only_from_max_steps() -> None:
    found = estimate(RunConfig())
    assert (
        found.text.tokens,
        found.steps_per_epoch,
        found.steps,
        found.seconds,
        found.calibrated_by,
    ) == (None, None, None, None, None)
    assert estimate(RunConfig(training=TrainingConfig(max_steps=300))).steps == 300


def test_the_news_sentences_are_known_before_the_download(home: Path) -> None:
    book = preset("book")
    found = estimate(
        book.model_copy(update={"training": book.training.model_copy(update={"device": "cpu"})})
    )
    assert (found.steps_per_epoch, found.steps, found.text.tokens) == (171_804, 171_804, None)
    assert found.memory.corpus == 12 * 21_990_841
    larger = book.training.model_copy(update={"device": "cpu", "batch_size": 1_000, "epochs": 2})
    assert estimate(book.model_copy(update={"training": larger})).steps == 2 * 21_991
    stream = book.training.model_copy(update={"device": "cpu", "data_mode": "stream"})
    assert estimate(book.model_copy(update={"training": stream})).steps is None, (
        "its tokens are not known"
    )
    assert not home.exists()


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (TokenizerConfig(kind="byte"), (258, True)),
        (TokenizerConfig(kind="byte", end_of_sentence=False), (257, True)),
        (TokenizerConfig(kind="word", vocab_size=900), (900, False)),
    ],
)
def test_a_vocabulary_is_exact_or_an_upper_bound(
    tokenizer: TokenizerConfig, expected: tuple[int, bool]
) -> None:
    found = estimate(RunConfig(tokenizer=tokenizer))
    assert (found.text.vocab_size, found.text.vocab_exact) == expected


def test_a_prepared_corpus_gives_steps_and_the_baseline(home: Path) -> None:
    config = RunConfig(
        corpus=CorpusConfig(source="presidents"),
        training=TrainingConfig(epochs=8, batch_size=20, bptt=35),
    )
    prepare(home, config, tokens=70_001, vocab_size=2_000)
    found = estimate(config)
    assert (found.text.tokens, found.text.vocab_size, found.text.vocab_exact) == (
        70_001,
        2_000,
        True,
    )
    assert (found.steps_per_epoch, found.steps) == (100, 800)
    assert found.baseline_perplexity == pytest.approx(73.0)
    assert found.seconds is None


def test_the_newest_similar_run_of_this_host_gives_the_speed(home: Path) -> None:
    config = RunConfig(training=TrainingConfig(max_steps=300))
    for age, (name, tokens, host, steps) in enumerate(
        [
            ("old-otter", 700, host_name(), 120),
            ("like-otter", 800, host_name(), 120),
            ("tiny-otter", 40, host_name(), 120),
            ("far-otter", 800, "elsewhere", 120),
            ("short-otter", 800, host_name(), 20),
        ]
    ):
        run = create_run(config, name)
        record(run, *steps_at(tokens, 0.1, steps), Facts(vocab_size=1_000), host=host)
        os.utime(run.config_path, (1e9 + age, 1e9 + age))
    found = estimate(config)
    assert (found.calibrated_by, found.calibrated_run) == ("run", "like-otter")
    work = flops_per_token(config.model, 2_048) / flops_per_token(config.model, 1_000)
    assert found.seconds == pytest.approx(300 * 700 * work / 8_000)
    small = RunConfig(training=TrainingConfig(max_steps=300, batch_size=1))
    assert estimate(small).calibrated_run == "tiny-otter"
    huge = RunConfig(training=TrainingConfig(max_steps=300, batch_size=2_000))
    assert (estimate(huge).calibrated_by, estimate(huge).seconds) == (None, None)


def keep_probe(config: RunConfig, **changes: object) -> Calibration:
    """Store a probe's result: 0.1 s per step, and 5 MB more than computed."""
    training = config.training
    parts = memory_parts(config, 2_048)
    facts: dict[str, object] = {
        "host": host_name(),
        "device": "cpu",
        "device_name": "cpu",
        "threads": training.threads or usable_cores(),
        "shape": memory_shape(config, 2_048, 0),
        "steps": 20,
        "flops_per_step": training.batch_size
        * training.bptt
        * flops_per_token(config.model, 2_048),
        "step_seconds": 0.1,
        "processor_seconds": 0.2,
        "tokens_per_second": 7_000.0,
        "memory_bytes": parts.training + 5_000_000,
        "process_bytes": parts.process,
        "versions": {"rnnlm_tui": __version__},
        "time": 1.0,
    }
    calibration = Calibration.model_validate({**facts, **changes})
    add_calibration(calibration)
    return calibration


def test_a_probe_of_the_same_shape_gives_time_and_memory(home: Path) -> None:
    config = RunConfig(training=TrainingConfig(max_steps=300, device="cpu"))
    probe = keep_probe(config)
    found = estimate(config)
    assert (found.calibrated_by, found.calibrated_run) == ("probe", None)
    assert found.seconds == pytest.approx(300 * 0.1)
    assert (found.memory_measured, found.memory_needed, found.memory.training) == (
        True,
        probe.memory_bytes + WORKER_BYTES,
        probe.memory_bytes - 5_000_000,
    )
    wider = estimate(RunConfig(training=TrainingConfig(max_steps=300, device="cpu", batch_size=30)))
    assert (wider.calibrated_by, wider.memory_measured, wider.memory_bytes) == (
        "probe",
        False,
        wider.memory.total,
    )
    assert wider.seconds == pytest.approx(300 * 0.15)


def test_the_most_similar_run_or_probe_gives_the_speed(home: Path) -> None:
    config = RunConfig(training=TrainingConfig(max_steps=300, device="cpu"))
    run = create_run(config, "plain-otter")
    record(run, *steps_at(700, 0.2, at=2.0), Facts(vocab_size=2_048))
    keep_probe(RunConfig(training=TrainingConfig(batch_size=60, device="cpu")))
    assert estimate(config).calibrated_run == "plain-otter"
    larger = RunConfig(training=TrainingConfig(max_steps=300, device="cpu", batch_size=50))
    assert estimate(larger).calibrated_by == "probe"
    keep_probe(config, time=1.0)
    assert estimate(config).calibrated_run == "plain-otter", "the newer of two equally similar ones"
    keep_probe(config, time=3.0)
    assert estimate(config).calibrated_by == "probe"


def test_processes_on_cpus_share_cores_and_memory(home: Path) -> None:
    training = TrainingConfig(max_steps=300, device="cpu")
    keep_probe(RunConfig(training=training))
    config = RunConfig(training=training, distributed=DistributedConfig(processes=4))
    found = estimate(config)
    assert (found.processes, found.rows_at_once) == (4, training.batch_size // 4)
    assert found.seconds == pytest.approx(300 * 0.1), "the cores are the same"
    assert found.memory == memory_parts(config, 2_048, processes=4)
    assert (found.memory_measured, found.memory_needed) == (False, 4 * found.memory.training)
    # Three of four quarters are added up round the ring, and three sums are passed on.
    assert found.gradient_bytes == 4 * found.parameters.total
    assert sent_bytes(found.gradient_bytes, 4) == round(6 / 4 * found.gradient_bytes)


@pytest.mark.parametrize(
    ("changes", "by"),
    [
        ({"host": "elsewhere"}, None),
        ({"device": "cuda"}, None),
        ({"threads": 1_000}, "probe"),
        ({"versions": {"rnnlm_tui": "0.0.0"}}, "probe"),
    ],
)
def test_a_probe_of_other_conditions_gives_no_memory_and_of_another_machine_nothing(
    home: Path, changes: dict[str, object], by: str | None
) -> None:
    config = RunConfig(training=TrainingConfig(max_steps=300, device="cpu"))
    keep_probe(config, **changes)
    found = estimate(config)
    assert (found.calibrated_by, found.memory_measured) == (by, False)


def test_the_warning_names_a_batch_size_that_fits(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(training=TrainingConfig(device="cpu", batch_size=1_000))
    room = memory_parts(
        RunConfig(training=TrainingConfig(device="cpu", batch_size=300)), 2_048
    ).training
    monkeypatch.setattr("rnnlm_tui.client.estimate.free_training_memory", lambda _device: room)
    found = estimate(config)
    assert (found.too_large, found.largest_fitting_batch) == (True, 300)
    assert "batch_size = 300 should fit" in str(memory_warning(found))
    assert smaller_batch_words(config, found) == "batch_size = 300 should fit"
    fits = estimate(RunConfig(training=TrainingConfig(device="cpu")))
    assert (fits.too_large, fits.largest_fitting_batch, memory_warning(fits)) == (False, None, None)
    assert smaller_batch_words(RunConfig(), fits) == "training.batch_size = 10 needs less"
    monkeypatch.setattr("rnnlm_tui.client.estimate.free_training_memory", lambda _device: 1_000_000)
    found = estimate(RunConfig())
    assert (found.too_large, found.largest_fitting_batch) == (True, None)
    assert "a smaller model or vocabulary" in str(memory_warning(found))


def test_the_figures_of_a_counted_text_follow_from_its_length(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat.\n" * 4_000, encoding="utf-8")
    config = RunConfig(
        corpus=CorpusConfig(source=str(text)),
        tokenizer=TokenizerConfig(kind="byte"),
        training=TrainingConfig(epochs=3, batch_size=8, bptt=10),
    )
    found = estimate(config)
    assert (found.text.known, found.text.vocab_size, found.text.vocab_exact) == (
        "counted",
        258,
        True,
    )
    assert found.text.tokens is not None
    assert found.text.tokens == 13 * (found.text.sentences or 0)
    assert found.steps_per_epoch == math.ceil((found.text.tokens - 1) // 8 / 10)
    assert found.steps == 3 * found.steps_per_epoch
    assert found.tokens_seen == pytest.approx(3 * found.text.tokens)
    assert found.run_flops == pytest.approx(
        3 * found.text.tokens * flops_per_token(config.model, 258, 10)
    )
    assert found.unique_tokens_per_parameter == pytest.approx(
        found.text.tokens / found.parameters.total
    )
    assert found.tokens_per_parameter == pytest.approx(3 * (found.unique_tokens_per_parameter or 0))
    count = found.parameters
    assert found.vocabulary_share == (count.embedding + count.output) / count.total
    assert found.problems == ()
    large = config.model_copy(
        update={"training": TrainingConfig(epochs=3, batch_size=60_000, bptt=10)}
    )
    (problem,) = estimate(large).problems
    assert problem.path == "training.batch_size"


def test_a_prepared_text_that_changed_is_counted_again(home: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat.\n" * 400, encoding="utf-8")
    os.utime(text, (1_000.0, 1_000.0))
    config = RunConfig(
        corpus=CorpusConfig(source=str(text)), tokenizer=TokenizerConfig(kind="character")
    )
    prepare(home, config, tokens=7_777, vocab_size=99)
    found = estimate(config)
    assert (found.text.known, found.text.tokens, found.text.vocab_size) == ("prepared", 7_777, 99)
    text.write_text("The cat sat.\n" * 500, encoding="utf-8")
    os.utime(text, (time.time() + 60, time.time() + 60))
    again = estimate(config)
    assert again.text.known == "counted"
    assert again.text.tokens not in (None, 7_777)


def test_evaluations_take_a_third_of_a_steps_work_for_each_token(home: Path) -> None:
    config = RunConfig(training=TrainingConfig(max_steps=1_000, device="cpu"))
    prepare(home, config, tokens=70_000, vocab_size=2_048)
    keep_probe(config)
    found = estimate(config)
    assert found.seconds is not None
    # Two evaluations on the way, and both sets at the end.
    assert found.evaluation_seconds == pytest.approx(
        found.seconds * 4 * 70_000 / 3 / (found.tokens_seen or 0)
    )


@pytest.mark.parametrize(
    ("saved", "keep_every", "evaluated", "steps", "kept"),
    [
        (50, 0, 50, None, 3),
        (50, 0, 50, 1_000, 3),
        (50, 0, 50, 60, 2),
        (50, 200, 50, 1_000, 3 + 5),
        (50, 70, 50, 1_000, 3 + 2),
        (0, 0, 0, 1_000, 1),
        (0, 0, 500, 1_000, 2),
        (0, 0, 50, 1_000, 3),
        (50, 0, 20, 60, 3),
        (1_000, 0, 300, 600, 2),
        (100, 100, 30, 1_000, 3 + 10),
        # each evaluation at a multiple of 60 may have been the best once
        (100, 60, 30, 1_000, 3 + 16),
        (0, 100, 0, 1_000, 1),
    ],
)
def test_kept_checkpoints_are_the_newest_the_best_and_multiples(
    saved: int, keep_every: int, evaluated: int, steps: int | None, kept: int
) -> None:
    checkpoint = CheckpointConfig(every=saved, keep_last=2, keep_every=keep_every)
    config = RunConfig(checkpoint=checkpoint, evaluation=EvaluationConfig(every=evaluated))
    assert kept_checkpoints(config, steps) == kept
