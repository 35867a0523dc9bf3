"""The report of `bench` as JSON."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rnnlm_tui.bench.report import BenchReport
from tests.fakes.bench_report import sample_report


def test_a_report_is_the_same_after_a_way_through_json() -> None:
    report = sample_report()
    assert BenchReport.model_validate_json(report.model_dump_json()) == report


def test_a_report_is_frozen_and_knows_its_fields() -> None:
    report = sample_report()
    with pytest.raises(ValidationError):
        report.preset = "demo"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        BenchReport.model_validate({**report.model_dump(), "speed": 3})
