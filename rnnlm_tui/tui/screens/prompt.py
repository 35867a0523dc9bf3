"""PromptScreen: sample from a checkpoint, or from the current weights of a run that trains.

Samples stream into a transcript, one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.timer import Timer

from rnnlm_tui.errors import ConfigError, RnnlmError, RunStateError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted, safe
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS, SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import Action, action, bindings_for
from rnnlm_tui.tui.palette import BAD, DIM, TEXT
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.services import to_thread
from rnnlm_tui.tui.views.prompt import CheckpointChoice, PromptHistory, SampleProgress
from rnnlm_tui.tui.widgets.panel import Line, TitledContainer
from rnnlm_tui.tui.widgets.prompt import PromptBox, SettingInput, SettingsRow
from rnnlm_tui.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot


UPDATE_SECONDS = 0.1
"""Seconds between updates of the text: ten a second read as a stream."""


ALREADY_SAMPLING = "already sampling, esc stops it"
"""Shown when another sample is requested meanwhile."""


class PromptScreen(PaneScreen):
    """Sends prompts to the sampler and shows the continuations."""

    PANE = "prompt"
    BINDINGS = bindings_for("prompt")
    FIRST_FOCUS = "#prompt-box"
    DEFAULT_CSS = """
    #transcript { height: 1fr; }
    #prompt-frame { height: auto; max-height: 6; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._history = PromptHistory()
        self._of: Path | None = None
        """The run that the transcript is about."""
        self._configured = False
        self._wanted: str | None = None
        """The chosen checkpoint, as in CheckpointChoice."""
        self._progress: SampleProgress | None = None
        """The running sample."""
        self._ticker: Timer | None = None

    def compose_body(self) -> ComposeResult:
        yield Transcript(id="transcript")
        yield SettingsRow(SamplingConfig(), id="settings")
        yield TitledContainer(PromptBox(id="prompt-box"), title="Prompt", id="prompt-frame")
        yield Line(id="prompt-hint")

    def on_mount(self) -> None:
        self.context.in_thread(self.context.services.history, self._history.load)
        self.context.in_thread(
            self.context.services.move_damaged_prompts_aside, self.context.report_damage
        )

    def on_resize(self, event: Resize) -> None:
        self.settings_row.fit(event.size.width)
        self._show_choice()

    # what is shown

    @property
    def transcript(self) -> Transcript:
        """The transcript."""
        return self.query_one(Transcript)

    @property
    def sampling(self) -> bool:
        """Whether a sample is running."""
        return self._progress is not None

    @property
    def box(self) -> PromptBox:
        """The box for prompts."""
        return self.query_one(PromptBox)

    @property
    def settings_row(self) -> SettingsRow:
        """The sampling settings."""
        return self.query_one(SettingsRow)

    @property
    def choice(self) -> CheckpointChoice | None:
        """The checkpoints to sample from; None if no run is open."""
        snapshot = self.snapshot
        if snapshot is None:
            return None
        return CheckpointChoice.of(
            snapshot.summary.run,
            snapshot.checkpoints,
            self._wanted,
            living=snapshot.summary.status in LIVING,
        )

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        """Show the open run. For another run the transcript is cleared."""
        if self.run_path != self._of:
            self.abandon()
            self._of, self._configured, self._wanted = self.run_path, False, None
            self.transcript.clear()
            self.transcript.show_status(Content(""))
        if snapshot is not None and not self._configured:
            self._configured = True
            self.settings_row.take(snapshot.config.sampling)
            self._load_ahead()
        if self.context.selected_checkpoint is not None:
            self._wanted, self.context.selected_checkpoint = self.context.selected_checkpoint, None
        if self.choice is not None and self.choice.gone:
            self._wanted = None
            self.context.report("the chosen checkpoint was deleted: now sampling from the best one")
        self._show_choice()
        self._open_fields(self.run_path is not None)

    def _open_fields(self, has_run: bool) -> None:
        """Let fields take the focus only if a run is open; else letters and digits act."""
        if self.box.can_focus == has_run:
            return
        self.box.can_focus = has_run
        for setting in self.query(SettingInput):
            setting.can_focus = has_run
        self.set_focus(self.box if has_run else None)

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        """Return the actions, by the focus and whether a sample is running."""
        if self.run_path is None:
            return [(action(name), "") for name in ("show_runs", "new_run", "leave")]
        writing = self.focused is not None and self.focused is not self.transcript
        if self.settings_row.has_focus_within:
            entries = [
                (action("generate"), "Keep"),
                (action("leave_field"), "Stop" if self.sampling else "Cancel"),
                (action("settings"), "Next"),
            ]
            return [*entries, *((action(name), "") for name in ("new_seed", "next_checkpoint"))]
        entries = [(action("generate"), "" if self.box.has_focus else "Write")]
        if self.sampling or writing:
            entries.append((action("leave_field"), "Stop" if self.sampling else "Leave field"))
        entries += [(action(name), "") for name in ("settings", "new_seed", "next_checkpoint")]
        if self.size.width >= WIDE_FROM or not writing:
            entries += [(action("save_text"), ""), (action("copy_text"), "")]
        return entries if writing else [*entries, (action("leave"), "")]

    def _show_choice(self) -> None:
        choice = self.choice
        self.transcript.legend = choice.legend() if choice is not None else ""
        nothing = (
            ("No run open.", "r lists the runs.")
            if self.run_path is None
            else ("Reading the run …",)
        )
        self.transcript.show_when_empty(*(choice.invitation() if choice is not None else nothing))
        self._show_hint()

    def _show_hint(self) -> None:
        """Show the line below the prompt: a problem with a setting, or the checkpoints and keys."""
        problem, text = self.settings_row.problem, self.box.text
        self.query_one("#prompt-hint", Line).put(
            Content.assemble(("  ✗ ", BAD), (problem, TEXT)) if problem else self._hint_line()
        )
        number, _, noun = counted(len(text), "character").partition(" ")
        too_long = len(text) > MAX_PROMPT_CHARACTERS
        frame = self.query_one("#prompt-frame", TitledContainer)
        frame.legend = (
            Content.assemble((number, BAD if too_long else TEXT), (f" {noun}", DIM)) if text else ""
        )

    def _hint_line(self) -> Content:
        """Return the keys of the focused field, and the checkpoints if there is room."""
        choice, wide, writing = self.choice, self.size.width >= WIDE_FROM, self.box.has_focus
        if self.run_path is None:
            return Content("")
        keys = (
            [
                ("↑", "earlier prompts"),
                ("^u", "clear"),
                ("^j", "new line"),
                *([] if wide else [("^s", "save"), ("^y", "copy")]),
            ]
            if writing
            else []
        )
        if self.focused is not None and self.focused.id == "setting-stop":
            keys = [("\\n", "a line break"), ("|", "between several")]
        right = Content("   ").join(
            Content.assemble((key, f"bold {TEXT}"), (f" {words}", DIM)) for key, words in keys
        )
        if choice is None or (keys and not wide):
            return Content.assemble("  ", right)
        left = Content.assemble("  ", choice.row_of_choices())
        return Content.assemble(
            left, " " * max(2, self.size.width - left.cell_length - right.cell_length - 2), right
        )

    # sampling

    def on_prompt_box_submitted(self, event: PromptBox.Submitted) -> None:
        self._send(event.prompt)

    def on_prompt_box_paste_shortened(self, event: PromptBox.PasteShortened) -> None:
        self.context.report(event.words, trouble=True)

    def action_generate(self) -> None:
        """Continue the prompt in the box; from anywhere else, go there first."""
        if self.run_path is None:
            self.context.report("no run open: r lists the runs")
        elif self.box.has_focus:
            self._send(self.box.text)
        else:
            self.set_focus(self.box)

    def action_new_run(self) -> None:
        """Configure a new run."""
        self.context.new_draft()

    def _send(self, prompt: str) -> None:
        choice = self.choice
        try:
            settings = self.settings_row.settings
        except ConfigError:
            self.context.report(self.settings_row.problem, trouble=True)
            return
        if self.sampling:
            self.context.report(ALREADY_SAMPLING)
        elif choice is None:
            self.context.report("no run open: r lists the runs")
        elif not choice.possible:
            self.context.report(f"{choice.run} has no checkpoint to sample from", trouble=True)
        elif len(prompt) > MAX_PROMPT_CHARACTERS:
            self.context.report(
                f"the prompt has {counted(len(prompt), 'character')}, the limit is"
                f" {MAX_PROMPT_CHARACTERS:,}",
                trouble=True,
            )
        else:
            if self._history.add(prompt):
                self.context.in_thread(partial(self.context.services.remember_prompt, prompt))
            self.begin(prompt, settings, choice.row)

    def begin(self, prompt: str, settings: SamplingConfig, row: CheckpointRow | None) -> None:
        """Sample from a checkpoint, or from the current weights (None)."""
        progress = SampleProgress(
            uuid4().hex, settings, where="now" if row is None else f"step {row.step:,}"
        )
        self._progress = progress
        self.transcript.begin(prompt)
        self._ticker = self.set_interval(UPDATE_SECONDS, self._update_text)
        self._update_text()
        self.refresh_footer()
        self.run_worker(self._sample(progress, prompt, settings, row), group="sample")

    async def _sample(
        self,
        progress: SampleProgress,
        prompt: str,
        settings: SamplingConfig,
        row: CheckpointRow | None,
    ) -> None:
        """Request a sample and take its pieces; a sample whose run was left continues unseen."""
        try:
            checkpoint = await self._checkpoint(row)
            sampler = await self.context.warm_sampler()
            # again, if it died: nothing is awaited between here and the request
            await sampler.start()
            if self._progress is not progress:
                return
            progress.asked = True
            request = SampleRequest(
                id=progress.request_id, checkpoint=str(checkpoint), prompt=prompt, settings=settings
            )
            async for answer in sampler.generate(request):
                if self._progress is not progress:
                    continue
                if isinstance(answer, SamplePiece):
                    progress.take(answer)
                else:
                    self._finish(progress, answer)
        except (RnnlmError, OSError) as error:
            if self._progress is progress:
                self._fail(
                    ". ".join(part for part in (error.message, error.hint) if part)
                    if isinstance(error, RnnlmError)
                    else str(error)
                )

    async def _checkpoint(self, row: CheckpointRow | None) -> Path:
        """Return the directory to sample from.

        For the current weights the worker writes a snapshot first.
        """
        run = self.context.run_directory
        if run is None:
            raise RunStateError("no run open")
        if row is not None:
            return run.path / row.path
        return (await to_thread(self.context.services.snapshot, run)).path

    def _update_text(self) -> None:
        if self._progress is not None:
            self.transcript.extend(self._progress.drain())
            self.transcript.show_status(self._progress.living())

    def _finish(self, progress: SampleProgress, done: SampleDone) -> None:
        self.transcript.extend(progress.drain())
        entry = self.transcript.newest
        if entry is not None and done.text.startswith(entry.text):
            self.transcript.extend(done.text[len(entry.text) :])
        self.transcript.end(
            "stopped" if done.reason == "cancelled" else "done", meta=progress.meta(done)
        )
        self.transcript.show_status(
            progress.ended(
                done, wide=self.size.width >= WIDE_FROM, cells=self.transcript.size.width - 4
            )
        )
        self._end_sample()

    def _fail(self, error: str) -> None:
        self._update_text()
        self.transcript.end("failed", error=error)
        self.transcript.show_status(Content.assemble(("✗ ", BAD), ("no text", DIM)))
        self._end_sample()

    def _end_sample(self) -> None:
        """Reset after the end of a sample."""
        self._progress = None
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        self.end_notice(ALREADY_SAMPLING)
        self.refresh_footer()

    def stop(self) -> None:
        """Stop the sample; its text so far comes with the answer.

        A sample that wasn't requested yet is dropped.
        """
        progress = self._progress
        if progress is None:
            return
        if progress.asked:
            self.run_worker(self._cancel(progress), group="cancel")
        else:
            self.transcript.end("stopped", meta=f"{progress.where} · stopped")
            self.transcript.show_status(progress.given_up())
            self._end_sample()

    def abandon(self) -> None:
        """Stop the sample, and show nothing more of it."""
        if self._progress is not None:
            self.stop()
            self._end_sample()

    async def _cancel(self, progress: SampleProgress) -> None:
        if self.context.sampler is not None:
            await self.context.sampler.cancel(progress.request_id)

    # keys

    def action_leave_field(self) -> None:
        """Stop a running sample, leave a setting unchanged, or leave the box: then letters act."""
        if self.sampling:
            self.stop()
        elif self.settings_row.has_focus_within:
            self.settings_row.give_up()
            self.set_focus(self.box)
        else:
            self.set_focus(self.transcript)

    def action_older_text(self) -> None:
        """Scroll one page back, also from inside a field."""
        self.transcript.action_scroll_page(1)

    def action_newer_text(self) -> None:
        """Scroll one page forward."""
        self.transcript.action_scroll_page(-1)

    def action_settings(self) -> None:
        """Go to the settings, through them, and back to the prompt."""
        if self.settings_row.has_focus_within:
            self.focus_next()
        elif self.run_path is not None:
            self.settings_row.focus_first()

    def action_back_to_prompt(self) -> None:
        """Leave the settings."""
        self.set_focus(self.box)

    def on_settings_row_changed(self, _event: SettingsRow.Changed) -> None:
        self._show_hint()

    def on_text_area_changed(self) -> None:
        self._show_hint()

    def on_descendant_focus(self) -> None:
        self._show_hint()
        self.refresh_footer()

    def on_prompt_box_history_requested(self, event: PromptBox.HistoryRequested) -> None:
        text = self._history.older(self.box.text) if event.direction < 0 else self._history.newer()
        if text is not None:
            self.box.put(text)

    def action_new_seed(self) -> None:
        """Use the next seed, and sample the prompt in the box again."""
        if self.sampling:
            self.context.report(ALREADY_SAMPLING)
            return
        try:
            seed = self.settings_row.settings.seed
        except ConfigError:
            self.context.report(self.settings_row.problem, trouble=True)
        else:
            self.settings_row.set_seed((seed + 1) % 2**63)
            if self.box.text:
                self._send(self.box.text)

    def action_next_checkpoint(self) -> None:
        """Choose the next of last, best, older checkpoints and current weights, and load it."""
        choice = self.choice
        following = choice.next() if choice is not None else None
        if following is None:
            self.context.report("no checkpoint yet")
            return
        self._wanted = following
        self._show_choice()
        self._load_ahead()

    def _load_ahead(self) -> None:
        """Load the chosen checkpoint before it is needed, so that the first token comes at once."""
        row = self.choice.row if self.choice is not None else None
        if row is not None and self.run_path is not None:
            self.run_worker(self._load(self.run_path / row.path), group="load", exclusive=True)

    async def _load(self, checkpoint: Path) -> None:
        try:
            await (await self.context.warm_sampler()).load(str(checkpoint))
        except RnnlmError as error:
            self.context.report(error.message, trouble=True)

    def action_save_text(self) -> None:
        """Save the newest text to a new file."""
        entry = self.transcript.newest
        if entry is None or self.snapshot is None:
            self.context.report("no text yet")
            return
        name = f"{self.snapshot.summary.run}-sample"
        self.context.in_thread(
            partial(self.context.services.save_text, name, entry.whole + "\n"),
            lambda path: self.context.report(f"saved as {path}"),
        )

    def action_copy_text(self) -> None:
        """Copy the newest text to the terminal's clipboard, if the terminal allows it."""
        entry = self.transcript.newest
        if entry is None:
            self.context.report("no text yet")
            return
        self.app.copy_to_clipboard(safe(entry.whole, keep="\n\t"))  # it may be pasted into a shell
        self.context.report(
            f"copied {counted(len(entry.whole), 'character')} (if your terminal allows it); ^s"
            " saves a file"
        )
