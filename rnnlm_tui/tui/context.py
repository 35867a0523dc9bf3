"""What screens use of the app: `AppContext`, which `RnnlmApp` in `app.py` implements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.client.sampler import SamplerClient
    from rnnlm_tui.errors import InputError, RnnlmError
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.queue import QueueListing
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.system.machine import MachineFacts
    from rnnlm_tui.tui.actions import Action, Pane
    from rnnlm_tui.tui.messages import Notice
    from rnnlm_tui.tui.poller import Watcher
    from rnnlm_tui.tui.views.compare import Marks
    from rnnlm_tui.tui.views.form import DraftParent
    from rnnlm_tui.tui.views.machine import Readings
    from rnnlm_tui.tui.views.prompt_session import PromptSession

ResultT = TypeVar("ResultT")
Severity = Literal["information", "warning", "error"]


class StartsRuns(Protocol):
    """Starts runs: `RunCommands` in `run_commands.py`."""

    def start(self, config: RunConfig) -> None:
        """Create a run, launch its worker and show it on the train pane."""

    def start_draft(
        self,
        run: RunDirectory,
        config: RunConfig,
        refused: Callable[[InputError], None] | None = None,
    ) -> None:
        """Launch the worker of a run that was never started, and show it on the train pane.

        A config that can't run here goes to `refused`; every other error is reported.
        """

    def resume(self) -> None:
        """Resume the open run, start its next attempt, or start a draft."""


class AppContext(Protocol):
    """The app as its screens see it."""

    run_directory: RunDirectory | None
    """The open run."""
    snapshot: RunSnapshot | None
    """The open run's current state; None until it has been read."""
    summaries: tuple[RunSummary, ...] | None
    """All runs, newest first; None until they have been read."""
    queue: QueueListing | None
    """The queue of runs; None until it has been read."""
    compared: tuple[RunSnapshot, ...]
    """The marked runs that have been read, in the order of their letters; updated only while a pane
    shows them."""
    machine: MachineFacts | None
    """This machine; None at first."""
    readings: Readings
    """This machine's load, as read by the app while no worker reads it."""
    draft: RunConfig | None
    """The config of a new run that isn't changed yet: from its first change on, a run keeps it."""
    draft_from: str
    """The run that the draft is based on; empty for a preset."""
    draft_parent: DraftParent | None
    """The checkpoint that the draft's run starts from; None: initial weights."""
    selected_checkpoint: str | None
    """Directory of the checkpoint to sample from, relative to the run's directory; None: the best
    one."""
    sampler: SamplerClient | None
    """The one sampler; None until it has been started in the background."""
    watcher: Watcher
    """The thread that polls runs and machine."""
    actions: tuple[Action, ...]
    """The table of actions with the user's keys."""
    pending_notice: Notice | None
    """The notice that the next pane that is ready shows."""
    marks: Marks
    """The runs marked for comparison, with their letters and colours."""
    prefer_running: bool
    """Begin the list of runs with one that trains: the open run is only the last session's."""
    settings: dict[str, object]
    """Plain JSON values that are kept for the next start; screens read and write their own keys."""

    @property
    def commands(self) -> StartsRuns:
        """Starts and resumes runs."""

    @property
    def no_run_words(self) -> tuple[str, str]:
        """What is true without an open run, and what to press."""

    @property
    def prompt_session(self) -> PromptSession:
        """What the modes of the prompt share: the open text, settings and weights."""

    @property
    def marked(self) -> tuple[str, ...]:
        """Names of the marked runs, in the order of their letters."""

    def open_run(self, run: RunDirectory, pane: Pane | None = None) -> None:
        """Open a run and go to the pane; None: the form of a draft, else its charts."""

    def select_run(self, run: RunDirectory) -> None:
        """Open a run and stay on the pane; an unchanged draft stays on the config pane."""

    def close_run(self) -> None:
        """Leave no run open."""

    def new_draft(self) -> None:
        """Configure a new run: close the open run and show the draft on the config pane."""

    def new_draft_from(self, run: str, parent: DraftParent | None = None) -> None:
        """Configure a new run based on another.

        With a parent, it starts from that checkpoint's weights.
        """

    def mark(self, run: str) -> None:
        """Mark or unmark a run for comparison."""

    def set_marks(self, marks: Marks) -> None:
        """Replace the marks, save them and update the current pane."""

    def save_session(self) -> None:
        """Save the settings with the open run and the pane."""

    def save_settings(self) -> None:
        """Save `settings` in the background; several calls in a row save once or twice."""

    def open_pane(self, pane: Pane) -> None:
        """Go to a pane."""

    def report(self, text: str, *, trouble: bool = False) -> None:
        """Show one line in place of the footer for some seconds."""

    def show_notice(self, notice: Notice) -> None:
        """Show a notice on the current pane, or on the next one that is ready."""

    def show_notification(
        self, text: str, severity: Severity = "warning", seconds: float = 12
    ) -> None:
        """Show several lines over the pane for some seconds."""

    def report_error(self, error: RnnlmError | OSError) -> None:
        """Notify the user of an error with its hint."""

    def report_damage(self, warning: str) -> None:
        """Notify the user that a damaged file was moved aside; nothing for an empty text."""

    def in_thread(
        self,
        work: Callable[[], ResultT],
        then: Callable[[ResultT], Awaitable[None] | None] | None = None,
        failed: Callable[[RnnlmError | OSError], None] | None = None,
    ) -> None:
        """Run `work` in a thread and call `then` with its result in the app.

        Errors go to `failed`, or are reported. If it needs the code of a dataset that isn't trusted
        yet, the user is asked, and it is done again.
        """

    async def warm_sampler(self) -> SamplerClient:
        """Return the sampler, started if necessary."""
