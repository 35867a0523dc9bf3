"""A worker without torch: `python worker.py BEHAVIOUR RUN-DIRECTORY` takes the lock, opens an
attempt and answers commands."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from rnnlm_tui.schema.metrics import AttemptRow, EventKind, EventRow
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.locks import RunLock, boot_id, host_name
from rnnlm_tui.worker.commands import Inbox
from rnnlm_tui.worker.control import ControlServer


def main() -> None:
    behaviour, run = sys.argv[1], RunDirectory(Path(sys.argv[2]))
    if behaviour == "dies":
        sys.exit("ImportError: libtorch is missing")
    inbox, stops = Inbox(), []
    server = ControlServer(
        run.socket_path,
        status=lambda command: CommandResult(id=command.id, ok=True, status="running"),
        deliver=inbox.deliver,
    )
    process = os.getpid(), host_name(), boot_id()
    environment = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT")}
    row = AttemptRow(1, *process, "cpu", 0, {**environment}, time.time())
    with RunLock(run.lock_path), RunLog.begin(run, row) as log:

        def event(kind: EventKind) -> None:
            log.append(EventRow(log.attempt, 0, kind, "", time.time()))

        event("started")
        event("running")
        server.start()
        while (pending := inbox.take(wait=60)) is not None:
            command = pending.command
            if command.verb == "evaluate":
                os.kill(os.getpid(), signal.SIGKILL)
            if command.verb == "snapshot":
                continue  # never answered
            if command.verb == "stop":  # answered last, like a worker
                event("stopped")
                stops.append(pending)
                break
            if command.verb in (
                "pause",
                "resume",
            ):  # the client may read the run as soon as it has the answer
                event("paused" if command.verb == "pause" else "running")
            refused = command.verb == "checkpoint"
            pending.answer(
                CommandResult(
                    id=command.id,
                    ok=not refused,
                    error="the disk is full" if refused else "",
                    hint="free some",
                    text="We must\nfight",
                )
            )
        server.retire()
    for pending in stops:
        pending.answer(CommandResult(id=pending.command.id, ok=True, status="stopping"))
    server.close()


if __name__ == "__main__":
    main()
