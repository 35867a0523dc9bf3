"""A run is carried to another machine in the middle of its training, and goes on there."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.client.control import launch, send
from rnnlm_tui.store.archive import read_archive, write_archive
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.verify import check_checkpoints
from tests.integration.runs import start, tiny_config, wait_for_step, wait_until_ended

pytestmark = pytest.mark.usefixtures("warm")


def losses(run: RunDirectory) -> list[tuple[int, float]]:
    """Every step of a run with its loss."""
    with RunReader(run) as reader:
        return [(row.step, row.loss) for row in reader.steps()]


def test_an_archived_run_goes_on_elsewhere_as_if_it_had_never_moved(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(text, {"training.max_steps": 140})
    whole = start(config, "whole")
    assert wait_until_ended(whole).status == "finished"
    run = start(config, "moved")
    wait_for_step(run, 45)
    send(run, "pause")
    assert write_archive(run, tmp_path / "live.tar.zst").live
    send(run, "stop")
    wait_until_ended(run)

    monkeypatch.setenv("RNNLM_TUI_HOME", str(tmp_path / "elsewhere"))
    copy, head = read_archive(tmp_path / "live.tar.zst")
    assert head.step >= 40
    launch(copy)
    assert wait_until_ended(copy).status == "finished"
    assert losses(copy) == losses(whole)
    assert [check.problem for check in check_checkpoints(copy) if check.problem] == []
    with RunReader(copy) as reader:
        assert [row.start_step for row in reader.attempts()] == [0, head.step]
