"""PromptScreen: sample from a checkpoint, or from the current weights of a run that trains.

Samples stream into a transcript. They can be continued, drawn again with another seed, edited and
undone: each text of the transcript is a tree of branches, and the newest tree is the session's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.events import Resize, ScreenResume

from rnnlm_tui import store
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import SEEDS
from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS, length_problem
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.actions import bindings_for, following_mode
from rnnlm_tui.tui.screens.choose import choose_weights
from rnnlm_tui.tui.screens.studio import NO_TEXT, StudioScreen
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.prompt import ALREADY_SAMPLING, LAST, NO_RUN, NOW
from rnnlm_tui.tui.views.sample_tree import Drawing, Sample, SampleTree, Weights
from rnnlm_tui.tui.widgets.frame import ModeLine
from rnnlm_tui.tui.widgets.prompt import PromptFrame
from rnnlm_tui.tui.widgets.settings_row import PromptSettings, SettingsRow
from rnnlm_tui.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.store.paths import RunDirectory


AGE_SECONDS = 1.0
"""Seconds between updates of the age of current weights."""
REMEMBERED = "prompt"
"""Where the app's settings have the number of samples and the like."""


class PromptScreen(StudioScreen):
    """Sends prompts to the sampler and shows the continuations."""

    PANE = "prompt"
    BINDINGS = bindings_for("prompt")
    FIRST_FOCUS = "#prompt-box"
    NO_BRANCH = "no other branch: {key:new_seed} draws one"

    def __init__(self) -> None:
        super().__init__()
        self._of: Path | None = None
        """The run that the transcript is about."""
        self._configured = False
        self._wanted: str | None = None
        """The chosen checkpoint, as in CheckpointChoice."""
        self.transcript = Transcript(id="transcript")
        self.settings_row = SettingsRow(id="settings")
        """The sampling settings."""
        self.frame = PromptFrame(
            ("kept_samples", "kept_states", "setting_presets"), id="prompt-frame"
        )
        """The frame of the box for prompts."""
        self._taken: tuple[Weights, float] | None = None
        """The last snapshot of current weights, and its monotonic time."""
        self._edited: Sample | None = None
        """The branch whose text is being edited."""
        self._followed: tuple[int, int] | None = None
        """While the run is followed: the evaluation after which it was sampled last."""

    def compose_body(self) -> ComposeResult:
        yield self.transcript
        yield self.settings_row
        yield self.frame
        yield ModeLine("prompt", id="prompt-modes")

    def on_mount(self) -> None:
        for move in (
            lambda: store.state.prompt_history().move_damaged_aside(),
            lambda: store.kept_samples.all_samples().move_damaged_aside(),
        ):
            self.context.in_thread(move, partial(self.context.show_notification, seconds=20))
        self.transcript.side_by_side = self._remembered.get("side_by_side") is True
        self.set_interval(AGE_SECONDS, self._show_age)

    # what is shown

    @property
    def _remembered(self) -> dict[str, object]:
        saved = self.context.settings.get(REMEMBERED)
        return cast(dict[str, object], saved) if isinstance(saved, dict) else {}

    def _remember(self, **values: object) -> None:
        if any(self._remembered.get(name) != value for name, value in values.items()):
            self.context.settings[REMEMBERED] = {**self._remembered, **values}
            self.context.save_settings()

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        """Show the open run. For another run the transcript is cleared."""
        if self.run_path != self._of:
            self._leave_run()
        if self.context.selected_checkpoint is not None:
            self._wanted, self.context.selected_checkpoint = self.context.selected_checkpoint, None
        if snapshot is not None and not self._configured:
            self._configured = True
            session, samples = self.session, self._remembered.get("samples")
            sampling = session.settings if session.run is not None else snapshot.config.sampling
            samples = samples if isinstance(samples, int) and samples > 0 else 1
            random_seed = self._remembered.get("random_seed") is True
            self.settings_row.take(PromptSettings(sampling, random_seed, samples))
            self._load_ahead()
        choice = self.choice_of(self._wanted)
        if choice is not None and choice.gone:
            self._wanted = None
            self.context.report("the chosen checkpoint was deleted: now sampling from the best one")
        self._show_choice()
        self._show_tree()
        self._follow(snapshot)

    def _leave_run(self) -> None:
        self.abandon()
        self._show_keys()
        self._of, self._configured, self._wanted = self.run_path, False, None
        self._taken = self._followed = None
        self.frame.tokens.clear()
        self.session.keep_only(self.run_path)
        if self.transcript.newest is not self.session.tree:  # else it goes on with other weights
            self._end_edit()
            self.transcript.clear()

    def _show_tree(self) -> None:
        """Show the text, or the branch of a text, that another mode has made or chosen."""
        tree = self.session.tree
        if tree is self.transcript.newest and not self.sampling:
            self.transcript.redraw()
        elif tree.current is not None and not self.sampling:
            tree.prompt = tree.current.prompt
            self.transcript.add(tree)

    def on_screen_resume(self, _event: ScreenResume) -> None:
        """Take the prompt and the settings that another mode has changed."""
        session = self.session
        if not self.is_ready or not self._configured or not session.changed:
            return
        session.changed = False
        if self._edited is None and self.box.text != session.prompt:
            self.box.put(session.prompt)
        settings = PromptSettings(session.settings, session.random_seed, session.samples)
        self.settings_row.take(settings)

    def footer_entries(self) -> dict[str, str]:
        """Return the actions, by the focus and whether a request is running."""
        if self.run_path is None:
            return self.keys_without_run()
        stop = "Stop" if self.sampling else ""
        usual: tuple[str, ...] = ("settings", "new_seed", "next_checkpoint")
        if self.settings_row.has_focus_within:
            verbs = {"generate": "Keep", "leave_field": stop or "Cancel", "settings": "Next"}
            usual = ("setting_presets", "new_seed", "next_checkpoint")
        elif self._edited is not None:
            verbs, usual = {"generate": "Continue from here", "leave_field": "Discard"}, ()
        else:
            writing = self.focused not in (None, self.transcript)
            verbs = {"generate": "" if self.box.has_focus else "Write"}
            verbs |= {"leave_field": stop or "Back"} if stop or writing else {}
            usual = (*usual, "next_mode")
            if self._has_text and self.size.width >= WIDE_FROM:
                usual = (*usual, "continue_text", "edit_text", "copy_text")
            usual = usual if writing else (*usual, "leave")
        verbs |= dict.fromkeys(usual, "")
        if "next_mode" in verbs:
            verbs["next_mode"] = following_mode(self.PANE)
        return verbs

    @property
    def _has_text(self) -> bool:
        """Whether there is a text that can be continued now."""
        return self.session.tree.current is not None and not self.sampling

    def _show_choice(self) -> None:
        choice = self.session.choice = self.choice_of(self._wanted)
        if choice is not None:  # not before the run's config is known: it gives the settings
            self.session.run = self.context.run_directory
        self.transcript.panel_title = (
            "Sampling" if self._followed is None else "Sampling, after each evaluation"
        )
        taken = (self._taken[0].step, monotonic() - self._taken[1]) if self._taken else None
        self.transcript.legend = choice.legend(taken) if choice is not None else ""
        nothing = self.context.no_run_words if self.run_path is None else ("Reading the run …",)
        empty = choice.invitation() if choice is not None else nothing
        self.transcript.invitation = [*map(self.context.with_keys, empty)]
        self.transcript.redraw()
        self._show_hint()

    def on_resize(self, _event: Resize) -> None:
        self._show_choice()

    def _show_age(self) -> None:
        if self._taken is not None and self.is_ready and self.app.screen is self:
            self._show_choice()

    def _show_hint(self) -> None:
        """Show the line below the prompt: a problem with a setting, or modes and keys."""
        choice, wide = self.session.choice, self.size.width >= WIDE_FROM and self._edited is None
        left = choice.row_of_choices() if choice is not None and wide else None
        row = self.settings_row
        other_run = ((self.key_of("choose_weights"), "other run"),)  # no room in the footer
        keys = other_run if left is not None and left.plain else self._keys()
        self.query_one(ModeLine).show(left, keys, note=row.note, problem=row.problem)
        self.frame.show_facts()

    show_state = _show_hint

    def _keys(self) -> Sequence[tuple[str, str]]:
        """Return keys of the focused field that the footer has no room for."""
        if self.run_path is None:
            return ()
        if self._edited is not None:
            return (("^j", "new line"), ("^u", "clear"))
        if self._has_text:
            verbs = {"continue_text": "continue", "edit_text": "edit", "undo_branch": "undo"}
            branches = self.context.with_keys("{key:later_branch}")
            keys = [(self.key_of(name), verb) for name, verb in verbs.items()]
            return [*keys, *([] if self.box.has_focus else [(branches, "branches")])]
        if self.box.has_focus:
            found = len(self.frame.history.matches(self.box.text))
            earlier = f"{counted(found, 'prompt')} with this text" if found else "earlier prompts"
            return (("↑", earlier), ("^u", "clear"), ("^j", "new line"))
        return ()

    # sampling

    def action_generate(self) -> None:
        """Continue the prompt in the box; from anywhere else, go there first."""
        if self.run_path is None:
            self.context.report(NO_RUN)
        elif not self.box.has_focus:
            self.set_focus(self.box)
        elif self._edited is not None:
            self._continue_edited(self.box.text)
        else:
            self._sample_prompt(self.box.text)

    def _sample_prompt(self, prompt: str) -> None:
        """Sample from a prompt, as a new entry of the transcript."""
        if self._can_sample(len(prompt), new_seed=True):
            self._begin(self.session.wanted(prompt), SampleTree(prompt), self.session.samples)
            self.frame.remember()

    def _can_sample(self, characters: int = 0, *, new_seed: bool = False) -> bool:
        """Take the settings if something can be sampled now, else report why not.

        Args:
            new_seed: whether a seed is drawn if it is random.
        """
        choice = self.session.choice
        if not self._take_settings():
            return False
        if self.sampling:
            self.context.report(ALREADY_SAMPLING)
        elif choice is None or self.context.run_directory is None:
            self.context.report(NO_RUN)
        elif not choice.possible:
            self.context.report(f"{choice.run} has no checkpoint to sample from", trouble=True)
        elif problem := length_problem(characters):
            self.context.report(problem, trouble=True)
        else:
            session = self.session
            self._remember(samples=session.samples, random_seed=session.random_seed)
            if new_seed:
                self.renew_seed()
            return True
        return False

    def _take_settings(self) -> bool:
        """Take the settings, else report what is wrong with them."""
        settings = self.settings_row.settings
        if self.settings_row.problem:
            self.context.report(self.settings_row.problem, trouble=True)
            return False
        session = self.session
        session.settings, session.samples = settings.sampling, settings.samples
        session.random_seed = settings.random_seed
        return True

    def use_seed(self, seed: int) -> None:
        super().use_seed(seed)
        self.settings_row.set_seed(seed)

    def _begin(self, wanted: Sample, tree: SampleTree, count: int = 1) -> None:
        """Draw samples of a text, as branches of a tree."""
        drawing = tree.drawing = Drawing(wanted, count)
        self.session.settings, self.session.tree = wanted.settings, tree
        self.transcript.add(tree)
        self.draw(drawing, cast("RunDirectory", self.context.run_directory))
        self._show_keys()

    def show_drawing(self, drawing: Drawing) -> None:
        """Show what was drawn; text that comes too fast for a slow link is shown later."""
        weights = drawing.wanted.weights
        known = self._taken is not None and self._taken[0] is weights
        if weights.path and weights.row is None and not known:  # just taken
            self._taken = (weights, monotonic())
            self._show_choice()
        self.show_within_budget([self.transcript])

    def drawing_ended(self, drawing: Drawing) -> None:
        """Show the end of a request."""
        self.show_drawing(drawing)
        self.transcript.show_newest()
        wanted = drawing.wanted
        if (done := drawing.samples[0].done) and not wanted.ids and not wanted.state:
            self.frame.tokens[wanted.prompt] = done.prompt_tokens
        self._show_keys()

    def _show_keys(self) -> None:
        """Show what is possible now."""
        if not self.sampling:
            self.end_notice(ALREADY_SAMPLING)
        self.refresh_footer()
        self._show_hint()

    on_descendant_focus = _show_keys

    # branches

    def action_continue_text(self) -> None:
        """Generate more tokens after the newest text, as if they had been asked for at once."""
        text, session = self.open_text(), self.session
        if text is not None and self._can_sample():
            self._begin(text.continued(session.settings, session.weights), session.tree)

    def action_new_seed(self) -> None:
        """Draw the newest text again with the next seed; another prompt in the box for the first
        time; without either, only change the seed."""
        if self.sampling:
            self.context.report(ALREADY_SAMPLING)
            return
        if not self._take_settings():
            return
        session, tree, text = self.session, self.session.tree, self.box.text
        self.use_seed((session.settings.seed + session.samples) % SEEDS)
        if tree.current is None or (text and text != tree.prompt):
            if text:
                self._sample_prompt(text)
        elif self._can_sample(new_seed=True):
            again = tree.again(session.settings, session.weights)
            self._begin(again, tree, session.samples if again.parent is None else 1)

    def show_branch(self) -> None:
        self.transcript.redraw()

    # editing

    def action_edit_text(self) -> None:
        """Edit the newest text in the box; enter continues it, esc discards the changes."""
        if self._edited is not None or (text := self.open_text()) is None:
            return
        characters = len(text.whole)
        if characters > MAX_PROMPT_CHARACTERS:
            words = f"the text has {counted(characters, 'character')}, a text to edit has at most"
            self.context.report(f"{words} {MAX_PROMPT_CHARACTERS:,}", trouble=True)
            return
        self._edited, self.session.prompt = text, self.box.text
        self.frame.edit(text.whole)
        self.set_focus(self.box)
        self._show_keys()

    def _end_edit(self) -> None:
        """Restore the box."""
        if self._edited is not None:
            self._edited = None
            self.frame.edit(self.session.prompt, editing=False)
            self._show_keys()

    def _continue_edited(self, text: str) -> None:
        branch, session = self._edited, self.session
        if branch is None or not self._can_sample(len(text), new_seed=True):
            return
        self._end_edit()
        if text == branch.whole:
            self.action_continue_text()
            return
        wanted = replace(session.wanted(text), state=branch.state, parent=branch.number)
        self._begin(wanted, session.tree)

    # following the run

    def action_follow_now(self) -> None:
        """Sample again after each evaluation of the run, from its current weights."""
        snapshot = self.snapshot
        if self._followed is not None:
            self._followed = None
            self.context.report("no longer sampling after each evaluation")
        elif snapshot is None or snapshot.summary.status not in LIVING:
            self.context.report("the run is not training: nothing to follow")
            return
        else:
            self._wanted, self._followed = NOW, (0, 0)
            key = self.key_of("follow_now")
            self.context.report(f"sampling after each evaluation, {key} ends it")
        self._show_choice()
        self._follow(snapshot)

    def _follow(self, snapshot: RunSnapshot | None) -> None:
        """Sample if the run has been evaluated since, and a last time at its end."""
        if self._followed is None or snapshot is None or self.sampling or self._edited is not None:
            return
        newest = snapshot.evaluations[-1] if snapshot.evaluations else None
        evaluated = (newest.attempt, newest.step) if newest is not None else (0, 1)
        over = snapshot.summary.status not in LIVING
        if over:
            self._wanted = LAST
        entry = self.transcript.newest
        prompt = entry.prompt if entry is not None else self.box.text
        samples = evaluated != self._followed and self._can_sample(len(prompt))
        self._followed = None if over else evaluated
        if over:
            ended = f"{snapshot.summary.run} is {snapshot.summary.status}: following ended"
            self.context.report(ended)
            self._show_choice()
        if samples:
            self._begin(self.session.wanted(prompt), SampleTree(prompt), self.session.samples)

    # overlays

    @act
    async def action_setting_presets(self) -> None:
        """Choose, save or delete presets of the settings."""
        from rnnlm_tui.tui.screens.setting_presets import SettingPresetsScreen

        if not self._take_settings():
            return
        run = self.snapshot.config.sampling if self.snapshot is not None else None
        found = await self.context.ask(SettingPresetsScreen(self.session.settings, run))
        if found is not None:
            session = self.session
            self.settings_row.take(PromptSettings(found, session.random_seed, session.samples))

    @act
    async def action_kept_samples(self) -> None:
        """Search everything that was sampled, and take a sample's prompt and settings again."""
        from rnnlm_tui.tui.screens.kept_samples import KeptSamplesScreen

        sample = await self.context.ask(KeptSamplesScreen())
        if sample is None or self._edited is not None:
            return
        if self.run_path is None:
            self.context.report(NO_RUN)
            return
        state = Path(sample.state)
        kept = bool(sample.state) and await self.context.wait_for(state.exists)
        self.box.put(sample.prompt)
        self.settings_row.take(PromptSettings(sample.settings))
        self.session.state = sample.state if kept else ""
        self.set_focus(self.box)
        self._show_hint()

    # keys

    def action_leave_field(self) -> None:
        """Stop a request, discard an edit, or leave the field: then digits go to panes."""
        if self.sampling:
            self.stop()
        elif self.settings_row.has_focus_within:
            self.settings_row.give_up()
            self.set_focus(self.box)
        elif self._edited is not None:
            self._end_edit()
        else:
            self.set_focus(self.transcript)

    def action_side_by_side(self) -> None:
        """Show the samples of one request beside or below each other."""
        transcript = self.transcript
        transcript.side_by_side = not transcript.side_by_side
        transcript.show_newest()
        self._remember(side_by_side=transcript.side_by_side)
        where = "beside" if transcript.side_by_side else "below"
        self.context.report(f"samples of one request are {where} each other")

    def action_settings(self, by: int = 1) -> None:
        """Go to the settings, through them, and back to the prompt."""
        if self.run_path is not None and not self.settings_row.move_focus(by):
            self.set_focus(self.box)

    def on_settings_row_changed(self, _event: SettingsRow.Changed) -> None:
        if not self.settings_row.problem:
            self._take_settings()
        self._show_hint()

    def on_text_area_changed(self) -> None:
        if self._edited is None:
            self.session.prompt = self.box.text
            self._show_hint()

    @act
    async def action_choose_weights(self) -> None:
        """Choose a run and its weights from lists. Text, prompt and settings stay."""
        if self.sampling:
            self.context.report(ALREADY_SAMPLING)
            return
        found = await choose_weights(self.context, "Sample", self.session.choice)
        if found is None or self.sampling:
            return
        run, choice, _ = found
        if run.path != self.run_path:
            self.session.move_to(run)
            self.context.select_run(run)
            self.context.selected_checkpoint = choice.wanted
        else:
            self._choose(choice.wanted)

    def action_next_checkpoint(self) -> None:
        """Choose the next of last, best, older checkpoints and current weights, and load it."""
        choice = self.session.choice
        following = choice.next() if choice is not None else None
        if following is None:
            self.context.report("no checkpoint yet")
        else:
            self._choose(following)

    def _choose(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._show_choice()
        self._load_ahead()

    def _load_ahead(self) -> None:
        choice = self.choice_of(self._wanted)
        if choice is not None and choice.row is not None and self.run_path is not None:
            self.load_ahead(self.run_path / choice.row.path)

    def action_save_text(self) -> None:
        """Save the newest text to a new file."""
        entry = self.transcript.newest
        if entry is None or self.snapshot is None:
            self.context.report(NO_TEXT)
            return
        self.save(f"{self.snapshot.summary.run}-sample", entry.whole + "\n")

    def action_to_older(self, pages: int) -> None:
        """Scroll to older texts, or with -1 to newer ones."""
        self.transcript.action_scroll_page(pages)

    def action_copy_newest(self) -> None:
        """Copy the newest text to the terminal's clipboard, if the terminal allows it."""
        entry = self.transcript.newest
        if entry is None:
            self.context.report(NO_TEXT)
        else:
            self.copy(entry.whole, "a file")
