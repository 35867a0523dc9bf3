"""The app on a run that trains forever or has ended, for terminals that change size: `python -m
tests.faults.resizing_app RUN`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from rnnlm_tui.client.monitor import RunSnapshot
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.fakes import MOST, FakeMonitor, FakeServices, make_snapshot

TRAINS, ENDED = "plain-otter", "old-otter"
STEPS_A_LOOK = 37


@dataclass
class Growing(FakeMonitor):
    """Returns a new snapshot at every poll."""

    step: int = 100

    def poll(self) -> RunSnapshot | None:
        if self.name != TRAINS:
            return super().poll()
        self.step = self.step % (MOST - STEPS_A_LOOK) + STEPS_A_LOOK
        self.services.snapshots[self.name] = make_snapshot("running", self.step, name=self.name)
        return super().poll()


class Growth(FakeServices):
    """A run that trains, and an old one."""

    def monitor(
        self, run: RunDirectory, *, report: Callable[[int, int], None] | None = None
    ) -> Growing:
        return Growing(self, run.name)


def main() -> int:
    """Run the app; the exit code."""
    snapshot = make_snapshot("running", 100, name=TRAINS)
    old = make_snapshot("finished", MOST, name=ENDED)
    services = Growth(snapshot, old)
    with services.installed():
        marked: dict[str, object] = {"marked": [TRAINS, ENDED]}
        app = RnnlmApp(services.run(sys.argv[1]), "train", fps=20.0, settings=marked)
        return cast(int, app.run())


if __name__ == "__main__":
    sys.exit(main())
