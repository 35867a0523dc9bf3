"""What the app asks of store and supervisor, in one place: tests put a fake here, and imports wait for the first paint.

Every method blocks for as long as disk or worker need, so the app calls them in threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import CommandResult, Verb
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.status import RunSummary
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.estimate import Estimate
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.supervisor.sampler_client import SamplerClient


class Monitor(Protocol):
    """What is new in one run."""

    def poll(self) -> RunSnapshot | None:
        """The run as it is now; None when nothing changed since the last call."""
        ...


class Services:
    """The real ones."""

    def monitor(self, run: RunDirectory) -> Monitor:
        """A monitor of one run; it must stay in the thread that asked for it."""
        from rnnlm_tui.supervisor.monitor import RunMonitor

        return RunMonitor(run)

    def summaries(self) -> list[RunSummary]:
        """All runs in figures, newest first."""
        from rnnlm_tui.supervisor.monitor import summaries

        return summaries()

    def machine(self) -> MachineFacts:
        """What this machine is and has free."""
        from rnnlm_tui.supervisor.machine import describe_machine

        return describe_machine()

    def find(self, name: str) -> RunDirectory:
        """The run of that name; UnknownRunError when it is gone."""
        from rnnlm_tui.store.runs import find_run

        return find_run(name)

    def start(self, config: RunConfig, name: str | None) -> RunDirectory:
        """Create a run and launch its worker; any RnnlmError of the two. A run whose worker can't start stays as a draft to look into."""
        from rnnlm_tui.store.runs import create_run
        from rnnlm_tui.supervisor.launch import launch

        run = create_run(config, name)
        launch(run)
        return run

    def send(self, run: RunDirectory, verb: Verb, **arguments: Any) -> CommandResult:
        """One command to the run's worker, answered after it acted; WorkerError or RunStateError when refused."""
        from rnnlm_tui.supervisor.control_client import send

        return send(run, verb, **arguments)

    def resume(self, run: RunDirectory) -> int:
        """Go on with a paused, stopped, crashed or failed run: the worker's pid."""
        from rnnlm_tui.supervisor.control_client import resume

        return resume(run)

    def delete(self, run: RunDirectory) -> None:
        """Move a run that nobody trains to the trash; RunStateError for a living one."""
        from rnnlm_tui.store.runs import delete_run

        delete_run(run)

    def estimate(self, config: RunConfig) -> Estimate:
        """What a config gives before anything runs."""
        from rnnlm_tui.supervisor.estimate import estimate

        return estimate(config)

    def sampler(self) -> SamplerClient:
        """A sampler that is not started yet."""
        from rnnlm_tui.supervisor.sampler_client import SamplerClient

        return SamplerClient()
