"""Filters match the right runs, and invalid ones are reported."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import product

import pytest

from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import ModelConfig, RunConfig, TrainingConfig
from rnnlm_tui.schema.filters import (
    MAX_FILTER_CHARACTERS,
    in_order,
    key_names,
    parse_filter,
    parse_order,
)
from rnnlm_tui.schema.summary import (
    CheckpointFigures,
    EvaluationFigures,
    ModelFigures,
    RunSummary,
    TrainFigures,
)

OTTER = RunSummary(
    run="plain-otter",
    status="finished",
    model=ModelFigures(
        cell_type="elman", num_layers=2, hidden_size=192, tie_weights=True, parameters=543_000
    ),
    validation=EvaluationFigures(
        best_step=3_000, best_perplexity=58.1, perplexity=58.9, bits_per_byte=1.6
    ),
    train=TrainFigures(loss=3.9),
    step=4_328,
    tokens_seen=2_300_000,
    active_seconds=125.0,
    tokens_per_second=27_600.0,
    corpus="presidents",
    preset="demo",
    tags=("paper", "Baseline"),
    note="the one of the talk",
    checkpoints=CheckpointFigures(count=3, bytes=39_000_000),
    updated=time.time() - 3 * 3_600,
    pinned=True,
)
HERON = RunSummary(
    run="brisk-heron",
    status="running",
    model=ModelFigures(cell_type="minlstm", num_layers=1, hidden_size=64, tie_weights=False),
    corpus="news",
)
BIG = RunConfig(
    model=ModelConfig(hidden_size=256, embedding_dim=256), training=TrainingConfig(seed=7)
)


def matches(text: str, run: RunSummary = OTTER, config: RunConfig | None = None) -> bool:
    return parse_filter(text)(run, lambda _: config)


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "otter", "OTTER", "plain finished", "paper", "base", "talk", '"of the talk"',
        "presid", "elman", "demo",
        "finished", "fin", "ended", "pinned", "!running", "!living", "status=finished",
        "status!=running", "pinned=yes",
        "ppl<80", "ppl<=58.1", "ppl>=58.1", "ppl=58.1", "ppl!=58", "best<58.2", "PPL<80",
        "ppl>5.7e1", "loss<4", "step>4,000", "step>4k", "tokens>2M", "tokens<2.5m",
        "speed>27k", "tok/s>27k", "time>2min", "time<1h", "time=125s", "age>2h", "age<1d",
        "size>30MB", "size<1gb", "bits<1.7", "params>500k", "checkpoints=3", "layers=2",
        "num_layers<3", "hidden_size=192", "hidden>100",
        "tag=paper", "tag=baseline", "tag!=other", "cell=elman", "cell=Elman", "corpus=presidents",
        "name=plain-otter", 'note="the one of the talk"', "note!=",
        "device=none", "parent=none", "tag!=none", "test_ppl!=3", "test_ppl=none", "ppl!=none",
        "ppl<80 elman !draft tag=paper", "!!otter",
        "!" * 998 + "ot",
    ],
)  # fmt: skip
def test_a_matching_filter_finds_the_run(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "heron", "otter heron", "fi-", "running", "living", "draft", "!otter", "!!!otter",
        "!" * 997 + "ot", "!pinned", "ppl<58", "ppl>58.1", "ppl!=58.1", "test_ppl<100",
        "test_ppl>0",
        "age<2h", "size<1MB", "tag=pap", "tag!=paper", "note=", "note=none", "device!=none",
        "cell=lstm", '"cell:elman"', "name=otter",
        "status=fin", "time>3min", '"talk the"', "ppl<80 running",
    ],
)  # fmt: skip
def test_a_filter_excludes_other_runs(text: str) -> None:
    assert not matches(text)


def test_a_run_without_a_value_is_neither_below_nor_above() -> None:
    assert not matches("ppl<80", HERON)
    assert not matches("ppl>0", HERON)
    assert not matches("age>0", HERON)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("embedding_dim>=256", True), ("model.hidden_size=256", True), ("embedding_dim<256", False),
        ("training.seed=7", True), ("training.seed=8", False),
        ("tie_weights=true", True), ("tie_weights=no", False), ("deterministic=off", True),
        ("cell_type=elman", True), ("training.max_steps=none", True),
        ("training.max_steps>3", False), ("training.seed!=none", True),
        ("learning_rate=3e-3", True), ("batch_size=20 dropout<0.2", True),
    ],
)  # fmt: skip
def test_config_keys_are_found_by_path_or_unique_last_part(text: str, found: bool) -> None:
    assert matches(text, OTTER, BIG) is found


def test_only_config_keys_need_the_config() -> None:
    asked: list[str] = []

    def config_of(run: str) -> None:
        asked.append(run)

    assert parse_filter("otter ppl<80 !draft")(OTTER, config_of)
    assert not parse_filter("heron embedding_dim>0")(OTTER, config_of)
    assert asked == []
    assert not parse_filter("embedding_dim>0")(OTTER, config_of)
    assert parse_filter("!embedding_dim>0")(OTTER, config_of)
    assert asked == ["plain-otter"] * 2


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("perplexty<80", "unknown key", '"perplexity"'),
        ("hiden_size>3", "unknown key", '"hidden_size"'),
        ("zzzzzz<3", "unknown key", "ppl, loss"),
        ("seed=3", "ambiguous: corpus.seed or training.seed or sampling.seed", "full key"),
        ("ppl<", "ppl< has no value", "write ppl<80, "),
        ("ppl<abc", '"abc" is not a valid number', "80"),
        ("ppl<3,5", '"3,5" is not a valid number', "write 3.5: use a decimal point"),
        ("age<1,5min", '"1,5min" is not a valid number', "write 1.5"),
        ("tokens>10,00", '"10,00" is not a valid number', "write 10.00"),
        ("age>3x", '"3x" is not a valid number', "2h"),
        ("size>3h", '"3h" is not a valid number', "MB"),
        ("cell<3", "cell is text, but < compares numbers", "cell="),
        ("corpus>=a", "corpus is text", "corpus!="),
        ("training.device<3", "training.device is text", "training.device="),
        ("<80", "has no key", "key"),
        ("cell:lstm", '"cell:lstm" compares nothing', "write cell=lstm"),
        ("!PPL:80", '"PPL:80" compares nothing', "write PPL=80"),
        ("=", "has no key", "key"),
        ("!=3", "has no key", "key"),
        ("x" * (MAX_FILTER_CHARACTERS + 1), "at most 1,000", "shorter"),
        ("\x1b[31m<3", "unknown key", ""),
    ],
)  # fmt: skip
def test_an_invalid_filter_is_reported_with_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_filter(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.message.isprintable()


def test_any_text_gives_a_filter_or_an_input_error() -> None:
    signs = [
        "ppl",
        "<",
        "=",
        "!",
        '"',
        "'",
        " ",
        "8",
        "\x00",
        "ü",
        "%",
        "-",
        "seed",
        "1e999",
        "nan",
    ]
    for words in product(signs, repeat=3):
        with suppress(InputError):
            matches("".join(words), OTTER, BIG)


def test_every_key_filters_and_sorts() -> None:
    configs = {OTTER.run: BIG}
    for name in key_names():
        key, _ = parse_order(name)
        assert len(in_order([HERON, OTTER], lambda run: key.read(run, configs.get))) == 2  # noqa: B023
        assert matches(f"{name}!=3", HERON) or matches(f"{name}=3", HERON)


def test_runs_without_a_value_come_last_in_either_direction() -> None:
    lower = {"run": "low", "validation": EvaluationFigures(best_perplexity=3.0)}
    runs = [HERON, OTTER, OTTER.model_copy(update=lower)]

    def names(order: str) -> list[str]:
        key, descending = parse_order(order)
        ordered = in_order(runs, lambda run: key.read(run, lambda _: None), descending=descending)
        return [run.run for run in ordered]

    assert names("ppl") == ["low", "plain-otter", "brisk-heron"]
    assert names("-ppl") == ["plain-otter", "low", "brisk-heron"]
    assert names("name") == ["brisk-heron", "low", "plain-otter"]
    assert names("-tag")[-1] == "brisk-heron"
    assert in_order([2.0, float("nan"), 1.0], lambda value: value)[:2] == [1.0, 2.0]
    with pytest.raises(InputError, match="unknown key"):
        parse_order("zzz")
