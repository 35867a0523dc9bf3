"""What a screen may ask of the app: the contract that `tui/laboratory.py` keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rnnlm_tui.contract.commands import Verb
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.errors import InputError, RnnlmError
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot
    from rnnlm_tui.supervisor.sampler_client import SamplerClient
    from rnnlm_tui.tui.actions import Action, Pane
    from rnnlm_tui.tui.messages import Notice
    from rnnlm_tui.tui.services import Services
    from rnnlm_tui.tui.widgets.machine_view import Readings
    from rnnlm_tui.tui.widgets.marks import Marks

ResultT = TypeVar("ResultT")


class Laboratory(Protocol):
    """What a screen may ask of the app."""

    run_directory: RunDirectory | None
    """The open run; None before one is opened."""
    snapshot: RunSnapshot | None
    """The open run as it is now; None until it has been read."""
    summaries: tuple[RunSummary, ...] | None
    """All runs, newest first; None until they have been read."""
    compared: tuple[RunSnapshot, ...]
    """The marked runs as they are now, in the order of their letters, as far as they have been read; only while a pane shows that has them."""
    machine: MachineFacts | None
    """What this machine is; None for the first moment."""
    readings: Readings
    """How busy this machine is, as the app reads it itself where no run's worker does."""
    draft: RunConfig | None
    """The config being edited and not yet started."""
    draft_from: str
    """The run that the draft was made from; empty for a preset or the draft of the last session."""
    selected_checkpoint: str | None
    """Directory of the checkpoint chosen for sampling, relative to the run's directory; None: the best one."""
    sampler: SamplerClient | None
    """The one sampler, started in the background; None until it is asked for."""
    services: Services
    """Store and supervisor; its methods block, so call them through `in_thread`."""
    actions: tuple[Action, ...]
    """The table of actions with the user's keys."""
    ascii_only: bool
    """Marks, panels and charts in ASCII."""
    waiting_notice: Notice | None
    """What is to be said on the next pane that is ready."""
    marks: Marks
    """The runs that are marked to compare, with their letters and colours."""
    prefer_living: bool
    """The open run is only the one of the last time: the list of runs begins with one that trains, where there is one."""
    settings: dict[str, object]
    """What is kept until the next start: plain JSON values; screens read and write their own keys."""

    def look_at_compared(self, steps: Mapping[str, tuple[int, int]]) -> None:
        """The same for the compared runs, by name."""

    def start_run(self, config: RunConfig, name: str | None = None, refused: Callable[[InputError], None] | None = None) -> None:
        """Create the run, launch its worker and open it on the train pane; a config that can't run here goes to `refused`, all else that goes wrong is said."""

    def send(self, verb: Verb, **arguments: object) -> None:
        """One command to the open run's worker; its outcome becomes one calm line."""

    def resume(self) -> None:
        """Go on with a run that is paused, or start its next attempt; a draft's first one."""

    def open_run(self, run: RunDirectory, pane: Pane = "train") -> None:
        """Make this the open run and go to the pane."""

    def choose_run(self, run: RunDirectory) -> None:
        """Make this the open run and stay on the pane; a draft stays too."""

    def close_run(self) -> None:
        """No run is open any more."""

    def take_away(self, name: str) -> None:
        """This run is about to be deleted or renamed here: nobody is told that it can't be read any more, and nothing opens it."""

    def bring_back(self, name: str) -> None:
        """There is a run of this name again, or still."""

    def new_draft(self) -> None:
        """Configure a new run: no run is open, the config pane shows the draft."""

    def new_draft_from(self, run: str) -> None:
        """Configure a new run with the config of this one; if that would discard a changed draft, ask first."""

    @property
    def marked(self) -> tuple[str, ...]:
        """Names of the marked runs, in the order of their letters."""

    def mark(self, run: str) -> None:
        """Mark the run to compare, or no longer."""

    def set_marks(self, marks: Marks) -> None:
        """Other runs are marked: kept for the next start, and the pane that shows hears of it."""

    def remember(self) -> None:
        """Keep the settings, the open run and the pane for the next start."""

    def look_now(self) -> None:
        """Look at the runs at once, for something changed them."""

    def look_at(self, steps: tuple[int, int] | None) -> None:
        """The charts show only these steps, the first and the last of them: `snapshot.detail` has them at once. None: they show the whole run."""

    def keep_settings(self) -> None:
        """Write `settings` down for the next start, soon and once however often it is asked."""

    def open_pane(self, pane: Pane) -> None:
        """Go to a pane of the open run, or to the runs."""

    def say(self, text: str, *, trouble: bool = False) -> None:
        """One line in the footer's place for some seconds; text from outside is made harmless."""

    def say_error(self, error: RnnlmError | OSError) -> None:
        """An error's message and hint, until they have been read."""

    def say_damaged(self, words: str) -> None:
        """Show a warning that a damaged file was moved aside; nothing for an empty text."""

    def in_thread(
        self,
        work: Callable[[], ResultT],
        then: Callable[[ResultT], Awaitable[None] | None] | None = None,
        failed: Callable[[RnnlmError | OSError], None] | None = None,
    ) -> None:
        """Run `work` in a thread, then `then` with its result back here; an RnnlmError goes to `failed`, or is said."""

    async def warm_sampler(self) -> SamplerClient:
        """The sampler, started if it is not yet."""
