"""The training worker: `python -m rnnlm_tui.worker.train RUN` runs one attempt on a run.

RUN is its folder or its name. With torchrun's variable RANK above 0 it is one of the other
processes that share the run's batches.

torch is imported late, so that the run's log shows a living worker at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlm_tui.errors import LostDeviceError, RnnlmError, RunStateError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import (
    EventKind,
    EventRow,
    Progress,
    RankReading,
    RanksRow,
    StartRow,
)
from rnnlm_tui.schema.protocol import Command
from rnnlm_tui.schema.status import EXIT_REQUEUE, failure_prefix
from rnnlm_tui.store.checkpoints import list_checkpoints, sweep_temporary
from rnnlm_tui.store.manifest import read_manifest
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.verify import move_damaged_aside, newest_valid
from rnnlm_tui.system.disk import ROOM_FOR_ROWS, require_space
from rnnlm_tui.system.files import keep_private
from rnnlm_tui.system.gpu import VISIBLE_VARIABLE, gpu_count
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.system.processes import end_with_parent
from rnnlm_tui.worker.commands import CommandHandler, Inbox, Requests, StopRequested
from rnnlm_tui.worker.control import ControlServer, PendingCommand
from rnnlm_tui.worker.recorder import Attempt, Recorder, versions

if TYPE_CHECKING:
    from rnnlm_tui.worker.ranks import Team

_STDERR = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
PROGRESS_SECONDS = 0.2
"""Progress is shown this often; a new phase at once."""


class Log(io.TextIOBase):
    """Writes to this process's stderr, which is the run's log; lines that can't be written are
    dropped."""

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """stderr's."""
        return _STDERR

    def write(self, text: str, /) -> int:
        """Write the text now, as far as the disk accepts it."""
        with suppress(OSError):
            os.write(_STDERR, text.encode("utf-8", "backslashreplace"))
        return len(text)


def log_without_disk_errors() -> None:
    """Send everything that this process prints through such a log."""
    sys.stdout = sys.stderr = Log()


class PreparingRun:
    """The target of commands before the first step: a stop leaves, a command that needs a model is
    refused."""

    def __init__(self, step: int, saved: str = "") -> None:
        self.status = "preparing"
        self.step = step
        """Step from which the attempt will continue."""
        self.saved = saved
        """The checkpoint from which it will continue, relative to the run directory; empty:
        none."""

    def carry_out(self, command: Command) -> Mapping[str, Any]:
        """After a stop, leave at the next report of progress; nothing new is to be saved."""
        if command.verb == "stop":
            self.status = "stopping"
            return {"checkpoint": self.saved}
        if command.verb == "resume":  # nothing is paused
            return {}
        raise RunStateError("the run is still preparing", hint="try again when it is training")


class ProgressReporter:
    """Called while the corpus is built: shows the progress and handles commands."""

    def __init__(self, recorder: Recorder, inbox: Inbox, commands: CommandHandler) -> None:
        self._recorder = recorder
        self._inbox = inbox
        self._commands = commands
        self._phase = ""
        self._shown_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Raises StopRequested after a stop was handled."""
        now = time.monotonic()
        if progress.phase != self._phase or now - self._shown_at >= PROGRESS_SECONDS:
            self._phase, self._shown_at = progress.phase, now
            self._recorder.show(progress=tuple(progress))
        self.handle_commands()

    def handle_commands(self) -> None:
        """Handle the commands that wait; raises StopRequested after a stop."""
        while (pending := self._inbox.take()) is not None:
            self._commands.handle(pending)
        if self._commands.target.status == "stopping":
            raise StopRequested


class Worker:
    """One attempt on a run whose lock this process holds."""

    def __init__(self, run: RunDirectory, lock: RunLock, inbox: Inbox) -> None:
        """Record the attempt, so that the launching process sees it at once: no checkpoint is read
        before.

        Raises:
            RunStateError: the run is finished.
            StorageError: the run's files can't be read or written, or the disk is nearly full.
        """
        self._run = run
        self._lock = lock
        self._inbox = inbox
        self._recorder = Recorder(run, lock)
        with RunReader(run) as reader:
            last = reader.last_state()
        if last is not None and last.kind == "finished":
            raise RunStateError(
                f"{run.name} is finished",
                hint=f"to train on from its weights: rnnlm-tui train --from {run.name}@last",
            )
        sweep_temporary(run)
        require_space(run.path, ROOM_FOR_ROWS, "a run's log")
        newest = list_checkpoints(run)[-1:]
        step = newest[0].step if newest else 0
        self._attempt = self._recorder.begin_attempt(step, versions())
        self._first_step = step
        self._opening: EventKind = "started" if last is None else "resumed"
        self._commands = CommandHandler(
            PreparingRun(step, self._relative(newest[0].path) if newest else ""),
            self._recorder.journal_command,
        )
        self._requests = Requests(lambda waiting: self._recorder.show(requests=waiting))
        self._server: ControlServer | None = None
        self._failure: RnnlmError | None = None
        self._team: Team | None = None
        self._device = "the device"  # its name, once it is known

    @property
    def step(self) -> int:
        """Updates that are done."""
        return self._commands.target.step

    def work(self) -> int:
        """Train until the run finishes, stops or fails; returns the exit code.

        The lock is released before stops are answered.
        """
        code, ending = 0, "stopped"
        try:
            try:
                ending = self._train()
            except StopRequested:
                pass  # before the first step: nothing new to save
            except Exception as error:
                self._failure = self._explained(error)
                code, ending = self._failed(self._failure), "failed"
            if ending == "finished":
                self._event("finished", f"at step {self.step:,}")
            elif ending == "stopped":
                code = self._stopped()
        finally:
            self._close(ending)
        if isinstance(self._failure, LostDeviceError):
            os._exit(code)  # CUDA's clean-up at exit may wait forever for a GPU that failed
        return code

    def _train(self) -> str:
        probe = self._announce()
        checkpoint = self._choose_checkpoint()
        config = self._run.read_config()
        progress = ProgressReporter(self._recorder, self._inbox, self._commands)
        progress.handle_commands()
        # torch, numpy and tokenizers take seconds to import: the run's log should show a living
        # worker first.
        from rnnlm_tui.engine.device import cpu_warning, describe, uuid_of
        from rnnlm_tui.worker.build import set_up_torch
        from rnnlm_tui.worker.ranks import Team, own_place
        from rnnlm_tui.worker.resuming import check_settings, prepare_text
        from rnnlm_tui.worker.setup import assemble
        from rnnlm_tui.worker.step_metrics import DeviceProbe

        attempt = Attempt(
            self._run,
            config,
            self._recorder,
            self._attempt,
            checkpoint,
            self._inbox,
            self._commands,
        )
        # First: a missing device should fail before a long preparation.
        place = own_place(config)
        device = set_up_torch(config, place.local_rank, place.local_size)
        self._device = describe(device)
        warning = cpu_warning(config.training.device, device)
        uuid = uuid_of(device) if device.type == "cuda" else ""
        self._recorder.add(Facts(device_warning=warning, gpu_uuid=uuid))
        if warning:
            attempt.note(self.step, warning)
        if device.type != "cpu":
            probe.watch_card(DeviceProbe(device))
        saved = None if checkpoint is None else read_manifest(checkpoint)
        if saved is not None:
            check_settings(self._run, saved, config)
        if place.size > 1:  # before a long preparation: others don't look for rank 0 for ever
            self._team = Team(self._run, config, place, self._record_ranks, self._abandon)

        def keep_hash(found: str) -> None:
            """Record which corpus the run uses, so that it isn't removed."""
            self._recorder.add(Facts(corpus_hash=found))

        # A resumed run keeps its first hash.
        known = keep_hash if saved is None else None
        corpus = prepare_text(self._run, config, saved, progress, known)
        with self._inbox.immediately(self._commands.handle, self._leave):
            progress.handle_commands()  # those that were queued before
            ranks = None
            if self._team is not None:
                attempt.enter("connecting")
                ranks = self._team.join(corpus, device, checkpoint)
            training = assemble(attempt, corpus, device, ranks)
        self._recorder.show(progress=None)
        progress.handle_commands()
        self._commands.target = training
        return training.train()

    def _leave(self, stop: PendingCommand) -> None:
        """Stop and exit while the main thread builds the model or rehearses a step: nothing new is
        to be saved."""
        code = 1
        try:
            try:
                self._commands.handle(stop)
                code = self._stopped()
            finally:
                self._close("stopped")
        except Exception as error:
            traceback.print_exc()  # to stderr, the run's log
            code = self._explained(error).exit_code
        finally:
            os._exit(code)

    def _abandon(self, failure: RnnlmError) -> None:
        """End the process: another rank has ended, and this one waits for it in vain."""
        code = self._failed(failure)
        self._close("failed")
        os._exit(code)

    def _record_ranks(self, readings: tuple[RankReading, ...]) -> None:
        self._recorder.add(RanksRow(self._attempt, self.step, readings, time.time()))

    def _announce(self) -> MachineReader:
        """Write the first events, then start to read the machine and the control socket."""
        self._recorder.add(
            Facts(  # none of the attempt before
                message="",
                hint="",
                exit_code=0,
                device_warning="",
                lost_device="",
                # The first GPU that the queue gave it: known before torch is imported.
                gpu_uuid=os.environ.get(VISIBLE_VARIABLE, "").split(",")[0].partition("GPU-")[2],
                memory_warning="",
                stop_after=None,
            )
        )
        self._event(
            self._opening, f"attempt {self._attempt}, pid {os.getpid()}, after step {self.step:,}"
        )
        self._event("preparing", "")
        probe = MachineReader(self._run.path, worker=True)
        self._recorder.watch(probe, self._report_gpu)
        socket_path = self._run.make_socket_directory()
        self._server = ControlServer(
            socket_path, status=self._commands.status, deliver=self._receive
        )
        self._server.start()
        self._recorder.add(Facts(socket=str(socket_path)))
        return probe

    def _choose_checkpoint(self) -> Path | None:
        """The newest checkpoint that passes verification; damaged newer ones are moved aside.

        Reading every byte may take minutes.
        """
        checkpoint, damaged = newest_valid(self._run)
        step = 0 if checkpoint is None else read_manifest(checkpoint).step
        if step != self.step:
            self._recorder.add(StartRow(self._attempt, step))
            self._recorder.flush()  # before the rows up to this step are read
            self._first_step = step
            self._commands.target = PreparingRun(
                step, "" if checkpoint is None else self._relative(checkpoint)
            )
        instead = (
            f"step {step:,} is used"
            if checkpoint is not None
            else "there is no other, so the run restarts from step 0"
        )
        for one in damaged:
            aside = self._relative(move_damaged_aside(one.path))
            self._event(
                "note",
                f"the checkpoint of step {one.step:,} is damaged, {instead}: {one.problem}; moved"
                f" to {aside}",
            )
        return checkpoint

    def _report_gpu(self, fault: str) -> None:
        """In the recorder's thread: note what is wrong with the GPU that trains."""
        self._event("note", f"GPU: {fault}")

    def _receive(self, pending: PendingCommand) -> None:
        """In the control thread: queue a command, for all terminals to see."""
        self._inbox.deliver(self._requests.shown(pending))

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._run.path))

    def _explained(self, error: Exception) -> RnnlmError:
        """What any exception that ended the attempt means."""
        if self._team is not None and (cause := self._team.cause(error)) is not None:
            return cause
        lost = self._lost_device(error)
        if lost is not None:
            return lost
        if isinstance(error, RnnlmError):
            return error
        if isinstance(error, MemoryError):
            return RnnlmError(
                "out of memory",
                hint="a smaller training.batch_size, model or vocabulary needs less",
            )
        return RnnlmError(
            f"{type(error).__name__}: {error}", hint=f"the traceback is in {self._run.log_path}"
        )

    def _lost_device(self, error: Exception) -> LostDeviceError | None:
        """The error for a GPU that failed, with the saved step and how to resume; None: it wasn't
        the GPU."""
        if "torch" not in sys.modules:
            return None
        from rnnlm_tui.engine.device import is_lost, lost_device

        cause = next((one for one in (error, error.__cause__) if is_lost(one)), None)
        if cause is None:
            return None
        found, run = lost_device(cause, self._device), self._run.name
        newest = list_checkpoints(self._run)[-1:]
        saved = f"step {newest[0].step:,} is saved" if newest else "no checkpoint was saved yet"
        names = [*(f"cuda:{index}" for index in range(gpu_count())), "cpu"]
        other = next(name for name in names if not self._device.startswith(f"{name} "))
        return LostDeviceError(
            f"{found.message}; {saved}",
            hint=f"`rnnlm-tui resume {run}` continues once the GPU works again ({found.hint});"
            f" `rnnlm-tui resume {run} --device {other}` continues on another device",
        )

    def _failed(self, error: RnnlmError) -> int:
        """Store the failure, print the traceback to the log, and return the exit code."""
        traceback.print_exc()
        try:
            lost = error.message if isinstance(error, LostDeviceError) else ""
            self._recorder.add(
                Facts(
                    message=error.message,
                    hint=error.hint,
                    exit_code=error.exit_code,
                    lost_device=lost,
                )
            )
            self._event("failed", str(error))
        except RnnlmError as second:  # the run's folder is gone: then only the log has it
            _log(second)
        _log(f"{failure_prefix(self._attempt)}{error}")
        return error.exit_code

    def _stopped(self) -> int:
        """Record the stop, and return the exit code."""
        is_job_ending, goes_on = self._inbox.is_job_ending, self.step > self._first_step
        if is_job_ending:
            words = "stopped by SIGUSR1: the time limit of its Slurm job is near"
            more = "" if goes_on else "; no step was done, so it isn't requeued: give it more time"
            self._event("note", words + more)
        self._event("stopped", f"at step {self.step:,}")
        return EXIT_REQUEUE if is_job_ending and goes_on else 0

    def _close(self, ending: str) -> None:
        """Stop all threads, release the lock, then answer the commands that wait."""
        if self._server is not None:
            self._server.retire()
        if self._team is not None:
            self._team.close(orderly=ending != "failed")
        self._recorder.close()
        self._lock.release()
        self._commands.answer_stops()
        while (pending := self._inbox.take()) is not None:
            self._commands.answer_after_end(pending, ending, self._failure)
        if self._server is not None:
            self._server.close()

    def _event(self, kind: EventKind, text: str) -> None:
        self._recorder.add(EventRow(self._attempt, self.step, kind, text, time.time()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker; returns its exit code: 0 finished or stopped, 75 stopped because its Slurm
    job ends, else as in `rnnlm_tui.errors`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1:
        _log("usage: python -m rnnlm_tui.worker.train RUN")
        return 2
    keep_private()
    path = Path(given[0])
    run = RunDirectory(path.absolute() if path.is_dir() else runs_dir() / path)
    if "WORLD_SIZE" in os.environ and os.environ.get("RANK", "0") != "0":
        for number in SIGNALS:  # they are for rank 0
            signal.signal(number, signal.SIG_IGN)
        end_with_parent()
        from rnnlm_tui.worker.ranks import follow

        return follow(run)
    inbox = Inbox()
    inbox.listen_to_signals()
    lock = RunLock(run.lock_path)
    try:
        run.check_own_files()
        lock.acquire()
        return Worker(run, lock, inbox).work()
    except RnnlmError as error:
        _log(error)
        return error.exit_code
    finally:
        lock.release()


def _log(what: object) -> None:
    print(what, file=sys.stderr, flush=True)  # noqa: T201 - a worker's stderr is the run's log


if __name__ == "__main__":
    log_without_disk_errors()
    exit_code = main()
    if "WORLD_SIZE" in os.environ:
        os._exit(exit_code)  # the clean-up of several processes may wait for one that is gone
    sys.exit(exit_code)
