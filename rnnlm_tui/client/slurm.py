"""Slurm: submit a run as a job, read what Slurm says of it, and steer it beside its job."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rnnlm_tui.client.config_files import check_draft
from rnnlm_tui.errors import InputError, RunStateError, StorageError, WorkerError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.schema.protocol import Command, CommandResult, decode_line
from rnnlm_tui.schema.status import EXIT_REQUEUE, LIVING, REQUEUED
from rnnlm_tui.schema.summary import JobFigures, RunSummary
from rnnlm_tui.store.paths import HOME_VARIABLE, RunDirectory, listed_run
from rnnlm_tui.system.cuda import ORDER_VARIABLE
from rnnlm_tui.system.files import open_private, storage_errors, write_text_atomically
from rnnlm_tui.system.json_files import JsonFile
from rnnlm_tui.system.processes import child_environment, python_command

SIGNAL_SECONDS = 120
"""How long before its time limit a job's worker is to save; Slurm may do it a minute
earlier."""
ASK_SECONDS = 10.0
"""The app asks Slurm at most this often."""
ANSWER_SECONDS = 30.0
"""Longest wait for an answer of Slurm, whose own limit is 10 seconds for each message."""
FIRST_PORT, PORTS = 10_000, 20_000
"""The ports at which the ranks of a job meet: below those that Linux gives to clients."""


class JobRequest(NamedTuple):
    """What a job asks Slurm for."""

    partition: str = ""
    time: str = ""
    """The time limit, as Slurm writes it; empty: the partition's."""
    nodes: int = 1
    gpus: int = 0
    """GPUs of each node."""
    cpus: int = 0
    """Cores of each task; 0: Slurm's default."""
    options: Sequence[str] = ()
    """Further options of sbatch, such as `--account=nlp`."""


def with_processes(config: RunConfig, request: JobRequest) -> RunConfig:
    """The config, with a process for each GPU unless it says how many."""
    if request.gpus < 2 or config.distributed.processes != 1:
        return config
    auto = config.distributed.model_copy(update={"processes": "auto"})
    return config.model_copy(update={"distributed": auto})


def ranks_of_node(config: RunConfig, request: JobRequest) -> int:
    """The processes that train on each node."""
    processes = config.distributed.processes
    return (request.gpus or 1) if processes == "auto" else processes


def job_script(run: RunDirectory, request: JobRequest, settings: Mapping[str, str]) -> str:
    """The script that sbatch runs: one worker that starts its own ranks, or on several nodes a
    task for each rank.

    Not torchrun, whose agent a time limit's SIGUSR1 would kill.

    Args:
        settings: environment variables of the worker.
    """
    tasks = ranks_of_node(run.read_config(), request) if request.nodes > 1 else 1
    worker = shlex.join(python_command("rnnlm_tui.worker.train", str(run.path)))
    asked = {
        "job-name": run.name,
        "output": '"{}"'.format(str(run.log_path).replace("%", "%%")),
        "open-mode": "append",
        "requeue": "",
        "signal": f"USR1@{SIGNAL_SECONDS}",
        "nodes": request.nodes,
        "ntasks-per-node": tasks,
        "partition": request.partition,
        "time": request.time,
        "gres": f"gpu:{request.gpus}" if request.gpus else "",
        "cpus-per-task": request.cpus or "",
    }
    options = [
        f"--{name}={value}" if value else f"--{name}"
        for name, value in asked.items()
        if value or name == "requeue"
    ]
    environment = child_environment(settings)
    known = (*settings, ORDER_VARIABLE, "PYTHONPATH", HOME_VARIABLE)
    exports = [
        f"export {name}={shlex.quote(environment[name])}" for name in known if name in environment
    ]
    cores = f" --cpus-per-task={request.cpus}" if request.cpus else ""
    start = [f"srun{cores} {worker}"]
    if request.nodes > 1:
        ranked = (
            "RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID"
            f" LOCAL_WORLD_SIZE={tasks} exec {worker}"
        )
        start = [
            'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            f"export MASTER_PORT=$(({FIRST_PORT} + (SLURM_JOB_ID + 7 * ${{SLURM_RESTART_COUNT:-0}})"
            f" % {PORTS}))",
            f"srun{cores} bash -c {shlex.quote(ranked)}",
        ]
    lines = (
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        *(f"#SBATCH {shlex.quote(safe(option, keep=''))}" for option in request.options),
        f"export {REQUEUED}=1",
        *exports,
        *start,
        "code=$?",
        f'if [ "$code" = {EXIT_REQUEUE} ]; then  # saved before the time limit',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$code"',
    )
    return "\n".join(lines) + "\n"


def check_slurm() -> None:
    """Raise InputError if Slurm isn't installed here."""
    _slurm("sbatch", "--version")


def submit(run: RunDirectory, request: JobRequest, settings: Mapping[str, str]) -> str:
    """Write a run's script into its folder and submit it; returns the job's number.

    Raises:
        InputError: Slurm isn't installed here, or refused the job; quotes it.
        RunStateError: the run has a job that waits or runs.
        StorageError: the run's folder can't be written.
    """
    check_draft(run)
    check_no_job(run)
    script = job_script(run, request, settings)
    write_text_atomically(run.script_path, script)
    with storage_errors("write", run.log_path):
        os.close(open_private(run.log_path, os.O_WRONLY))  # before Slurm makes one that all read
    answer = _slurm("sbatch", "--parsable", str(run.script_path))
    if answer.returncode:
        hint = ""
        if "partition" in answer.stderr:
            names = sorted(set(_slurm("sinfo", "--noheader", "--format=%R").stdout.split()))
            hint = f"partitions: {', '.join(names)}"
        raise InputError(f"Slurm refused the job: {_words(answer)}", hint=hint)
    job_number = answer.stdout.strip().partition(";")[0]
    try:
        _job_file(run).write({"job": job_number})
    except StorageError as error:
        message = f"job {job_number} was submitted but not recorded: {error.message}"
        raise StorageError(message, hint=_cancel(job_number)) from error
    return job_number


def job_id(run: RunDirectory) -> str:
    """The number of a run's newest job; empty without one."""
    if not run.has_job:
        return ""
    return str(_job_file(run).look().value.get("job", ""))


def check_no_job(run: RunDirectory) -> None:
    """Raise RunStateError if a job that trains the run waits or runs."""
    known = job_id(run)
    job = asked_of_slurm([known]).get(known) if known else None
    if job is not None and not job.has_ended:
        raise RunStateError(f"{run.name}: {job.words}", hint=_cancel(job.id))


def asked_of_slurm(jobs: Iterable[str]) -> dict[str, JobFigures]:
    """What Slurm says of our jobs; `squeue` knows those of the last minutes, `sacct` all of them.

    Without accounting, older ones have no state. Empty if Slurm doesn't answer.
    """
    wanted = set(jobs)
    try:
        listed = "--format=%i|%T|%r|%S|%N"
        squeue = _slurm("squeue", "--me", "--states=all", "--noheader", listed)
        rows = squeue.stdout.splitlines()
        if missing := wanted - {row.partition("|")[0] for row in rows}:
            fields = "--format=JobID,State,Reason,Start,NodeList"
            asked = "--jobs=" + ",".join(sorted(missing))
            sacct = _slurm("sacct", "--allocations", "--noheader", "--parsable2", fields, asked)
            rows += sacct.stdout.splitlines()
    except (InputError, WorkerError):
        return {}
    if squeue.returncode:
        return {}
    found = {job: JobFigures(id=job) for job in wanted}
    for row in rows:
        job, state, reason, start, hosts = (*safe(row, keep="").split("|"), *[""] * 4)[:5]
        if job in wanted:
            state = state.partition(" ")[0]  # sacct: CANCELLED by 1000
            found[job] = JobFigures(
                id=job,
                state=state,
                reason="" if reason == "None" else reason,
                start=start if state == "PENDING" and start[:1].isdigit() else "",
                hosts="" if hosts.startswith("None") else hosts,
            )
    return found


class Jobs:
    """What Slurm says of the jobs of runs.

    `look` asks in a separate thread and never waits; only `ask` does.
    """

    def __init__(self) -> None:
        self._known: dict[str, JobFigures] = {}
        self._next = 0.0
        self._asking = threading.Lock()

    @property
    def answer(self) -> Mapping[str, JobFigures]:
        """The newest answer, by job; another one if something changed."""
        return self._known

    def with_answer(self, summary: RunSummary) -> RunSummary:
        """The summary, with the newest answer on its job; the same one without a job."""
        job = self._known.get(_unfinished_job(summary))
        if job is None:
            return summary
        changes: dict[str, object] = {"job": job}
        if job.waits and summary.status not in LIVING:
            changes |= {"message": job.words, "hint": _cancel(job.id)}
        elif job.has_ended and summary.status in ("draft", "crashed", "lost"):
            again = f"`rnnlm-tui submit --resume {summary.run}` submits it again"
            changes |= {"message": job.words, "hint": again}
            if summary.status == "lost":
                changes["status"] = "crashed"  # the worker died with its job
        return summary.model_copy(update=changes)

    def ask(self, summaries: Iterable[RunSummary]) -> list[RunSummary]:
        """Ask Slurm about the jobs of these runs, and wait; returns them as `with_answer`."""
        summaries = list(summaries)
        wanted = set(filter(None, map(_unfinished_job, summaries)))
        over = {job for job in wanted if job in self._known and self._known[job].has_ended}
        if wanted - over:
            known = {job: self._known[job] for job in over} | asked_of_slurm(wanted - over)
            if known != self._known:
                self._known = known
        return list(map(self.with_answer, summaries))

    def look(self, summaries: Iterable[RunSummary]) -> list[RunSummary]:
        """The summaries as `with_answer`; asks in a thread if the last answer is old."""
        summaries = list(summaries)
        if time.monotonic() >= self._next and self._asking.acquire(blocking=False):

            def ask() -> None:
                try:
                    self.ask(summaries)
                finally:
                    self._next = time.monotonic() + ASK_SECONDS
                    self._asking.release()

            threading.Thread(target=ask, name="slurm", daemon=True).start()
        return list(map(self.with_answer, summaries))


def forward(run: RunDirectory, command: Command, host: str, seconds: float) -> CommandResult:
    """Send a command from another host: `srun` runs a process beside the run's job, which sends it
    to the worker.

    Args:
        seconds: the longest wait for an answer.

    Raises:
        RunStateError: Slurm refused to run it; the hint has the command for ssh.
        WorkerError: no answer in time.
    """
    job, text = job_id(run), command.model_dump_json(exclude_defaults=True)
    # on the job's first node, where rank 0 is: `host` may not be the name that Slurm knows
    srun = ("srun", f"--jobid={job}", "--overlap", "--nodes=1", "--ntasks=1", "--relative=0")
    sender = python_command("rnnlm_tui.client.control", str(run.path), text)
    try:
        answer = _slurm(*srun, *sender, seconds=seconds)
        lines, why = answer.stdout.splitlines(), _words(answer)
    except InputError as error:
        lines, why = [], error.message
    if not lines:
        home = os.environ.get(HOME_VARIABLE)
        set_home = f"{HOME_VARIABLE}={shlex.quote(home)} " if home else ""
        raise RunStateError(
            f"Slurm can't steer {run.name} on {host}: {why}",
            hint=f"ssh {host} {set_home}rnnlm-tui {_verb_words(run, command)}",
        )
    return decode_line(lines[-1].encode(), CommandResult)


def _verb_words(run: RunDirectory, command: Command) -> str:
    """A command as it is typed: `set plain-otter optimizer.learning_rate=0.001`."""
    match command.verb:
        case "set":
            changes = (command.changes or {}).items()
            return shlex.join(["set", run.name, *(f"{key}={value}" for key, value in changes)])
        case "undo":
            return f"set {run.name} --undo"
        case "stop_after":
            return f"stop {run.name} " + (
                f"--after {command.after}" if command.after else "--cancel"
            )
        case "snapshot" | "sample":
            return f"sample {run.name}@now"
        case verb:
            return f"{verb} {run.name}"


def _cancel(job: str) -> str:
    return f"`scancel {job}` cancels the job"


def _unfinished_job(summary: RunSummary) -> str:
    """The job of a run that hasn't finished; empty without one."""
    return "" if summary.status == "finished" else job_id(listed_run(summary.run))


def _job_file(run: RunDirectory) -> JsonFile[dict[str, object]]:
    return JsonFile(run.job_path, dict, {}, 4_096)


def _words(answer: subprocess.CompletedProcess[str]) -> str:
    """Why a command of Slurm failed, in its own words."""
    lines = [line.partition("error: ")[2] or line for line in answer.stderr.splitlines()]
    return safe("; ".join(lines) or f"exit code {answer.returncode}", keep="")[:300]


def _slurm(*command: str, seconds: float = ANSWER_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm.

    Raises:
        InputError: it isn't installed here.
        WorkerError: it doesn't answer.
    """
    environment = child_environment({}) | {"SLURM_TIME_FORMAT": "standard"}
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise InputError(
            f"{command[0]} not found: Slurm isn't installed on this machine",
            hint="run rnnlm-tui on a login node of the cluster",
        ) from None
    except subprocess.TimeoutExpired:
        raise WorkerError(f"{command[0]} did not answer within {seconds:.0f} s") from None
