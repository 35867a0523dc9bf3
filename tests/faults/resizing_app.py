"""The app on a run that trains forever, beside one that has ended, for terminals that change size:
`python -m tests.faults.resizing_app`."""

from __future__ import annotations

import sys
from typing import cast

import pytest

from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.tui.app import RnnlmApp
from tests.homes import trained, training
from tests.tui.demo_run import CARD, use_machine
from tests.tui.fakes import FakeSampler

TRAINS, ENDED = "plain-otter", "old-otter"
FOREVER, STEPS_A_LOOK = 1_000_000, 11


def main() -> int:
    """Run the app; the exit code."""
    trained(ENDED)
    marked: dict[str, object] = {"marked": [TRAINS, ENDED]}
    steps, poll = iter(range(2_400, FOREVER, STEPS_A_LOOK)), RunMonitor.poll
    with training(TRAINS, most=FOREVER) as train_to, pytest.MonkeyPatch.context() as patch:

        def growing(monitor: RunMonitor) -> RunSnapshot | None:
            train_to(next(steps))
            return poll(monitor)

        patch.setattr(RunMonitor, "poll", growing)
        patch.setattr("rnnlm_tui.client.sampler.SamplerClient", lambda **_: FakeSampler())
        use_machine(patch, CARD)
        app = RnnlmApp(find_run(TRAINS), "train", fps=20.0, settings=marked)
        return cast(int, app.run())


if __name__ == "__main__":
    sys.exit(main())
