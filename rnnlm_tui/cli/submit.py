"""The verb `submit`: train a run as a Slurm job."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rnnlm_tui import client
from rnnlm_tui.cli.config import allow_datasets
from rnnlm_tui.cli.options import (
    NewRunOptions,
    TextArgument,
    TrustOption,
    check_exclusive,
    complete_run,
    grouped,
    opt,
    run_named,
    with_text,
)
from rnnlm_tui.cli.output import Answer
from rnnlm_tui.errors import InputError, RunStateError
from rnnlm_tui.schema.status import RESUMABLE
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.trash import delete_run


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a job asks Slurm for."""

    partition: str = grouped("--partition NAME", "The partition (default: Slurm's).", "")
    time: str = grouped(
        "--time LIMIT",
        "Time limit of a job, such as 8:00:00; the run continues in the next job.",
        "",
    )
    nodes: int = grouped("--nodes N", "Nodes that train together.", 1)
    gpus: int = grouped("--gpus N", "GPUs of each node.", 0)
    cpus: int = grouped("--cpus N", "Cores of each process (default: Slurm's).", 0)
    sbatch: list[str] | None = grouped(
        "--sbatch OPTION", "An option of sbatch, such as --account=nlp; can be repeated."
    )

    def request(self) -> client.slurm.JobRequest:
        """Check the numbers."""
        for name, least in (("nodes", 1), ("gpus", 0), ("cpus", 0)):
            if (given := getattr(self, name)) < least:
                raise InputError(f"--{name} is {given}, must be at least {least}")
        return client.slurm.JobRequest(
            self.partition, self.time, self.nodes, self.gpus, self.cpus, tuple(self.sbatch or ())
        )


def submit(
    text: TextArgument = None,
    job: JobOptions = JobOptions(),
    new: NewRunOptions = NewRunOptions(),
    resume: str | None = opt(
        "--resume RUN", "Submit this draft, stopped or crashed run again.", None, complete_run
    ),
    trust_dataset: TrustOption = False,
) -> Answer:
    """Train a new run as a Slurm job, and return at once.

    At the job's time limit, or when it is preempted, a checkpoint is saved and the job goes back
    into Slurm's queue.
    """
    from rnnlm_tui.cli.train import wanted_run

    request = job.request()
    client.slurm.check_slurm()
    if resume is not None:
        check_exclusive("--resume keeps the run's config", resume=True, TEXT=text, **asdict(new))
        run = run_named(resume)
        (before,) = client.listing.with_jobs([client.monitor.summarize(run)])
        if before.status not in {"draft", *RESUMABLE}:
            raise RunStateError(f"{run.name} is {before.status}: it can't be submitted")
        allow_datasets(run.read_config().corpus, trust=trust_dataset)
    else:
        wanted, fork = wanted_run(with_text(new, text), trust_dataset=trust_dataset)
        wanted = client.slurm.with_processes(wanted, request)
        ranks = request.nodes * client.slurm.ranks_of_node(wanted, request)
        client.start.check_before_start(wanted, ranks=ranks)
        run = create_run(wanted, new.name, fork)
    settings = client.control.training_settings(run.read_config())
    try:
        number = client.slurm.submit(run, request, settings)
    except BaseException:
        if resume is None:
            delete_run(run)
        raise
    script = run.script_path.read_text(encoding="utf-8")
    words = f"submitted as job {number}; `rnnlm-tui show {run.name}` shows what Slurm says of it"
    value = {"run": run.name, "job": number, "script": script}
    return Answer(value, run.name, f"{script}\n{words}")
