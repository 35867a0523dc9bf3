"""Signals become commands; in child processes, so that this one keeps its handlers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnnlm_tui.schema.protocol import Command
from rnnlm_tui.worker.commands import EXIT_KILLED, Inbox, StopRequested
from rnnlm_tui.worker.control import PendingCommand


def ended(code: str, *arguments: object) -> tuple[int, list[str]]:
    """Exit code and output of a child process."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


REFUSED = """
import os, signal, sys
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.worker import commands
commands.FORGET_SECONDS *= sys.argv[1] == "soon"
inbox = commands.Inbox()
inbox.listen_to_signals()
for ok in (False, True):
    os.kill(os.getpid(), signal.SIGTERM)
    stop = inbox.take(wait=60)
    stop.answer(CommandResult(id=stop.command.id, ok=ok))
    print(stop.command.verb, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
inbox.take(wait=60)
"""
"""The first stop is refused, as on a full disk; the second would not be."""


@pytest.mark.parametrize(("second", "stops"), [("soon", 1), ("long after", 2)])
def test_after_a_refused_stop_a_sigterm_exits_at_once_but_a_much_later_one_stops(
    second: str, stops: int
) -> None:
    assert ended(REFUSED, second) == (EXIT_KILLED, ["stop"] * stops)


def test_commands_are_taken_in_order_without_waiting() -> None:
    inbox = Inbox()
    for name in ("a", "b"):
        inbox.deliver(PendingCommand(Command(id=name, verb="pause"), lambda result: None))
    taken = [inbox.take(), inbox.take(wait=1.0)]
    assert [pending.command.id for pending in taken if pending is not None] == ["a", "b"]
    assert inbox.take() is None
    assert inbox.take(wait=0.001) is None


def test_a_pending_stop_interrupts_long_work() -> None:
    inbox = Inbox()
    inbox.check_stop()
    inbox.deliver(PendingCommand(Command(id="a", verb="stop"), lambda result: None))
    inbox.deliver(PendingCommand(Command(id="a", verb="stop"), lambda result: None))
    with pytest.raises(StopRequested):
        inbox.check_stop()
    inbox.take()
    assert inbox.stop_waits
    inbox.take()
    inbox.check_stop()


def test_immediate_commands_are_never_queued_and_queued_ones_stay_queued() -> None:
    inbox = Inbox()
    heeded: list[str] = []

    def command(name: str) -> PendingCommand:
        return PendingCommand(Command(id=name, verb="pause"), lambda result: None)

    inbox.deliver(command("before"))
    with inbox.immediately(lambda pending: heeded.append(pending.command.id), lambda _stop: None):
        inbox.deliver(command("inside"))
    inbox.deliver(command("after"))
    assert heeded == ["inside"]
    assert [
        pending.command.id for pending in (inbox.take(), inbox.take()) if pending is not None
    ] == ["before", "after"]
