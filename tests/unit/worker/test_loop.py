"""The loop of a run with a real trainer and a disk that can be full: what commands and faults do to
it."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
import pytest
import torch

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.engine.batches import StreamBatches
from rnnlm_tui.engine.device import out_of_memory
from rnnlm_tui.engine.trainer import StepResult, Trainer
from rnnlm_tui.errors import DeviceError, RnnlmError, StorageError
from rnnlm_tui.schema.config import CheckpointConfig, EvaluationConfig, RunConfig, TrainingConfig
from rnnlm_tui.schema.estimates import Schedule
from rnnlm_tui.schema.metrics import EvaluationRow, EventKind, SampleRow
from rnnlm_tui.schema.protocol import Command, CommandResult, Verb
from rnnlm_tui.schema.steering import JournalledChange
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import read_lock
from rnnlm_tui.worker.checkpointing import Checkpointer, Moment
from rnnlm_tui.worker.control import PendingCommand
from rnnlm_tui.worker.evaluation import Evaluator
from rnnlm_tui.worker.loop import PAUSE_SECONDS, TrainingRun
from rnnlm_tui.worker.recorder import Recorder
from rnnlm_tui.worker.steering import Steering
from tests.unit.engine.builders import built_model
from tests.unit.worker.stores import evaluation, session_of

STEPS = 40


class FakeEvaluator(Evaluator):
    """Every evaluation finds the same loss, or the next of `losses`; `during` is called in the
    middle of it."""

    evaluated: list[int]
    tested: list[int]
    losses: list[float]
    during: Callable[[], None]

    def _measure_during_run(self) -> tuple[EvaluationRow, ...]:
        self.during()
        self.evaluated.append(self._trainer.step)
        return (evaluation(self._trainer.step, self.losses.pop(0) if self.losses else 3.0),)

    def _measure_at_end(self) -> tuple[EvaluationRow, ...]:
        self.tested.append(self._trainer.step)
        return (EvaluationRow(1, self._trainer.step, "test", "test", 3.1, 10, 1.0, 0.1, 0.0),)

    def continue_prompts(self) -> tuple[SampleRow, ...]:
        return ()


class FakeCheckpointer(Checkpointer):
    """Remembers what was saved; a full disk saves nothing."""

    saved: list[tuple[int, float | None]]
    labelled: list[int]
    disk_full = False
    before_writing: Callable[[], None] = staticmethod(lambda: None)

    def _write(self, moment: Moment, *, last: bool) -> str:
        self.before_writing()
        if self.disk_full:
            raise StorageError("can't write the checkpoint: no space left", hint="free some space")
        self.saved.append((moment.step, cast(float | None, moment.facts["validation_loss"])))
        return f"checkpoints/step-{moment.step:09d}"

    def label(self) -> None:
        self.finish()
        if self.is_current:
            self.labelled.append(self._trainer.step)


class Bench:
    """A run to be trained in this thread, and commands from others."""

    def __init__(
        self,
        directory: Path,
        recorder: Recorder,
        *,
        every: int = 0,
        saved_every: int | None = None,
        training: TrainingConfig | None = None,
        evaluations: Sequence[EvaluationRow] = (),
        journal: Sequence[JournalledChange] = (),
        late: bool = False,
    ) -> None:
        """`every`: steps between evaluations and, unless `saved_every` is given, between
        checkpoints; `late`: after the first step, losses are
        only read when something else needs them."""
        self.directory = RunDirectory(directory)
        self.inbox_answers: list[CommandResult] = []
        tokens = np.random.default_rng(0).integers(0, 11, 500).astype(np.uint16)
        model = built_model(vocab_size=11, embedding_dim=4, hidden_size=4, num_layers=1)
        self.trainer = Trainer(
            model, StreamBatches(tokens, 4, 6), max_steps=STEPS, schedule=Schedule(0.01)
        )
        self.recorder = recorder
        training = training or TrainingConfig()
        checkpoint = CheckpointConfig(every=every if saved_every is None else saved_every)
        config = RunConfig(
            evaluation=EvaluationConfig(every=every, health=False),
            checkpoint=checkpoint,
            training=training,
        )
        run = RunDirectory(directory.parent / "plain-otter")
        session = session_of(
            run, config, recorder, self.trainer, None, list(evaluations), late=late
        )
        self.attempt = session.attempt
        self.inbox, self.commands = self.attempt.inbox, self.attempt.commands
        self.checkpointer = FakeCheckpointer(session, facts={}, parent=None)
        self.checkpointer.saved, self.checkpointer.labelled = [], []
        self.evaluator = FakeEvaluator(session, self.checkpointer, cast(TextCodec, None))
        self.evaluator.evaluated, self.evaluator.tested, self.evaluator.losses = [], [], []
        self.evaluator.during = lambda: None
        self.steering = Steering(session, self.checkpointer, self.evaluator, journal=journal)
        self.training = TrainingRun(session, self.checkpointer, self.evaluator, self.steering)
        self.commands.target = self.training

    def ask(self, verb: Verb, **arguments: object) -> None:
        command = Command.model_validate(
            {
                "id": uuid4().hex,
                "verb": verb,
                **arguments,
            }
        )
        self.inbox.deliver(PendingCommand(command, self.inbox_answers.append))

    def read(self) -> RunReader:
        """A reader of all that was added, as far as the disk takes it."""
        with suppress(StorageError):
            self.recorder.flush()
        return RunReader(self.directory)

    def events(self) -> list[tuple[str, str]]:
        with self.read() as reader:
            return [(event.kind, event.text) for event in reversed(reader.events())]

    def marks(self, kind: EventKind) -> list[tuple[int, str]]:
        with self.read() as reader:
            return [
                (event.step, event.text)
                for event in reversed(reader.events())
                if event.kind == kind
            ]

    def steps(self) -> list[int]:
        with self.read() as reader:
            return [row.step for row in reader.steps()]

    def activity(self) -> str:
        return read_lock(self.directory.lock_path).page.activity


@pytest.mark.parametrize(("every", "evaluated"), [(20, [20, 40]), (0, [40])])
def test_the_end_evaluates_saves_and_tests_once(
    tmp_path: Path, recorder: Recorder, every: int, evaluated: list[int]
) -> None:
    bench = Bench(tmp_path, recorder, every=every)
    assert bench.training.train() == "finished"
    assert bench.evaluator.evaluated == evaluated
    assert bench.checkpointer.saved == [(step, 3.0) for step in evaluated]
    assert bench.evaluator.tested == [40]
    assert bench.steps() == list(range(1, STEPS + 1))


def test_pending_snapshots_give_way_to_a_later_stop(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    bench.ask("snapshot")
    bench.ask("stop")
    assert bench.training.train() == "stopped"
    assert [(answer.ok, answer.error) for answer in bench.inbox_answers] == [
        (False, "no snapshot: a stop is pending")
    ]


def test_a_stop_before_the_first_step_saves_nothing(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    bench.ask("stop")
    assert bench.training.train() == "stopped"
    bench.commands.answer_stops()
    assert [(answer.ok, answer.checkpoint) for answer in bench.inbox_answers] == [(True, "")]
    assert bench.checkpointer.saved == []


@pytest.mark.parametrize(("every", "step"), [(20, 20), (0, 40)], ids=["periodic", "last"])
def test_a_stop_interrupts_an_evaluation_and_saves(
    tmp_path: Path, recorder: Recorder, every: int, step: int
) -> None:
    bench = Bench(tmp_path, recorder, every=every)

    def stop_comes() -> None:
        bench.ask("stop")
        bench.inbox.check_stop()

    bench.evaluator.during = stop_comes
    assert bench.training.train() == "stopped"
    assert (bench.evaluator.evaluated, bench.evaluator.tested) == ([], [])
    assert bench.checkpointer.saved == [(step, None)]
    assert (("note", "evaluation interrupted by stop") in bench.events()) == (every > 0)


def test_a_stop_that_cannot_be_saved_is_refused_and_training_continues(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, every=20)

    def stop_comes() -> None:
        bench.checkpointer.disk_full = bench.trainer.step < 40
        if bench.checkpointer.disk_full:
            bench.ask("stop")

    bench.evaluator.during = stop_comes
    assert bench.training.train() == "finished"
    hint = f"free some space; `kill -9 {os.getpid()}` ends the run anyway, back at step 0"
    assert [(answer.ok, answer.status, answer.hint) for answer in bench.inbox_answers] == [
        (False, "running", hint)
    ]


def lose_the_loss(bench: Bench, first: int, last: int = STEPS) -> None:
    """The loss and so the gradient of these steps is NaN."""
    forward = bench.trainer.model.forward

    def broken(*arguments: object, **settings: object) -> tuple[torch.Tensor, object]:
        loss, state = forward(*arguments, **settings)  # type: ignore[arg-type]
        return (loss * math.nan if first <= bench.trainer.step + 1 <= last else loss), state

    bench.trainer.model.forward = broken  # type: ignore[method-assign, assignment]


def weights(bench: Bench) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in bench.trainer.model.parameters()]


def test_all_losses_are_here_before_an_evaluation_a_checkpoint_a_sample_and_a_pause(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, every=10, saved_every=15, late=True)
    seen: list[tuple[str, int]] = []

    def note(what: str) -> None:
        assert bench.steps()[-1:] == [bench.trainer.step]
        seen.append((what, bench.trainer.step))

    take, train_step = bench.checkpointer._moment, bench.trainer.train_step

    def moment(validation_loss: float | None) -> Moment:
        note("checkpoint")
        return take(validation_loss)

    def step() -> StepResult:
        result = train_step()
        if result.step == 12:
            bench.ask("pause")
            bench.ask("sample")
            bench.ask("resume")
        if result.step == 37:
            bench.ask("stop")
        return result

    bench.evaluator.during = lambda: note("evaluation")
    bench.evaluator.continue_prompts = lambda: note("sample") or ()  # type: ignore[method-assign, func-returns-value]
    bench.checkpointer._moment = moment  # type: ignore[method-assign]
    bench.trainer.train_step = step  # type: ignore[method-assign]
    assert bench.training.train() == "stopped"
    assert [answer.ok for answer in bench.inbox_answers] == [True] * 3
    bench.commands.answer_stops()
    assert seen == [
        ("evaluation", 10),
        ("sample", 10),
        ("checkpoint", 10),
        ("sample", 12),
        ("checkpoint", 15),
        ("evaluation", 20),
        ("sample", 20),
        ("evaluation", 30),
        ("sample", 30),
        ("checkpoint", 30),
        ("checkpoint", 37),
    ]
    assert bench.steps() == list(range(1, 38))


@pytest.mark.parametrize("late", [False, True])
def test_non_finite_losses_end_the_run_with_the_last_finite_weights_saved(
    tmp_path: Path, recorder: Recorder, late: bool
) -> None:
    bench, good = (
        Bench(tmp_path, recorder, training=TrainingConfig(max_bad_steps=5), late=late),
        Bench(tmp_path, recorder),
    )
    lose_the_loss(bench, first=11)
    with pytest.raises(
        RnnlmError,
        match=r"not finite for 5 steps in a row up to step 15 \(loss nan, gradient nan\)",
    ) as caught:
        bench.training.train()
    step = bench.trainer.step
    assert 15 < step <= STEPS if late else step == 15, "late losses come a block later"
    assert (
        f"no update was done after step 10, and the checkpoint of step {step} has its weights"
        f" (checkpoints/step-{step:09d})" in caught.value.message
    )
    config = runs_dir() / "plain-otter" / "config.toml"
    assert (
        f"`rnnlm-tui train --config {config} --set optimizer.learning_rate=0.0015`"
        in caught.value.hint
    )
    # Without a validation loss it is never the best.
    assert bench.checkpointer.saved == [(step, None)]
    assert bench.steps() == list(range(1, step + 1))
    assert bench.marks("skipped") == [(11, "update skipped: loss nan, gradient nan")]
    for _ in range(10):
        good.trainer.train_step()
    assert all(map(torch.equal, weights(bench), weights(good)))


def test_a_few_non_finite_steps_are_logged_and_training_continues(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, training=TrainingConfig(max_bad_steps=5))
    lose_the_loss(bench, first=11, last=14)
    assert bench.training.train() == "finished"
    assert bench.marks("skipped") == [
        (11, "update skipped: loss nan, gradient nan"),
        (14, "4 updates in a row skipped, up to this one"),
    ]


def test_non_finite_weights_are_never_saved(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder, every=10)

    def overflow() -> None:
        with torch.no_grad():
            bench.trainer.model.output.bias.fill_(math.inf)

    bench.evaluator.during = overflow
    with pytest.raises(
        RnnlmError,
        match=r"not finite for 20 steps in a row up to step 30 .*: there is no checkpoint",
    ):
        bench.training.train()
    assert bench.checkpointer.saved == []
    assert ("note", "no checkpoint: not saved: the weights are not finite") in bench.events()


def test_a_run_with_non_finite_weights_can_be_stopped(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    with torch.no_grad():
        bench.trainer.model.output.bias.fill_(math.nan)
    bench.evaluator.during = bench.inbox.check_stop
    bench.trainer.train_step()
    bench.ask("stop")
    assert bench.training.train() == "stopped"
    assert bench.checkpointer.saved == []


def test_patience_ends_a_run_whose_validation_loss_stops_improving_and_saves_its_last_weights(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, every=5, saved_every=0, training=TrainingConfig(patience=2))
    bench.evaluator.losses = [3.0, 2.5, 2.6, 2.4, math.nan, 2.4]
    assert bench.training.train() == "finished"
    assert (bench.evaluator.evaluated, bench.evaluator.tested) == ([5, 10, 15, 20, 25, 30], [30])
    assert bench.checkpointer.saved == [(5, 3.0), (10, 2.5), (20, 2.4), (30, 2.4)]
    assert ("note", "stopping early: no better validation loss in 2 evaluations") in bench.events()


def test_a_run_whose_patience_ends_at_its_last_step_does_not_stop_early(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, every=20, training=TrainingConfig(patience=1))
    bench.evaluator.losses = [3.0, 3.0]
    assert bench.training.train() == "finished"
    assert bench.steps()[-1] == STEPS
    assert not any(text.startswith("stopping early") for _, text in bench.events())


def test_the_best_evaluation_so_far_saves_a_checkpoint(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder, every=5, saved_every=20)
    bench.evaluator.losses = [3.0, 2.5, 2.6, 2.4, 2.4, math.nan, 2.3, 2.2]
    assert bench.training.train() == "finished"
    assert bench.checkpointer.saved == [(5, 3.0), (10, 2.5), (20, 2.4), (35, 2.3), (40, 2.2)]


def test_earlier_attempts_count_for_the_best(tmp_path: Path, recorder: Recorder) -> None:
    before = [evaluation(0, 2.5)]
    bench = Bench(tmp_path, recorder, every=10, saved_every=0, evaluations=before)
    bench.evaluator.losses = [2.6, 2.4, 2.5, 2.5]
    assert bench.training.train() == "finished"
    assert bench.checkpointer.saved == [(20, 2.4), (40, 2.5)]


def test_an_evaluation_by_command_saves_the_best_once(tmp_path: Path, recorder: Recorder) -> None:
    bench = Bench(tmp_path, recorder)
    bench.evaluator.losses = [3.0, 2.0, 2.0, 2.5]
    bench.training.evaluate()  # before the first step there is nothing to save
    bench.trainer.train_step()
    bench.training.evaluate()
    bench.training.evaluate()
    bench.trainer.train_step()
    bench.training.evaluate()
    assert bench.checkpointer.saved == [(1, 2.0)]


def test_a_best_checkpoint_that_fails_is_logged_and_the_next_is_saved(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, every=10, saved_every=0)
    bench.evaluator.losses = [3.0, 2.5, 2.6, 2.6]
    bench.evaluator.during = lambda: setattr(
        bench.checkpointer, "disk_full", bench.trainer.step < 20
    )
    assert bench.training.train() == "finished"
    assert bench.checkpointer.saved == [(20, 2.5), (40, 2.6)]
    assert bench.marks("degraded") == [
        (10, "not saved: can't write the checkpoint: no space left; free some space")
    ]
    assert [step for step, _ in bench.marks("recovered")] == [20]


def test_patience_counts_evaluations_of_earlier_attempts(
    tmp_path: Path, recorder: Recorder
) -> None:
    before = [evaluation(step, loss) for step, loss in ((1, 2.0), (2, 2.5))]
    bench = Bench(
        tmp_path, recorder, every=10, training=TrainingConfig(patience=2), evaluations=before
    )
    assert bench.training.train() == "finished"
    assert bench.evaluator.evaluated == [10]


def test_a_pause_lasts_until_resume(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, recorder)
    take, waits = bench.inbox.take, set[tuple[str, float]]()

    def taken(*, wait: float) -> PendingCommand | None:
        waits.add((bench.training.status, wait))
        return take(wait=wait)

    monkeypatch.setattr(bench.inbox, "take", taken)
    bench.ask("pause")
    thread = threading.Thread(target=bench.training.train)
    thread.start()
    bench.ask("checkpoint")
    bench.ask("set", changes={"optimizer.learning_rate": 0.5})
    bench.ask("resume")
    thread.join(timeout=60)
    assert not thread.is_alive()
    pause, checkpoint, change, resume = bench.inbox_answers
    assert (pause.ok, pause.status, pause.step) == (True, "paused", 0)
    assert (checkpoint.ok, checkpoint.error) == (False, "nothing to save before the first step")
    assert (change.ok, resume.status) == (True, "running")
    assert bench.steps()[-1] == STEPS
    assert ("setting", "optimizer.learning_rate 0.003 → 0.5") in bench.events()
    assert waits == {("running", 0.0), ("paused", PAUSE_SECONDS)}, "steps don't wait, a pause does"


@pytest.mark.parametrize("verb", ["stop", "pause", "checkpoint"])
def test_a_command_waits_for_the_checkpoint_that_is_being_written(
    tmp_path: Path, recorder: Recorder, verb: Verb
) -> None:
    bench = Bench(tmp_path, recorder, saved_every=20)
    written, reached, train_step = threading.Event(), [], bench.trainer.train_step

    def step() -> StepResult:
        result = train_step()
        if result.step == 23:  # the checkpoint of step 20 has been begun
            assert bench.checkpointer.saved == []
            bench.ask(verb)
            threading.Timer(0.05, written.set).start()
            if verb == "pause":
                bench.ask("resume")
        elif result.step > 23:
            reached.append(list(bench.checkpointer.saved))
        return result

    bench.checkpointer.before_writing = lambda: assert_true(written.wait(60))
    bench.trainer.train_step = step  # type: ignore[method-assign]
    assert bench.training.train() == ("stopped" if verb == "stop" else "finished")
    bench.commands.answer_stops()
    assert [answer.ok for answer in bench.inbox_answers] == [True, True][: 1 + (verb == "pause")]
    last = [23] if verb == "stop" else [40] if verb == "pause" else [23, 40]
    assert [at for at, _ in bench.checkpointer.saved] == [20, *last]
    assert all(saved[0] == (20, None) for saved in reached), "no step came before its end"
    if verb != "pause":
        assert bench.inbox_answers[0].checkpoint == "checkpoints/step-000000023"


def test_the_end_and_a_failure_wait_for_the_checkpoint_that_is_being_written(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, saved_every=20)
    written, train_step = threading.Event(), bench.trainer.train_step

    def step() -> StepResult:
        if bench.trainer.step == 22:
            threading.Timer(0.05, written.set).start()
            raise out_of_memory("a step", (4, 6))
        return train_step()

    bench.checkpointer.before_writing = lambda: assert_true(written.wait(60))
    bench.trainer.train_step = step  # type: ignore[method-assign]
    with pytest.raises(DeviceError) as failed:
        bench.training.train()
    assert "step 20 is saved" in failed.value.hint
    assert bench.checkpointer.saved == [(20, None)]


def assert_true(value: bool) -> None:
    assert value


def test_an_evaluation_after_the_save_adds_its_loss_to_the_checkpoint(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder)
    bench.evaluator.during = lambda: None
    bench.trainer.train_step()
    assert bench.training.checkpoint() == "checkpoints/step-000000001"
    assert bench.training.checkpoint() == "checkpoints/step-000000001"
    assert bench.checkpointer.saved == [(1, None)]
    assert bench.training.evaluate().startswith("validation perplexity 20.09")
    assert bench.checkpointer.labelled == [1]


def test_readers_see_the_activity_and_after_one_inside_another_the_outer_one(
    tmp_path: Path, recorder: Recorder
) -> None:
    bench = Bench(tmp_path, recorder, every=20)
    seen = list[str]()

    def look() -> None:
        seen.append(bench.activity())

    def during() -> None:
        with suppress(RuntimeError), bench.attempt.activity("saving"):
            look()
            raise RuntimeError
        look()

    bench.evaluator.during = during
    assert bench.training.train() == "finished"
    look()
    assert seen == ["saving", "evaluating"] * 2 + [""]
