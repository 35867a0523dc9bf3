"""The record of a run's exports."""

from __future__ import annotations

from dataclasses import replace

from rnnlm_tui.store.exports import MOST_EXPORTS, Export, add_export, exported_steps, exports_file
from rnnlm_tui.store.paths import RunDirectory

ONE = Export(100, "hf", "/somewhere/otter-\udcff", 1_000.0)


def test_exports_are_read_back_in_order_and_name_the_exported_steps(run: RunDirectory) -> None:
    assert exported_steps(run) == frozenset()
    others = [replace(ONE, step=200), replace(ONE, format="onnx")]
    for export in (ONE, *others):
        add_export(run, export)
    assert exports_file(run).read().value == (ONE, *others)
    assert exported_steps(run) == {100, 200}


def test_an_export_to_the_same_folder_is_recorded_once(run: RunDirectory) -> None:
    again = replace(ONE, time=2_000.0)
    for export in (ONE, replace(ONE, step=200), again):
        add_export(run, export)
    assert exports_file(run).read().value == (replace(ONE, step=200), again)


def test_only_the_newest_exports_are_kept(run: RunDirectory) -> None:
    exports_file(run).write(tuple(replace(ONE, step=step) for step in range(MOST_EXPORTS)))
    add_export(run, replace(ONE, step=-1))
    found = exports_file(run).read().value
    assert len(found) == MOST_EXPORTS
    assert (found[0].step, found[-1].step) == (1, -1)
