"""Changes while a run trains: what they do to the trainer, and after a resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pydantic import JsonValue

from rnnlm_tui.engine.trainer import StepResult
from rnnlm_tui.errors import ConfigError, InputError, RunStateError, StorageError
from rnnlm_tui.schema.config import TrainingConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.schema.protocol import Command, Setting, Verb
from rnnlm_tui.schema.steering import JournalledChange
from rnnlm_tui.worker.recorder import Recorder
from tests.unit.worker.test_loop import STEPS, Bench

Asked = tuple[Verb, Mapping[str, object]]


def ask_at(bench: Bench, asked: Mapping[int, Sequence[Asked]]) -> None:
    """Send these commands after these steps."""
    train_step = bench.trainer.train_step

    def step() -> StepResult:
        result = train_step()
        for verb, arguments in asked.get(bench.trainer.step, ()):
            bench.ask(verb, **arguments)
        return result

    bench.trainer.train_step = step  # type: ignore[method-assign]


def facts(bench: Bench) -> Facts:
    with bench.read() as reader:
        return reader.facts()


def test_every_setting_acts_from_the_next_step_on(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder, every=10)
    changes = {
        "optimizer.learning_rate": 0.5,
        "optimizer.max_grad_norm": 0.25,
        "model.dropout": 0.3,
        "training.max_steps": 30,
        "training.patience": 0,
        "evaluation.every": 7,
        "evaluation.prompts": ["We"],
        "checkpoint.every": 0,
    }
    ask_at(bench, {12: [("set", {"changes": changes, "who": "alex, pts/3"})]})
    assert bench.training.train() == "finished"
    (answer,) = bench.inbox_answers
    assert answer.ok, answer.error
    assert answer.change is not None
    assert (answer.change.step, answer.change.number) == (12, 1)
    assert bench.trainer.model.dropout == 0.3
    assert bench.trainer.update.max_grad_norm == 0.25
    assert bench.steps()[-1] == 30
    assert bench.evaluator.evaluated == [10, 14, 21, 28, 30]
    assert bench.checkpointer.saved[:2] == [(10, 3.0), (12, None)], "a checkpoint comes first"
    with bench.read() as reader:
        rates = {row.step: row.learning_rate for row in reader.recent_steps(STEPS)}
        (change,) = reader.changes()
    assert (rates[12], rates[13]) == (0.01, 0.5)
    assert change.who == "alex, pts/3"
    assert {one.path: one.new for one in change.settings} == {
        path: value for path, value in changes.items() if path != "training.patience"
    }
    assert facts(bench).max_steps == 30
    assert facts(bench).settings["model.dropout"] == 0.3
    assert ("setting", "model.dropout 0.1 → 0.3") in bench.events()


def test_undo_restores_the_values_as_a_new_change(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    first, second = {"model.dropout": 0.3}, {"model.dropout": 0.5, "checkpoint.every": 4}
    ask_at(
        bench,
        {
            3: [("undo", {})],
            5: [("set", {"changes": first}), ("set", {"changes": second})],
            8: [("undo", {}), ("undo", {}), ("undo", {})],
        },
    )
    bench.training.train()
    early, *_, refused = bench.inbox_answers
    assert early.error == "nothing to undo: no setting was changed"
    assert refused.error == "nothing to undo: all changes are undone"
    assert bench.trainer.model.dropout == 0.1
    with bench.read() as reader:
        journal = reader.changes()
    assert [(one.number, one.step, one.undoes) for one in journal] == [
        (1, 5, 0),
        (2, 5, 0),
        (3, 8, 2),
        (4, 8, 1),
    ]
    assert [one.text for one in reversed(reader_events(bench)) if one.kind == "setting"][-2:] == [
        "checkpoint.every 4 → 0 (undo)",
        "model.dropout 0.3 → 0.1 (undo)",
    ]


def reader_events(bench: Bench) -> Sequence[EventRow]:
    with bench.read() as reader:
        return reader.events()


def test_a_longer_run_trains_on_even_while_it_is_about_to_finish(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder)
    save = bench.checkpointer.save_at_end
    longer = STEPS + 5

    def save_at_end(validation_loss: float | None) -> bool:
        if bench.inbox_answers:
            return save(validation_loss)
        bench.ask("set", changes={"training.max_steps": longer})
        return False

    bench.checkpointer.save_at_end = save_at_end  # type: ignore[method-assign]
    assert bench.training.train() == "finished"
    assert bench.steps()[-1] == longer
    assert bench.evaluator.tested == [longer]


@pytest.mark.parametrize("full", [True, False])
def test_without_a_checkpoint_first_nothing_changes(
    tmp_path: Path, recorder: Recorder, full: bool
) -> None:
    bench = Bench(tmp_path, recorder)
    bench.trainer.train_step()
    bench.checkpointer.disk_full = full
    if not full:
        bench.trainer.model.output.bias.data[0] = float("nan")
    with pytest.raises((StorageError, RunStateError), match="nothing was changed: no checkpoint"):
        bench.steering.change({"model.dropout": 0.4})
    assert bench.trainer.model.dropout == 0.0
    assert facts(bench).settings == {}


@pytest.mark.parametrize("changes", [None, {}])
def test_a_change_of_nothing_is_refused(
    tmp_path: Path, recorder: Recorder, changes: dict[str, JsonValue] | None
) -> None:
    command = Command(id="a", verb="set", changes=changes)
    with pytest.raises(InputError, match="needs changes"):
        Bench(tmp_path, recorder).training.carry_out(command)


def test_a_refused_change_of_several_keys_changes_none(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    with pytest.raises(ConfigError):
        bench.steering.change({"model.dropout": 0.4, "evaluation.every": -3})
    assert bench.trainer.model.dropout == 0.0
    assert bench.checkpointer.saved == []


def journalled(number: int, step: int, path: str, value: float) -> JournalledChange:
    setting = Setting(path=path, old=None, new=value)
    return JournalledChange(number=number, step=step, settings=(setting,), time=number)


def test_after_a_resume_further_back_changes_are_repeated_at_their_steps(
    tmp_path: Path, recorder: Recorder
) -> None:
    journal = [
        journalled(1, 0, "optimizer.learning_rate", 0.5),
        journalled(2, 6, "optimizer.learning_rate", 0.25),
        journalled(3, 9, "training.max_steps", 12),
    ]
    bench = Bench(tmp_path, recorder, journal=journal)
    bench.training.train()
    with bench.read() as reader:
        rates = [row.learning_rate for row in reader.recent_steps(STEPS)]
    assert rates == [0.5] * 6 + [0.25] * 6
    assert (
        "setting",
        "optimizer.learning_rate 0.5 → 0.25 (repeated after the resume)",
    ) in bench.events()


def test_a_new_change_takes_the_place_of_those_at_later_steps(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, journal=[journalled(1, 9, "optimizer.learning_rate", 0.25)])
    ask_at(bench, {4: [("set", {"changes": {"training.max_steps": 20}})]})
    bench.training.train()
    (answer,) = bench.inbox_answers
    assert answer.change is not None
    assert (answer.change.number, answer.change.discards) == (2, (1,))
    with bench.read() as reader:
        assert {row.learning_rate for row in reader.recent_steps(STEPS)} == {0.01}


def test_a_run_stops_after_its_epoch(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    epoch = bench.trainer.batches.steps_per_epoch
    ask_at(bench, {2: [("stop_after", {"after": "epoch"})]})
    assert bench.training.train() == "stopped"
    (answer,) = bench.inbox_answers
    assert answer.text == f"stops after this epoch, at step {epoch}"
    assert bench.trainer.step == epoch
    assert bench.checkpointer.saved[-1][0] == epoch
    assert facts(bench).stop_after is None


def test_a_run_stops_after_the_next_evaluation(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder, every=10)
    ask_at(bench, {12: [("stop_after", {"after": "evaluation"})]})
    assert bench.training.train() == "stopped"
    assert bench.trainer.step == 20
    assert bench.evaluator.evaluated == [10, 20]
    assert bench.checkpointer.saved[-1] == (20, 3.0)


def test_a_planned_stop_can_be_cancelled(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    ask_at(
        bench,
        {2: [("stop_after", {"after": "epoch"})], 3: [("stop_after", {}), ("stop_after", {})]},
    )
    assert bench.training.train() == "finished"
    assert [answer.text for answer in bench.inbox_answers[1:]] == [
        "keeps training: no stop is planned any more",
        "no stop was planned",
    ]


def test_a_stop_after_an_evaluation_needs_one(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    with pytest.raises(RunStateError, match=r"evaluation\.every is 0"):
        bench.training.stop_after("evaluation")


def test_a_planned_stop_waits_for_room_on_the_disk(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    epoch = bench.trainer.batches.steps_per_epoch
    ask_at(bench, {2: [("stop_after", {"after": "epoch"})]})
    bench.checkpointer.disk_full = True
    save = bench.checkpointer.save_at_end

    def save_at_end(validation_loss: float | None) -> bool:
        bench.checkpointer.disk_full = False
        return save(validation_loss)

    bench.checkpointer.save_at_end = save_at_end  # type: ignore[method-assign]
    assert bench.training.train() == "finished", "it trains on"
    assert any("stop failed" in text for _, text in bench.events())
    assert bench.trainer.step == STEPS > epoch


def test_patience_can_be_turned_on_and_off(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder, every=5, training=TrainingConfig())
    ask_at(bench, {17: [("set", {"changes": {"training.patience": 2}})]})
    assert bench.training.train() == "finished"
    assert bench.trainer.step < STEPS
    again = Bench(tmp_path, recorder, every=5, training=TrainingConfig(patience=2))
    ask_at(again, {7: [("set", {"changes": {"training.patience": 0}})]})
    again.training.train()
    assert again.trainer.step == STEPS
