"""`show --health`."""

from __future__ import annotations

import re

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.store.runs import create_run
from tests.unit.cli.calls import Verbs
from tests.unit.cli.test_runs import trained_run
from tests.unit.client.logs import record


def test_health_has_a_line_a_figure_and_advice_or_says_why_there_is_none(verb: Verbs) -> None:
    trained_run()
    assert "its evaluations have none" in verb("show brisk --health").out
    run = create_run(RunConfig(), "plain-otter")
    assert "no evaluation yet" in verb("show plain --health").out
    figures = {"saturated": 0.9, "dead": 0.0, "memory": 2e3}
    record(run, *(HealthRow(1, step, {"layer 2": figures}, 0.0) for step in (500, 1_000)))
    lines = verb("show plain --health").out.splitlines()
    assert lines[0] == "2 of 3 out of range at step 1,000"
    assert re.match(r"! layer 2 +saturated units +90 % +up to 85 %", lines[1])
    assert lines[2].strip() == "→ lower the learning rate or init_scale"
    answer = verb.json("show plain --health")
    assert [one["step"] for one in answer["evaluations"]] == [500, 1_000]
    assert len(answer["advice"]) == 2
