"""The training worker: `python -m rnnlm_tui.worker.train RUN-DIRECTORY` is one attempt on a run, from its lock to its last event."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rnnlm_tui.contract.metrics import EventKind, EventRow
from rnnlm_tui.contract.status import CORPUS_HASH_KEY, DATABASE_KEY, MEMORY_KEY, failure_prefix
from rnnlm_tui.errors import RnnlmError, RunStateError
from rnnlm_tui.store.atomic import keep_private, storage_errors
from rnnlm_tui.store.checkpoints import list_checkpoints, move_damaged_aside, newest_valid, sweep_temporary
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.locations import corpora_dir
from rnnlm_tui.store.locks import RunLock, boot_id, host_name
from rnnlm_tui.store.manifest import read_manifest
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.rebuild import open_database
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.supervisor.machine_reader import MachineReader
from rnnlm_tui.worker.commands import Steering
from rnnlm_tui.worker.control import ControlServer, PendingCommand
from rnnlm_tui.worker.inbox import Inbox, StopRequested
from rnnlm_tui.worker.log import log_whatever_the_disk_takes
from rnnlm_tui.worker.preparation import Preparing, ProgressReporter
from rnnlm_tui.worker.pulse import Pulse
from rnnlm_tui.worker.records import Records
from rnnlm_tui.worker.versions import versions


class Worker:
    """One attempt on a run whose lock this process holds."""

    def __init__(self, run: RunDirectory, lock: RunLock, inbox: Inbox, database: RunDatabase) -> None:
        """Open the attempt, so that whoever launched it sees it at once: nothing here reads a large file.

        Raises:
            RunStateError: the run is finished.
            StorageError: the run's files can't be read or written.
        """
        self._run = run
        self._lock = lock
        self._inbox = inbox
        self._records = Records(run, lock, database)
        self._database = database
        with RunReader(run) as reader:
            last = reader.last_state()
        if last is not None and last.kind == "finished":
            raise RunStateError(f"{run.name} is finished", hint=f"to go on from its weights: rnnlm-tui train --from {run.name}@last")
        sweep_temporary(run)
        newest = list_checkpoints(run)[-1:]
        self._step = newest[0].step if newest else 0
        self._records.make_ballast()
        self._attempt = self._records.begin_attempt(os.getpid(), host_name(), boot_id(), "", self._step, versions())
        self._opening: EventKind = "started" if last is None else "resumed"
        self._steering = Steering(Preparing(self._step, self._relative(newest[0].path) if newest else ""), self._records)
        self._pulse: Pulse | None = None
        self._server: ControlServer | None = None
        self._failure: RnnlmError | None = None

    def work(self) -> int:
        """Train until the run ends one way or another; returns the exit code. Lets go of the lock before stops are answered."""
        code, ending = 0, "stopped"
        try:
            try:
                ending = self._train()
            except StopRequested:
                pass  # it came before the first step: there is nothing new to save
            except Exception as error:
                self._failure = _explained(error, self._run)
                code, ending = self._failed(self._failure), "failed"
            self._step = self._steering.steered.step
            if ending != "failed":
                self._event("finished" if ending == "finished" else "stopped", f"at step {self._step:,}")
        finally:
            self._let_go(ending)
        return code

    def _train(self) -> str:
        probe = self._show_life()
        checkpoint = self._choose_checkpoint()
        config = self._run.read_config()
        reporter = ProgressReporter(self._records, self._inbox, self._steering)
        reporter.heed()
        # torch, numpy and tokenizers take seconds to import: only now, when the run's log already shows that its worker lives.
        from rnnlm_tui.corpus.token_store import prepare_corpus
        from rnnlm_tui.worker.assembly import Attempt, assemble, watch
        from rnnlm_tui.worker.building import set_up_torch
        from rnnlm_tui.worker.resuming import trained_on

        attempt = Attempt(self._run, config, self._records, self._attempt, checkpoint, self._inbox, self._steering)
        device = set_up_torch(config)  # first: a device that isn't there is told before a long preparation
        watch(device, probe)
        with storage_errors("build the corpus in", corpora_dir()):
            known = self._keep_corpus_hash if checkpoint is None else None
            before = None if checkpoint is None else trained_on(read_manifest(checkpoint))
            corpus = prepare_corpus(config.corpus, config.tokenizer, config.training, corpora_dir(), reporter, known, trained_on=before)
        with self._inbox.at_once(self._steering.carry_out, self._leave):
            reporter.heed()  # what came before this
            training = assemble(attempt, corpus, device)
        self._records.set_progress(None)
        reporter.heed()
        self._steering.steered = training
        return training.train()

    def _keep_corpus_hash(self, found: str) -> None:
        """Record that the run uses this corpus, so that it isn't removed. A resumed run keeps the hash that it trained on."""
        self._records.set_meta(CORPUS_HASH_KEY, found)

    def _leave(self, stop: PendingCommand) -> None:
        """Stop while the main thread builds the model or rehearses a step, in a thread beside it: there is nothing new to save. Ends the process."""
        code = 1
        try:
            try:
                self._steering.carry_out(stop)
                self._event("stopped", f"at step {self._step:,}")
                code = 0
            finally:
                self._let_go("stopped")
        except Exception as error:
            traceback.print_exc()  # to stderr, the run's log
            code = _explained(error, self._run).exit_code
        finally:
            os._exit(code)

    def _show_life(self) -> MachineReader:
        """The first events, the heartbeat and the control socket."""
        self._tell_failure("", "", 0)
        self._records.set_meta(MEMORY_KEY, "")  # of the attempt before
        self._event(self._opening, f"attempt {self._attempt}, pid {os.getpid()}, after step {self._step:,}")
        self._event("preparing", "")
        if (place := self._run.database_location) is not None:
            self._event("note", f"its database is {place}")
            self._records.set_meta(DATABASE_KEY, str(place))
        probe = MachineReader(self._run.path, worker=True)
        self._pulse = Pulse(self._records, probe)
        self._pulse.start()
        socket_path = self._run.make_socket_directory()
        self._server = ControlServer(socket_path, status=self._steering.status, deliver=self._hear)
        self._server.start()
        self._records.set_meta("socket", str(socket_path))
        return probe

    def _choose_checkpoint(self) -> Path | None:
        """The newest checkpoint whose every byte is right, read through for minutes perhaps; damaged ones that are newer go aside."""
        checkpoint, damaged = newest_valid(self._run)
        step = 0 if checkpoint is None else read_manifest(checkpoint).step
        if step != self._step:
            self._records.go_back(self._attempt, step)
            self._step = step
            self._steering.steered = Preparing(step, "" if checkpoint is None else self._relative(checkpoint))
        instead = f"step {step:,} is used" if checkpoint is not None else "there is no other, so it begins anew"
        for one in damaged:
            aside = move_damaged_aside(one)
            self._event("note", f"the checkpoint of step {one.step:,} is damaged, {instead}: {one.problem}; it is kept as {self._relative(aside)}")
        return checkpoint

    def _hear(self, pending: PendingCommand) -> None:
        """A command comes, in the control thread: a stop that was carried out before gets its answer, all else waits for its turn."""
        if not self._steering.replay(pending):
            self._inbox.deliver(pending)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._run.path))

    def _failed(self, error: RnnlmError) -> int:
        """One event with the message, the whole story in the log; returns the exit code."""
        traceback.print_exc()
        self._step = self._steering.steered.step
        try:
            self._tell_failure(error.message, error.hint, error.exit_code)
            self._event("failed", str(error))
        except RnnlmError as second:  # a full disk takes the event as well: the log is what is left
            _say(second)
        _say(f"{failure_prefix(self._attempt)}{error}")
        return error.exit_code

    def _tell_failure(self, message: str, hint: str, code: int) -> None:
        for key, value in {"message": message, "hint": hint, "exit_code": str(code)}.items():
            self._records.set_meta(key, value)

    def _let_go(self, ending: str) -> None:
        if self._pulse is not None:
            self._pulse.stop()
        if self._server is not None:
            self._server.retire()
        self._steering.end()
        self._records.close()
        self._database.close()
        self._lock.release()
        self._steering.answer_stops()
        while (pending := self._inbox.take()) is not None:
            self._steering.answer_at_end(pending, ending, self._failure)
        if self._server is not None:
            self._server.close()

    def _event(self, kind: EventKind, text: str) -> None:
        self._records.add_event(EventRow(self._attempt, self._step, kind, text, time.time()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker; returns its exit code: 0 finished or stopped, else as in `rnnlm_tui.errors`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1:
        _say("usage: python -m rnnlm_tui.worker.train RUN-DIRECTORY")
        return 2
    keep_private()
    inbox = Inbox()
    inbox.listen_to_signals()
    run = RunDirectory(Path(given[0]).absolute())
    lock = RunLock(run.lock_path)
    try:
        run.check_own_files()
        lock.acquire()
        with open_database(run) as database:
            return Worker(run, lock, inbox, database).work()
    except RnnlmError as error:
        _say(error)
        return error.exit_code
    finally:
        lock.release()


def _explained(error: Exception, run: RunDirectory) -> RnnlmError:
    if isinstance(error, RnnlmError):
        return error
    if isinstance(error, MemoryError):
        return RnnlmError("out of memory", hint="a smaller training.batch_size, model or vocabulary needs less")
    return RnnlmError(f"{type(error).__name__}: {error}", hint=f"the whole story is in {run.log_path}")


def _say(what: object) -> None:
    """To stderr, which is the run's log."""
    print(what, file=sys.stderr, flush=True)  # noqa: T201 - a worker has no other voice


if __name__ == "__main__":
    log_whatever_the_disk_takes()
    sys.exit(main())
