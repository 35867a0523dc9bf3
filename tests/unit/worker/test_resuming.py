"""The facts that a checkpoint records for a resume, and the differences that prevent one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnnlm_tui.corpus.corpus import prepare_corpus
from rnnlm_tui.engine.batches import StreamBatches
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import CorpusError, InputError
from rnnlm_tui.schema.config import CorpusConfig, RunConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.estimates import Schedule
from rnnlm_tui.schema.validation import fields, merge, parse_config
from rnnlm_tui.store.manifest import Manifest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.resuming import (
    FREE_SETTINGS,
    NOT_COMPARED,
    SAME_ARITHMETIC,
    check_data,
    check_environment,
    check_settings,
    environment,
    settings,
)
from tests.unit.engine.builders import built_model

RUN = RunDirectory(Path("/home/runs/plain-otter"))


@pytest.fixture(scope="module")
def here() -> dict[str, str | int | bool]:
    model = built_model(vocab_size=4, embedding_dim=4, hidden_size=4, num_layers=1)
    trainer = Trainer(
        model,
        StreamBatches(np.arange(32, dtype=np.uint16) % 4, 2, 4),
        max_steps=1,
        schedule=Schedule(0.1),
    )
    return environment(trainer, deterministic=True)


def saved(**facts: object) -> Manifest:
    return Manifest.model_validate(
        {
            "kind": "checkpoint",
            "run": "plain-otter",
            "step": 1_500,
            "created": 0.0,
            "versions": {},
            "files": {},
            "facts": facts,
        }
    )


def test_the_environment_contains_everything_that_affects_rounding(
    here: dict[str, str | int | bool],
) -> None:
    assert here.keys() >= {
        "torch",
        "device",
        "processor",
        "instructions",
        "threads",
        "matmul",
        "deterministic",
        "numpy",
        "python",
        "rnnlm_tui",
        "cuda",
        "libc",
    }


def test_the_same_environment_resumes_without_a_note(here: dict[str, str | int | bool]) -> None:
    assert check_environment(RUN, saved(environment=here), here) == ""


def test_every_difference_in_the_environment_is_refused_in_exact_mode(
    here: dict[str, str | int | bool],
) -> None:
    for name in here.keys() - {*NOT_COMPARED}:
        with pytest.raises(
            InputError,
            match=(
                rf"exact mode: the environment differs: {name} was 7, is .*; plain-otter is at step"
                r" 1,500"
            ),
        ) as refused:
            check_environment(RUN, saved(environment={**here, name: 7}), here)
        assert refused.value.message.count(" was ") == 1
        assert f"restore {name}" in refused.value.hint
        moved = "(rnnlm-tui resume plain-otter --device 7)" in refused.value.hint
        assert moved is (name == "device")
        assert (
            "deterministic = false under [training] in /home/runs/plain-otter/config.toml"
            in refused.value.hint
        )


def test_all_differences_are_listed_and_fast_mode_resumes(
    here: dict[str, str | int | bool],
) -> None:
    before = {**here, "threads": 64, "torch": "2.11.0", "deterministic": False}
    now = {**here, "deterministic": False}
    told = check_environment(RUN, saved(environment=before), now)
    assert (
        told
        == f"resumed within rounding error, not bit for bit: threads was 64, is {here['threads']};"
        f" torch was 2.11.0, is {here['torch']}"
    )


def test_the_machines_name_makes_no_difference(here: dict[str, str | int | bool]) -> None:
    assert (
        check_environment(
            RUN, saved(environment={**here, **dict.fromkeys(NOT_COMPARED, "other")}), here
        )
        == ""
    )


def test_exact_mode_resumes_checkpoints_of_versions_with_the_same_arithmetic(
    here: dict[str, str | int | bool],
) -> None:
    for version in SAME_ARITHMETIC:
        assert check_environment(RUN, saved(environment={**here, "rnnlm_tui": version}), here) == ""
    with pytest.raises(InputError, match=r"rnnlm_tui was 0\.0\.9, is "):
        check_environment(RUN, saved(environment={**here, "rnnlm_tui": "0.0.9"}), here)


def test_exact_mode_refuses_a_checkpoint_without_environment(
    here: dict[str, str | int | bool],
) -> None:
    with pytest.raises(InputError, match="threads was not recorded, is "):
        check_environment(RUN, saved(), here)


def test_settings_are_all_fields_that_define_a_run() -> None:
    free = {
        path
        for path in fields()
        if path.partition(".")[0] in ("distributed", "evaluation", "checkpoint", "sampling")
    } | {f"training.{name}" for name in FREE_SETTINGS}
    # The presidents and a tokenizer of their own never read these.
    idle = {
        "corpus.layout",
        "corpus.url",
        "corpus.sentences",
        "corpus.seed",
        "tokenizer.name",
    }
    assert settings(RunConfig()).keys() == set(fields()) - free - idle


def test_a_setting_missing_in_an_old_checkpoint_counts_as_the_default() -> None:
    older = {
        name: value
        for name, value in settings(RunConfig()).items()
        if name != "model.weight_dropout"
    }
    check_settings(RUN, saved(settings=older), RunConfig())
    with pytest.raises(
        InputError, match=r"since step 1,500: model\.weight_dropout was 0\.0, is 0\.5 \(/home"
    ):
        check_settings(
            RUN,
            saved(settings=older),
            parse_config(merge(RunConfig(), {"model.weight_dropout": 0.5})),
        )


def test_all_different_settings_are_listed_with_both_values() -> None:
    config = parse_config(
        merge(
            RunConfig(), {"training.batch_size": 64, "model.dropout": 0.25, "checkpoint.every": 7}
        )
    )
    with pytest.raises(
        InputError,
        match=(
            r"since step 1,500: model\.dropout was 0\.1, is 0\.25; training\.batch_size was 20, is"
            r" 64 \(/home"
        ),
    ) as refused:
        check_settings(RUN, saved(settings=settings(RunConfig())), config)
    assert "rnnlm-tui train --from plain-otter@1500" in refused.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"model.hidden_size": 64, "model.embedding_dim": 64},
        {"model.cell_type": "gru"},
        {"model.tie_weights": False},
        {"tokenizer.vocab_size": 300},
    ],
    ids=str,
)
def test_changed_weights_or_types_need_initial_weights(changes: dict[str, object]) -> None:
    config = parse_config(merge(RunConfig(), changes))
    with pytest.raises(InputError) as refused:
        check_settings(RUN, saved(settings=settings(RunConfig())), config)
    assert "--from" not in refused.value.hint
    assert f"rnnlm-tui train --config {RUN.config_path}" in refused.value.hint


def test_another_text_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("the cat sat on the mat\n" * 200)
    corpus = prepare_corpus(
        CorpusConfig(source=str(source)),
        TokenizerConfig(kind="byte"),
        TrainingConfig(),
        tmp_path / "corpora",
        lambda _: None,
    )
    check_data(RUN, saved(corpus_hash=corpus.manifest.hash), corpus)
    with pytest.raises(CorpusError, match="has changed since step 1,500"):
        check_data(RUN, saved(corpus_hash="other"), corpus)
