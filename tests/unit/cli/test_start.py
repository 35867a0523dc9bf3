"""How `train` and `resume` show a run: in the app, as progress lines, or as the options say."""

from __future__ import annotations

import gc
from time import monotonic, sleep
from typing import NoReturn

import pytest
import typer

from rnnlm_tui.cli.start import open_app
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run
from tests.unit.cli.calls import Verbs
from tests.unit.client.logs import record
from tests.unit.store.rows import event_row, write_model

TRAIN = "train --name plain-otter --set corpus.source=elman"
RESUME = "resume plain-otter"


def test_garbage_collection_is_enabled_soon_after_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = list[bool]()

    def run_app(*_given: object, **_options: object) -> int:
        looked.append(gc.isenabled())
        end = monotonic() + 20
        while not gc.isenabled() and monotonic() < end:
            sleep(0.01)
        looked.append(gc.isenabled())
        return 0

    monkeypatch.setattr("rnnlm_tui.cli.start.check_terminal", lambda: None)
    monkeypatch.setattr("rnnlm_tui.cli.start.GARBAGE_SECONDS", 0.2)
    monkeypatch.setattr("rnnlm_tui.tui.app.run_app", run_app)
    with pytest.raises(SystemExit):
        open_app(None)
    assert looked == [False, True]
    monkeypatch.setattr("rnnlm_tui.tui.app.run_app", lambda *_given, **_options: 0)
    with pytest.raises(SystemExit):
        open_app(None)
    assert gc.isenabled()


class Shown:
    """Records how runs were shown."""

    def __init__(self) -> None:
        self.ways: list[str] = []

    def app(self, run: RunDirectory, pane: str) -> NoReturn:
        self.ways.append(f"app on {run.name}, {pane}")
        raise typer.Exit(0)

    def progress(self, run: RunDirectory, *, json: bool, attempt: int = 0) -> int:
        self.ways.append(f"progress of {run.name}{' as JSON' if json else ''}")
        return 0


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Record starts of workers and of the app instead of doing them."""
    found = Shown()
    monkeypatch.setattr("rnnlm_tui.cli.start.open_app", found.app)
    monkeypatch.setattr("rnnlm_tui.cli.start.check_terminal", lambda: None)
    monkeypatch.setattr("rnnlm_tui.cli.train.follow_run", found.progress)
    monkeypatch.setattr("rnnlm_tui.client.start.launch", lambda run: 4711)
    monkeypatch.setattr("rnnlm_tui.client.start.discard_refused", lambda run: None)
    monkeypatch.setattr("rnnlm_tui.client.start.wait_for_training", lambda run, seconds, **_: None)
    monkeypatch.setattr("rnnlm_tui.client.start.resume", lambda run: 4711)
    return found


def stopped(name: str = "plain-otter") -> RunDirectory:
    """Create a stopped run with its best checkpoint at step 20 and a later one at 40."""
    directory = create_run(RunConfig(), name)
    for step, loss in ((20, 3.0), (40, 4.0)):
        write_checkpoint(directory, step, write_model, None, {"validation_loss": loss})
    record(directory, event_row("stopped", 40))
    return directory


@pytest.mark.parametrize(
    ("terminal", "options", "way"),
    [
        (True, "", ["app on plain-otter, train"]),
        (False, "", ["progress of plain-otter"]),
        (True, "--follow", ["progress of plain-otter"]),
        (True, "--detach", []),
        (False, "--detach", []),
        (True, "--follow --json", ["progress of plain-otter as JSON"]),
        (True, "--detach --json", []),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["train", "resume"])
def test_train_and_resume_show_a_run_the_same_way(
    name: str,
    terminal: bool,
    options: str,
    way: list[str],
    shown: Shown,
    monkeypatch: pytest.MonkeyPatch,
    verb: Verbs,
) -> None:
    if name == "resume":
        stopped()
    monkeypatch.setattr("rnnlm_tui.cli.output.interactive", lambda: terminal)
    out, _ = verb(f"{TRAIN if name == 'train' else RESUME} {options}")
    assert shown.ways == way
    if options == "--detach":
        assert out == "plain-otter\n", "its name, for scripts; what one can do with it is on stderr"


def test_resume_as_json_prints_one_object_and_exits(shown: Shown, verb: Verbs) -> None:
    stopped()
    assert verb.json(RESUME)["run"] == "plain-otter"
    assert shown.ways == []


@pytest.mark.usefixtures("shown")
def test_a_run_without_checkpoint_means_its_best_in_train_and_sample(verb: Verbs) -> None:
    stopped()
    for address, step in (("plain-otter", 20), ("plain-otter@last", 40), ("plain", 20)):
        name, parent = f"child-{address.replace('@', '-')}", f"plain-otter@{step}"
        out, err = verb(f"train --from {address} --name {name} --detach")
        assert out == f"{name}\n"
        assert summarize(find_run(name)).parent == parent
        assert (f"starting from {parent}" in err) == ("@" not in address), (
            "the default checkpoint is reported"
        )
    create_run(RunConfig(), "fresh")
    err = verb("train --from fresh --name none --detach", code=2)[1]
    assert "fresh has no checkpoint yet" in err
