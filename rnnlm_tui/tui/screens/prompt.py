"""The pane Prompt: a conversation with a checkpoint, or with the weights of this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.timer import Timer

from rnnlm_tui.contract.config import SamplingConfig
from rnnlm_tui.contract.metrics import CheckpointRow, perplexity
from rnnlm_tui.contract.requests import MAX_PROMPT_CHARACTERS, SampleDone, SamplePiece, SampleRequest, SampleSettings
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.errors import ConfigError, RnnlmError, RunStateError
from rnnlm_tui.tui.actions import Action, action, bindings_for
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.widgets import figures
from rnnlm_tui.tui.widgets.content import from_outside, plain
from rnnlm_tui.tui.widgets.frame import Line
from rnnlm_tui.tui.widgets.palette import BAD, DIM, GOOD, TEXT, TRAIN, VALIDATION
from rnnlm_tui.tui.widgets.panel import TitledContainer
from rnnlm_tui.tui.widgets.prompt_box import PromptBox
from rnnlm_tui.tui.widgets.prompt_history import PromptHistory
from rnnlm_tui.tui.widgets.settings_row import SettingsRow
from rnnlm_tui.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from rnnlm_tui.supervisor.monitor import RunSnapshot

WIDE_FROM = 110
PIECE_SECONDS = 0.1
"""Between two looks at what was drawn since: ten a second are read as a stream."""
NOW = "now"
"""The choice of a running run's weights as they are."""


class PromptScreen(PaneScreen):
    """Sends prompts to the sampler and shows what comes."""

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
        self._choice: str | None = None
        """Directory of the chosen checkpoint, `now`, or None for the best one."""
        self._request: str | None = None
        """Id of the sample that runs."""
        self._buffer: list[str] = []
        self._tokens = 0
        self._wanted = 0
        self._seed: int | None = None
        self._started = 0.0
        self._first: float | None = None
        self._ticker: Timer | None = None

    def compose_body(self) -> ComposeResult:
        yield Transcript(id="transcript")
        yield SettingsRow(SamplingConfig(), id="settings")
        with TitledContainer(PromptBox(id="prompt-box"), title="Prompt", id="prompt-frame"):
            pass
        yield Line(id="prompt-hint")

    def on_mount(self) -> None:
        self.lab.in_thread(self.lab.services.history, self._history.load)

    def on_resize(self, event: Resize) -> None:
        self.query_one(SettingsRow).set_class(event.size.width >= WIDE_FROM, "-wide")
        self._show_hint()

    # what shows

    @property
    def transcript(self) -> Transcript:
        """The conversation."""
        return self.query_one(Transcript)

    @property
    def box(self) -> PromptBox:
        """Where prompts are written."""
        return self.query_one(PromptBox)

    @property
    def sampling(self) -> bool:
        """Whether a sample runs."""
        return self._request is not None

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        """The open run; its conversation starts anew when it is another one."""
        if self.run_path != self._of:
            self._of, self._configured, self._choice = self.run_path, False, None
            self._stop()
            self.transcript.clear()
            self.transcript.show_status(Content(""))
        if snapshot is not None and not self._configured:
            self._configured = True
            self.query_one(SettingsRow).take(snapshot.config.sampling)
        if self.lab.selected_checkpoint is not None:
            self._choice, self.lab.selected_checkpoint = self.lab.selected_checkpoint, None
        self._show_choice()

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        """Enter and esc do different things while a sample runs, and letters only outside the text fields."""
        writing = not self.transcript.has_focus and self.focused is not None
        esc = [(action("leave_field"), "Stop" if self.sampling else "Leave field")] if self.sampling or writing else []
        names = ["settings", "new_seed", "next_checkpoint"]
        if self.size.width >= WIDE_FROM or not writing:
            names += ["save_text", "copy_text"]
        return [
            (action("generate"), "" if self.box.has_focus else "Write"),
            *esc,
            *((action(name), "") for name in names),
            *([] if writing else [(action("leave"), "")]),
        ]

    def _rows(self) -> tuple[CheckpointRow, ...]:
        """The run's checkpoints: last, best, then older."""
        rows = sorted(self.snapshot.checkpoints if self.snapshot else (), key=lambda row: row.step, reverse=True)
        return tuple(
            [row for row in rows if row.last] + [row for row in rows if row.best and not row.last] + [row for row in rows if not row.last and not row.best]
        )

    @property
    def _living(self) -> bool:
        return self.snapshot is not None and self.snapshot.summary.status in LIVING

    def _choices(self) -> list[str]:
        return [row.path for row in self._rows()] + ([NOW] if self._living else [])

    @property
    def _chosen(self) -> CheckpointRow | None:
        """The checkpoint to sample from; None: the weights of this moment, or nothing."""
        rows = self._rows()
        if self._choice == NOW:
            return None
        chosen = next((row for row in rows if row.path == self._choice), None)
        return chosen or next((row for row in rows if row.best), rows[0] if rows else None)

    def _show_choice(self) -> None:
        snapshot, row = self.snapshot, self._chosen
        if snapshot is None:
            self.transcript.legend = ""
            self.transcript.show_when_empty("No run is open.", "r lists the runs." if self.run_path is None else "Reading it …")
        else:
            self.transcript.legend = self._legend(snapshot, row)
            self.transcript.show_when_empty(*self._invitation(snapshot, row))
        self._show_hint()

    def _legend(self, snapshot: RunSnapshot, row: CheckpointRow | None) -> Content:
        name = from_outside(snapshot.summary.run, limit=30, newlines="show").stylize(DIM)
        if row is None:
            return Content.assemble(name, (" @now", f"bold {TRAIN}"), (" the weights of this moment", DIM)) if self._living else name
        mark = Content.styled(" @best", f"bold {VALIDATION}") if row.best else Content.styled(" @last", f"bold {TRAIN}") if row.last else Content(" ")
        value = "" if row.validation_loss is None else figures.figure(perplexity(row.validation_loss))
        return Content.assemble(name, mark, (" step ", DIM), (f"{row.step:,}", TEXT), (", val " if value else "", DIM), (value, TEXT))

    def _invitation(self, snapshot: RunSnapshot, row: CheckpointRow | None) -> tuple[str, ...]:
        if row is not None:
            return ("Write the beginning of a text; enter lets the model go on.",)
        if self._living:
            return ("No checkpoint yet: enter samples from the weights of this moment.", "Training goes on meanwhile.")
        return (f"{plain(snapshot.summary.run, limit=40)} has no checkpoint to sample from.", "2 shows its training.")

    def _show_hint(self) -> None:
        problem = self.query_one(SettingsRow).problem
        text = self.box.text
        if problem:
            hint = Content.assemble(("  ✗ ", BAD), (problem, TEXT))
        elif self.size.width >= WIDE_FROM and self.snapshot is not None:
            hint = self._wide_hint()
        else:
            keys = (("↑", "earlier prompts"), ("^u", "clear"), ("^j", "new line"), ("^s", "save"), ("^y", "copy"))
            hint = Content("  ") + Content("   ").join(Content.assemble((key, f"bold {TEXT}"), (f" {words}", DIM)) for key, words in keys)
        self.query_one("#prompt-hint", Line).put(hint)
        frame = self.query_one("#prompt-frame", TitledContainer)
        over = len(text) > MAX_PROMPT_CHARACTERS
        frame.legend = Content.assemble((f"{len(text):,}", BAD if over else TEXT), (" characters", DIM)) if text else ""

    def _wide_hint(self) -> Content:
        row = self._chosen
        parts = []
        for candidate in self._rows()[:2]:
            word = "last" if candidate.last and not candidate.best else "best" if candidate.best else "step"
            here = row is not None and candidate.path == row.path
            parts.append(Content.styled(f"{word} {candidate.step:,}", f"bold underline {VALIDATION if candidate.best else TRAIN}" if here else DIM))
        if row is not None and row.path not in [candidate.path for candidate in self._rows()[:2]]:
            parts.append(Content.styled(f"step {row.step:,}", f"bold underline {TEXT}"))
        elif len(self._rows()) > 2:
            parts.append(Content.styled("older…", DIM))
        if self._living:
            parts.append(Content.styled("now", f"bold underline {TRAIN}" if row is None else DIM))
        left = Content.assemble(("  checkpoint  ", DIM), Content("  ").join(parts), ("   ^k", f"bold {TEXT}"), (" next", DIM)) if parts else Content("")
        right = Content.assemble(
            ("↑", f"bold {TEXT}"), (" earlier prompts   ", DIM), ("^u", f"bold {TEXT}"), (" clear   ", DIM), ("^j", f"bold {TEXT}"), (" new line", DIM)
        )
        return Content.assemble(left, " " * max(2, self.size.width - left.cell_length - right.cell_length - 3), right)

    # sampling

    def on_prompt_box_sent(self, event: PromptBox.Sent) -> None:
        self._send(event.prompt)

    def action_generate(self) -> None:
        """Continue the prompt that stands in the box; from anywhere else first go there."""
        if self.box.has_focus:
            self._send(self.box.text)
        else:
            self.box.focus()

    def _send(self, prompt: str) -> None:
        if self.sampling:
            self.lab.say("a sample runs, esc stops it")
            return
        if self.snapshot is None:
            self.lab.say("no run is open: r lists the runs")
            return
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            self.lab.say(f"the prompt has {len(prompt):,} characters, at most {MAX_PROMPT_CHARACTERS:,} are taken", trouble=True)
            return
        try:
            settings = self.query_one(SettingsRow).settings
        except ConfigError:
            self.lab.say(self.query_one(SettingsRow).problem, trouble=True)
            return
        if self._chosen is None and not self._living:
            self.lab.say(f"{self.snapshot.summary.run} has no checkpoint to sample from", trouble=True)
            return
        if self._history.add(prompt):
            self.lab.in_thread(partial(self.lab.services.remember_prompt, prompt))
        self._begin(prompt, settings)
        self.run_worker(self._sample(prompt, settings), group="sample", exclusive=True)

    def _begin(self, prompt: str, settings: SampleSettings) -> None:
        self._request = uuid4().hex
        self._buffer, self._tokens, self._first = [], 0, None
        self._wanted, self._seed, self._started = settings.max_new_tokens, None if settings.greedy else settings.seed, monotonic()
        self.transcript.begin(prompt)
        self._ticker = self.set_interval(PIECE_SECONDS, self._show_pieces)
        self._show_living_status()
        self.refresh_footer()

    async def _sample(self, prompt: str, settings: SampleSettings) -> None:
        request_id = self._request or ""
        row, run = self._chosen, self._of
        try:
            checkpoint = await self._checkpoint(row)
            sampler = await self.lab.warm_sampler()
            request = SampleRequest(id=request_id, checkpoint=str(checkpoint), prompt=prompt, settings=settings)
            async for answer in sampler.generate(request):
                if run != self._of or self._request != request_id:
                    continue
                if isinstance(answer, SampleDone):
                    self._finish(answer, row)
                elif isinstance(answer, SamplePiece):
                    self._take(answer)
            if self._request == request_id:
                self._end("stopped", error="the sampler ended before the text did")
        except (RnnlmError, OSError) as error:
            if run == self._of and self._request == request_id:
                message = f"{error.message}. {error.hint}".strip(". ") if isinstance(error, RnnlmError) else str(error)
                self._end("failed", error=message)

    async def _checkpoint(self, row: CheckpointRow | None) -> Path:
        """The directory to sample from; for the weights of this moment the worker writes a snapshot first."""
        run = self.lab.run_directory
        if run is None:
            raise RunStateError("no run is open")
        if row is not None:
            return run.path / row.path
        result = await asyncio.to_thread(self.lab.services.send, run, "snapshot")
        return run.path / result.checkpoint

    def _take(self, piece: SamplePiece) -> None:
        if self._first is None:
            self._first = monotonic()
        self._buffer.append(piece.text)
        self._tokens = piece.tokens

    def _show_pieces(self) -> None:
        text = "".join(self._buffer)
        self._buffer.clear()
        self.transcript.extend(text)
        if self.sampling:
            self._show_living_status()

    def _show_living_status(self) -> None:
        if self._first is None:
            status = Content.assemble(("● ", TRAIN), ("waking the model …" if monotonic() - self._started > 0.5 else "…", DIM))
        else:
            elapsed = monotonic() - self._first
            rate = Content.assemble("   ", (figures.count(self._tokens / elapsed), TEXT), (" tok/s", DIM)) if elapsed > 0.2 else Content("")
            status = Content.assemble(
                ("● ", TRAIN), (f"{self._tokens:,}", TEXT), (f" of {self._wanted:,} tokens", DIM), rate,
                ("   first token ", DIM), (f"{(self._first - self._started) * 1000:,.0f}", TEXT), (" ms", DIM),
            )  # fmt: skip
        self.transcript.show_status(status)

    def _finish(self, done: SampleDone, row: CheckpointRow | None) -> None:
        self._show_pieces()
        entry = self.transcript.newest
        if entry is not None and done.text.startswith(entry.text):
            self.transcript.extend(done.text[len(entry.text) :])
        stopped = done.reason == "cancelled"
        seed = "greedy" if self._seed is None else f"seed {self._seed}"
        where = "now" if row is None else f"step {row.step:,}"
        self._end("stopped" if stopped else "done", meta=f"{done.tokens:,} tokens · {seed} · {where}{' · stopped' if stopped else ''}")
        words = {"length": f" of {self._wanted:,} tokens", "stop": " tokens, the text ended", "cancelled": f" of {self._wanted:,} tokens, stopped"}[done.reason]
        rate = done.tokens / done.seconds if done.seconds > 0 else None
        parts = [Content.assemble(("■ " if stopped else "✓ ", DIM if stopped else GOOD), (f"{done.tokens:,}", TEXT), (words, DIM))]
        parts.append(Content.assemble((figures.count(rate), TEXT), (" tok/s", DIM)))
        parts.append(Content.assemble(("first token ", DIM), (f"{done.first_token_seconds * 1000:,.0f}", TEXT), (" ms", DIM)))
        parts.append(Content.assemble((f"{done.bits_per_token:.1f}", TEXT), (" bits/token", DIM)))
        if self.size.width >= WIDE_FROM:
            parts.append(Content.assemble((seed.partition(" ")[0] + " ", DIM), (seed.partition(" ")[2], TEXT)))
        self.transcript.show_status(Content("   ").join(parts))

    def _end(self, state: str, *, meta: str = "", error: str = "") -> None:
        self._show_pieces()
        self._request = None
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        self.transcript.end("failed" if error else "stopped" if state == "stopped" else "done", meta=meta, error=error)
        if error:
            self.transcript.show_status(Content.assemble(("✗ ", BAD), ("nothing more came", DIM)))
        self.refresh_footer()

    def _stop(self) -> None:
        """Ask the sampler to stop; what was drawn so far comes with its answer."""
        request, sampler = self._request, self.lab.sampler
        if request is not None and sampler is not None:
            self.run_worker(self._cancel(request), group="cancel")

    async def _cancel(self, request: str) -> None:
        sampler = self.lab.sampler
        if sampler is not None:
            try:
                await sampler.cancel(request)
            except RnnlmError as error:
                self.lab.say_error(error)

    # the keys

    def action_leave_field(self) -> None:
        """`esc`: stop a running sample, else out of the field; letters act then."""
        if self.sampling:
            self._stop()
        else:
            self.set_focus(self.transcript)
        self.refresh_footer()

    def action_settings(self) -> None:
        """Into the settings, and on through them back to the prompt."""
        row = self.query_one(SettingsRow)
        if row.has_focus_within:
            self.focus_next()
        else:
            row.focus_first()

    def on_settings_row_done(self, _event: SettingsRow.Done) -> None:
        self.box.focus()

    def on_settings_row_changed(self, _event: SettingsRow.Changed) -> None:
        self._show_hint()

    def on_text_area_changed(self) -> None:
        self._show_hint()

    def on_descendant_focus(self) -> None:
        self.refresh_footer()

    def on_prompt_box_asked(self, event: PromptBox.Asked) -> None:
        text = self._history.older(self.box.text) if event.direction < 0 else self._history.newer()
        if text is not None:
            self.box.put(text)

    def action_new_seed(self) -> None:
        """The next seed, so that the same prompt gives another text."""
        row = self.query_one(SettingsRow)
        try:
            seed = row.settings.seed
        except ConfigError:
            self.lab.say(row.problem, trouble=True)
            return
        row.set_seed((seed + 1) % 2**63)

    def action_next_checkpoint(self) -> None:
        """Last, best, older ones, the weights of this moment, and around again."""
        choices = self._choices()
        if not choices:
            self.lab.say("there is no checkpoint yet")
            return
        row = self._chosen
        here = choices.index(NOW if row is None else row.path) if (row is not None or NOW in choices) else -1
        self._choice = choices[(here + 1) % len(choices)]
        self._show_choice()
        chosen, run = self._chosen, self.lab.run_directory
        if chosen is not None and run is not None and self.lab.sampler is not None:
            self.run_worker(self._load(run.path / chosen.path), group="load", exclusive=True)

    async def _load(self, checkpoint: Path) -> None:
        """Ahead of the first sample, so that its first token comes at once; trouble is told when it is sampled from."""
        try:
            sampler = await self.lab.warm_sampler()
            await sampler.load(str(checkpoint))
        except RnnlmError as error:
            self.log(error)

    def action_save_text(self) -> None:
        """The newest text into a new file."""
        entry = self.transcript.newest
        if entry is None or self.snapshot is None:
            self.lab.say("there is no text yet")
            return
        name = f"{self.snapshot.summary.run}-sample"
        self.lab.in_thread(partial(self.lab.services.save_text, name, entry.whole + "\n"), lambda path: self.lab.say(f"saved as {path}"))

    def action_copy_text(self) -> None:
        """The newest text to the terminal's clipboard; whether it arrives can't be known."""
        entry = self.transcript.newest
        if entry is None:
            self.lab.say("there is no text yet")
            return
        self.app.copy_to_clipboard(entry.whole)
        self.lab.say(f"sent {len(entry.whole):,} characters to the terminal, which may or may not take them; ^s saves a file")
