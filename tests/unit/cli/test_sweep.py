"""`train --sweep` puts a grid or random draws into the queue; `sweep` shows what they found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from rnnlm_tui.client import queue
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import RunConfig, value_of
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.labels import read_labels
from rnnlm_tui.store.queue import read_queue
from rnnlm_tui.store.runs import find_run, list_runs
from rnnlm_tui.store.trash import delete_run
from tests.homes import trained
from tests.integration.runs import write_text
from tests.unit.cli.calls import Verbs

RATE = "optimizer.learning_rate"
GRID = f"--sweep {RATE}=1e-3,1e-2,1e-3 --sweep model.num_layers=1,2"


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts the waiting runs."""
    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", lambda: "")


@pytest.fixture
def train(tmp_path: Path) -> str:
    """`train` on a small text."""
    return f"train {write_text(tmp_path / 'text.txt')} --set tokenizer.kind=character"


def waiting() -> list[str]:
    return [entry.run for entry in read_queue().entries]


def settings(*paths: str) -> list[tuple[object, ...]]:
    """The values of these keys of the waiting runs."""
    configs = [find_run(name).read_config() for name in waiting()]
    return [tuple(value_of(config, path) for path in paths) for config in configs]


def test_each_combination_is_a_tagged_run_in_the_queue_and_duplicates_are_said(
    train: str, verb: Verbs
) -> None:
    out, err = verb(f"{train} {GRID} --sweep-name rates --sweep-prune 40")
    assert out.split() == waiting() == ["rates-1", "rates-2", "rates-3", "rates-4"]
    grid = [(1e-3, 1), (1e-3, 2), (1e-2, 1), (1e-2, 2)]
    wanted = [(*setting, 40) for setting in grid]
    assert settings(RATE, "model.num_layers", "evaluation.prune_step") == wanted
    assert {read_labels(run).tags for run in list_runs()} == {("sweep:rates",)}
    assert "sweep rates: 4 runs put into the queue; left out 2 duplicates; `rnnlm-tui sweep" in err


@pytest.mark.parametrize("name", ["", "--sweep-name rates"])
def test_the_same_command_completes_a_sweep_that_was_written_in_part(
    train: str, verb: Verbs, name: str
) -> None:
    first, *_, last = verb.json(f"{train} {GRID} {name}")["runs"]
    for run in (first, last):
        queue.remove(run)
    delete_run(find_run(last))
    again, err = verb(f"{train} {GRID} {name}")
    assert again.split() == [first, last]
    assert sorted(waiting()) == sorted(run.name for run in list_runs())
    assert len(list_runs()) == 4
    assert "2 runs put into the queue; left out 2 duplicates; 2 were there already" in err


def test_all_problems_are_named_at_once_and_nothing_is_created(train: str, verb: Verbs) -> None:
    code = InputError.exit_code
    wrong = f"--sweep optimizer.lerning_rate=1,2 --sweep model.dropout=0.1,2 --sweep {RATE}=1..2"
    err = verb(f"{train} {wrong}", code=code).err
    assert "3 problems" in err
    assert 'optimizer.lerning_rate: unknown config key (did you mean "optimizer.learning' in err
    assert "model.dropout: is 2, must be at most 0.99" in err
    assert f"{RATE}: has a range (--sweep-random N draws from it)" in err
    for twice in ("", "=", "=1e-3 --sweep " + RATE + "=1e-2"):
        assert f"{RATE}: " in verb(f"{train} --sweep {RATE}{twice}", code=code).err
    for ends, said in (("3..2", "must start below 2"), ("log:0..2", "must start above 0")):
        wrong = f"--sweep training.patience={ends} --sweep-random 3"
        assert said in verb(f"{train} {wrong}", code=code).err
    wrong = "--sweep model.embedding_dim=64,192 --sweep training.batch_size=4,60000"
    err = verb(f"{train} {wrong} --sweep training.seed=1,2", code=code).err
    assert "2 problems" in err
    assert "model.embedding_dim=64: model.tie_weights requires model.embedding_dim = mod" in err
    assert "training.batch_size=60000: training.batch_size is 60,000, must be at most" in err
    for more, said in (
        (GRID + " --name otter", "--sweep and --name are mutually exclusive"),
        (GRID + " --detach", "--detach and --sweep are mutually exclusive"),
        (GRID + " --sweep-name a/b", "a/b"),
        (GRID + " --sweep-seed 3", "--sweep-seed needs --sweep-random"),
        ("--sweep-random 3", "--sweep-random without --sweep"),
    ):
        assert said in verb(f"{train} {more}", code=code).err
    assert (waiting(), list_runs()) == ([], [])


def test_many_runs_are_asked_about_before_any_is_made(train: str, verb: Verbs) -> None:
    seeds = ",".join(map(str, range(5_000)))
    many = f"{train} --sweep training.seed={seeds} --sweep {RATE}=1e-3,1e-2"
    assert "cannot ask for confirmation" in verb(many, code=InputError.exit_code).err
    out, err = verb(many, code=1, typed="no\n")
    assert (out, list_runs()) == ("", [])
    assert "Put 10,000 runs into the queue? [y/N] nothing was created" in err


def test_random_draws_stay_in_their_ranges_and_repeat_with_their_seed(
    train: str, verb: Verbs
) -> None:
    paths = (RATE, "model.num_layers", "model.dropout", "model.cell_type")
    ranges = ("log:1e-4..1e-1", "1..3", "0..0.5", "gru,lstm")
    keys = " ".join(f"--sweep {key}={of}" for key, of in zip(paths, ranges, strict=True))
    draw = f"{train} {keys} --sweep-random 20"
    seed = verb.json(f"{draw} --sweep-name first")["seed"]
    assert f"drawn with --sweep-seed {seed}" in verb(f"{draw} --sweep-seed {seed}").err
    found = settings(*paths)
    assert found[:20] == found[20:]
    rates, layers, dropouts, cells = map(set, zip(*found, strict=True))
    assert (layers, cells) == ({1, 2, 3}, {"gru", "lstm"})
    assert all(1e-4 <= rate <= 1e-1 for rate in rates if isinstance(rate, float))
    assert sum(rate < 3e-3 for rate in rates if isinstance(rate, float)) in range(4, 17)
    assert all(0 <= dropout <= 0.5 for dropout in dropouts if isinstance(dropout, float))


def swept(name: str, changes: Mapping[str, object], loss: float, text: str = "text") -> None:
    """A finished run of the sweep `rates`."""
    config = parse_config(merge(RunConfig(), changes))
    trained(name, tags=("sweep:rates",), config=config, loss=loss, corpus_hash=text)


def test_a_sweep_is_shown_by_its_settings_with_the_spread_of_each_key(verb: Verbs) -> None:
    for number, (rate, layers, seed, loss) in enumerate(
        [(1e-3, 1, 1, 4.0), (1e-3, 1, 2, 4.1), (1e-2, 1, 1, 3.0), (1e-2, 2, 1, 2.0)], 1
    ):
        setting = {RATE: rate, "model.num_layers": layers, "training.seed": seed}
        swept(f"rates-{number}", setting, loss)
    out = verb("sweep rates").out
    assert out.splitlines()[0] == "rates: 4 runs: 4 finished"
    assert [row[0] for row in verb("sweep rates").rows[2:6]] == [
        "rates-4", "rates-3", "rates-1", "rates-2",
    ]  # fmt: skip
    assert out.count("num_layers 1, learning_rate 0.001: 57.5 ± 4.06") == 2
    key, spread, *best = verb("sweep rates").rows[-2]
    assert (key, spread, best[:2]) == (RATE, "50.1", ["0.01", "7.39,"])
    found = verb.json("sweep rates")
    assert [effect["key"] for effect in found["effects"]] == [RATE, "model.num_layers"]
    assert verb("sweep").rows[1][:3] == ["rates", "4", "runs:"]
    assert 'did you mean "rates"?' in verb("sweep rate", code=InputError.exit_code).err


def test_runs_on_different_texts_compare_in_bits_per_byte(verb: Verbs) -> None:
    assert "no sweeps yet" in verb("sweep").out
    for kind in ("bpe", "character"):
        swept(f"rates-{kind}", {"tokenizer.kind": kind}, 4.0, text=kind)
    assert verb("sweep rates").rows[1][2] == "bits/byte"
