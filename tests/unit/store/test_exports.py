"""The record of a run's exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.exports import (
    MOST_EXPORTS,
    Export,
    add_export,
    exported_steps,
    exports_path,
    read_exports,
)
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run

ONE = Export(100, "hf", "/somewhere/otter", 1_000.0)


@pytest.fixture
def run() -> RunDirectory:
    return create_run(RunConfig(), "plain-otter")


def test_exports_are_read_back_in_order_and_name_the_exported_steps(run: RunDirectory) -> None:
    assert read_exports(run) == ()
    others = [replace(ONE, step=200), replace(ONE, format="onnx")]
    for export in (ONE, *others):
        add_export(run, export)
    assert read_exports(run) == (ONE, *others)
    assert exported_steps(run) == {100, 200}


def test_an_export_to_the_same_folder_is_recorded_once(run: RunDirectory) -> None:
    again = replace(ONE, time=2_000.0)
    for export in (ONE, replace(ONE, step=200), again):
        add_export(run, export)
    assert read_exports(run) == (replace(ONE, step=200), again)


def test_only_the_newest_exports_are_kept(run: RunDirectory) -> None:
    values = ",".join(
        f'{{"step": {step}, "format": "hf", "folder": "f", "time": 1}}'
        for step in range(MOST_EXPORTS)
    )
    exports_path(run).write_text(f"[{values}]")
    add_export(run, ONE)
    found = read_exports(run)
    assert len(found) == MOST_EXPORTS
    assert (found[0].step, found[-1]) == (1, ONE)


@pytest.mark.parametrize(
    "content", ["", "{", "[]]", "[1]", '[{"step": "x"}]', "[" * 10_000, '[{"step": 1e999}]', "\0"]
)
def test_an_invalid_file_counts_as_empty_and_is_kept_aside(content: str, run: RunDirectory) -> None:
    exports_path(run).write_text(content)
    assert read_exports(run) == ()
    add_export(run, ONE)
    assert read_exports(run) == (ONE,)
    assert exports_path(run).with_name("exports.json.unusable").read_text() == content


def test_a_link_is_never_followed(run: RunDirectory, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    exports_path(run).symlink_to(other)
    assert read_exports(run) == ()
    add_export(run, ONE)
    assert other.read_text() == "[]"
    assert read_exports(run) == (ONE,)
