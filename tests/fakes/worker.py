"""A worker without torch: `python worker.py BEHAVIOUR RUN-DIRECTORY` takes the lock, opens an attempt and answers commands."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from rnnlm_tui.contract.commands import CommandResult
from rnnlm_tui.contract.metrics import EventKind, EventRow
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.locks import RunLock, boot_id, host_name
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.worker.control import ControlServer
from rnnlm_tui.worker.inbox import Inbox


def main() -> None:
    behaviour, run = sys.argv[1], RunDirectory(Path(sys.argv[2]))
    if behaviour == "dies":
        sys.exit("ImportError: libtorch is missing")
    inbox = Inbox()
    with RunLock(run.lock_path), RunDatabase(run.database_path) as database:
        attempt = database.begin_attempt(os.getpid(), host_name(), boot_id(), "cpu", 0, {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT")})

        def event(kind: EventKind) -> None:
            database.add_event(EventRow(attempt, 0, kind, "", time.time()))

        event("started")
        event("running")
        server = ControlServer(run.socket_path, status=lambda command: CommandResult(id=command.id, ok=True, status="running"), deliver=inbox.deliver)
        server.start()
        while True:
            pending = inbox.take(wait=60)
            if pending is None:
                break
            command = pending.command
            if command.verb == "evaluate":
                os.kill(os.getpid(), signal.SIGKILL)
            if command.verb == "snapshot":
                continue  # never answered
            refused = command.verb == "checkpoint"
            pending.answer(
                CommandResult(id=command.id, ok=not refused, error="the disk is full" if refused else "", hint="free some", text=command.prompt or "")
            )
            if command.verb == "pause":
                event("paused")
            if command.verb == "resume":
                event("running")
            if command.verb == "stop":
                event("stopped")
                break
        server.retire()
        server.close()


if __name__ == "__main__":
    main()
