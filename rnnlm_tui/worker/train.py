"""The training worker: `python -m rnnlm_tui.worker.train RUN-DIRECTORY` is one attempt on a run, from its lock to its last event."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rnnlm_tui import __version__
from rnnlm_tui.contract.metrics import EventKind, EventRow
from rnnlm_tui.errors import RnnlmError, RunStateError
from rnnlm_tui.store.checkpoints import newest_valid, sweep_temporary
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.locations import corpora_dir
from rnnlm_tui.store.locks import RunLock, boot_id, host_name
from rnnlm_tui.store.manifest import read_manifest
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.worker.commands import Steering, answer_at_end
from rnnlm_tui.worker.control import ControlServer
from rnnlm_tui.worker.hardware import HardwareProbe
from rnnlm_tui.worker.inbox import Inbox, StopRequested
from rnnlm_tui.worker.preparation import Preparing, ProgressReporter
from rnnlm_tui.worker.pulse import Pulse

RECORDED_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers")
"""Whose versions an attempt records; none of them is imported up here, see `_train`."""


class Worker:
    """One attempt on a run whose lock this process holds."""

    def __init__(self, run: RunDirectory, lock: RunLock, inbox: Inbox, database: RunDatabase) -> None:
        """Look at what is there, and open the attempt.

        Raises:
            RunStateError: the run is finished.
            StorageError: the run's files can't be read or written.
        """
        self._run = run
        self._lock = lock
        self._inbox = inbox
        self._database = database
        with RunReader(run) as reader:
            last = reader.last_state()
        if last is not None and last.kind == "finished":
            raise RunStateError(f"{run.name} is finished", hint=f"to go on from its weights: rnnlm-tui train --from {run.name}@last")
        socket_path = run.make_socket_directory()
        sweep_temporary(run)
        self._checkpoint, damaged = newest_valid(run)
        self._step = 0 if self._checkpoint is None else read_manifest(self._checkpoint).step
        self._attempt = database.begin_attempt(os.getpid(), host_name(), boot_id(), "", self._step, _environment())
        self._tell_failure("", "", 0)
        self._event("started" if last is None else "resumed", f"attempt {self._attempt}, pid {os.getpid()}, after step {self._step:,}")
        self._event("preparing", "")
        for one in damaged:
            instead = f"step {self._step:,} is used" if self._checkpoint is not None else "there is no other, so it begins anew"
            self._event("note", f"the checkpoint of step {one.step:,} is damaged, {instead}: {one.problem}")
        self._steering = Steering(Preparing(self._step), database)
        self._probe = HardwareProbe(run.path)
        self._pulse = Pulse(database, self._probe)
        self._server = ControlServer(socket_path, status=self._steering.status, deliver=inbox.deliver)

    def work(self) -> int:
        """Train until the run ends one way or another; returns the exit code. Lets go of the lock before stops are answered."""
        self._database.set_meta("socket", str(self._run.socket_path))
        self._pulse.start()
        code, ending = 0, "stopped"
        try:
            self._server.start()
            ending = self._train()
        except StopRequested:
            pass  # it came before the first step: there is nothing new to save
        except Exception as error:
            code, ending = self._failed(error), "failed"
        self._step = self._steering.steered.step
        try:
            if ending != "failed":
                self._event("finished" if ending == "finished" else "stopped", f"at step {self._step:,}")
            self._pulse.stop()
        finally:
            self._let_go(ending)
        return code

    def _train(self) -> str:
        config = self._run.read_config()
        reporter = ProgressReporter(self._database, self._inbox, self._steering)
        # torch, numpy and tokenizers take seconds to import: only now, when the run's log already shows that its worker lives.
        from rnnlm_tui.worker.assembly import Attempt, assemble, prepare, set_up_torch

        attempt = Attempt(self._run, config, self._database, self._attempt, self._checkpoint, self._inbox, self._steering)
        device = set_up_torch(config, self._probe)  # first: a device that isn't there is told before a long preparation
        corpus = prepare(config, corpora_dir(), reporter)
        self._database.set_progress(None)
        training = assemble(attempt, corpus, device)
        reporter.heed()
        self._steering.steered = training
        return training.train()

    def _failed(self, error: Exception) -> int:
        """One event with the message, the whole story in the log; returns the exit code."""
        traceback.print_exc()
        if isinstance(error, RnnlmError):
            message, hint, code = error.message, error.hint, error.exit_code
        elif isinstance(error, MemoryError):
            message, hint, code = "out of memory", "a smaller training.batch_size, model or vocabulary needs less", RnnlmError.exit_code
        else:
            message, hint, code = f"{type(error).__name__}: {error}", f"the whole story is in {self._run.log_path}", RnnlmError.exit_code
        self._step = self._steering.steered.step
        try:
            self._tell_failure(message, hint, code)
            self._event("failed", f"{message}\n{hint}" if hint else message)
        except RnnlmError as second:  # a full disk takes the event as well: the log is what is left
            _say(second)
        _say(message if not hint else f"{message}\n{hint}")
        return code

    def _tell_failure(self, message: str, hint: str, code: int) -> None:
        for key, value in {"message": message, "hint": hint, "exit_code": str(code)}.items():
            self._database.set_meta(key, value)

    def _let_go(self, ending: str) -> None:
        self._server.retire()
        self._database.close()
        self._lock.release()
        self._steering.answer_stops()
        while (pending := self._inbox.take()) is not None:
            answer_at_end(pending, ending, self._step)
        self._server.close()

    def _event(self, kind: EventKind, text: str) -> None:
        self._database.add_event(EventRow(self._attempt, self._step, kind, text, time.time()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker; returns its exit code: 0 finished or stopped, else as in `rnnlm_tui.errors`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1:
        _say("usage: python -m rnnlm_tui.worker.train RUN-DIRECTORY")
        return 2
    inbox = Inbox()
    inbox.listen_to_signals()
    run = RunDirectory(Path(given[0]).absolute())
    lock = RunLock(run.lock_path)
    try:
        lock.acquire()
        with RunDatabase(run.database_path) as database:
            return Worker(run, lock, inbox, database).work()
    except RnnlmError as error:
        _say(error)
        return error.exit_code
    finally:
        lock.release()


def _environment() -> dict[str, object]:
    packages = {name: version(name) for name in RECORDED_PACKAGES}
    return {"python": sys.version.split()[0], "rnnlm_tui": __version__, **packages}


def _say(what: object) -> None:
    """To stderr, which is the run's log."""
    print(what, file=sys.stderr, flush=True)  # noqa: T201 - a worker has no other voice


if __name__ == "__main__":
    sys.exit(main())
