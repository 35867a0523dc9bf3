"""Damaged config files."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.cli.main import run as run_verb
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.runs import create_run

pytestmark = pytest.mark.fault(
    "an endless prompt, a corpus without text, an impossible config or name"
)


def test_a_damaged_config_is_reported_and_other_runs_are_listed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    create_run(RunConfig(), "whole")
    for name, content in (
        ("torn", b"[model"),
        ("wrong", b"[model]\nhidden_size = -1\n"),
        ("binary", b"\xff\0\xfe"),
        ("long", b"x = " + b"9" * 5_000),
    ):
        create_run(RunConfig(), name).config_path.write_bytes(content)
        assert run_verb(["show", name]) == 5
        assert "config.toml" in capfd.readouterr().err
    assert run_verb(["runs", "--json"]) == 0
    assert "whole" in {summary["run"] for summary in json.loads(capfd.readouterr().out)}
