"""Where a draft comes from and goes to: presets, runs, TOML files, and the user's editor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, Protocol

from textual.content import Content

from rnnlm_tui import client, store
from rnnlm_tui.errors import ConfigError, InputError, Problem, RnnlmError, RunNameError
from rnnlm_tui.schema.formatting import counted, user_path
from rnnlm_tui.schema.presets import PRESET_SUMMARIES, PRESETS
from rnnlm_tui.schema.validation import config_to_raw, merge
from rnnlm_tui.tui.palette import BAD, DIM, TEXT
from rnnlm_tui.tui.screens.overlay import AskScreen, ConfirmScreen, Question
from rnnlm_tui.tui.screens.pick import PickItem, PickScreen
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.views.form import (
    FORM_FIELDS,
    PATH_FIELDS,
    Draft,
    DraftParent,
    value_at,
    with_values,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.config_files import EditedFile, ReadConfig
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp

RECENT_SETTING = "recent_configs"
"""Where the app's settings have the paths of config files, the last used first."""
MOST_RECENT = 10
MOST_RUNS = 100
MOST_PROBLEMS = 12
"""Problems of an edited text that are listed."""


def recent_files(settings: Mapping[str, object]) -> list[str]:
    """Return the paths of the config files used last."""
    saved = settings.get(RECENT_SETTING)
    return (
        [path for path in saved if isinstance(path, str) and path.isprintable()][:MOST_RECENT]
        if isinstance(saved, list)
        else []
    )


def with_recent(settings: Mapping[str, object], path: Path) -> list[str]:
    """Return the recent files with this one at the front."""
    name = str(path)
    return [name, *(other for other in recent_files(settings) if other != name)][:MOST_RECENT]


def draft_of_text(read: ReadConfig, name: str) -> Draft:
    """Return a draft of a TOML text: its own base if it is valid, else changes to its preset."""
    if read.config is not None:
        return Draft(read.config, name, document=read.text)
    return with_values(Draft(read.preset, name, document=read.text), read.raw)


def draft_toml(draft: Draft) -> str:
    """Return the draft as TOML, also if it is invalid.

    With a document of the user, its comments are kept, and fields that it doesn't have are added
    only if they differ from the preset. Without one, each field has its description.
    """
    from rnnlm_tui.schema.toml import explained_toml, updated_toml

    raw = merge(draft.base, draft.changes)
    if not draft.document:
        return updated_toml(explained_toml(draft.nearest_config()), raw)
    from rnnlm_tui.schema.toml import parse_toml

    written = parse_toml(draft.document, "config").raw
    preset = PRESETS.get(draft.base.preset)
    kept: dict[str, object] = {"preset": draft.base.preset}
    for field in FORM_FIELDS:
        section, _, name = field.path.partition(".")
        there = written.get(section)
        is_written = isinstance(there, Mapping) and name in there
        value = draft.value(field.path)
        if is_written or preset is None or value != value_at(preset, field.path):
            kept.setdefault(section, {})
            values = kept[section]
            if isinstance(values, dict):
                values[name] = value
    return updated_toml(draft.document, kept)


def write_draft(run: RunDirectory, draft: Draft) -> None:
    """Write a draft, valid or not, into its run's folder.

    Raises:
        RunStateError: the run was started.
    """
    from rnnlm_tui.schema.toml import toml_text, updated_toml

    nearest = draft.nearest_config()
    config = store.runs.with_absolute_paths(nearest)
    for path in PATH_FIELDS:
        if draft.value(path) == value_at(nearest, path):
            draft = draft.with_value(path, value_at(config, path))
    raw = merge(draft.base, draft.changes)
    text = updated_toml(draft.document, raw) if draft.document else toml_text(raw)
    store.runs.change_draft(run, config, text)


def read_draft(run: RunDirectory) -> Draft:
    """Return the draft that a run keeps, as changes to its preset or its parent's config."""
    from rnnlm_tui.schema.toml import parse_toml

    config, parent = run.read_config(), store.lineage.read_parent(run)
    path = run.draft_path if run.draft_path.exists() else run.config_path
    text = client.config_files.read_config_text(path)
    document = text if "#" in text else ""
    if parent is not None:
        start = DraftParent(parent.address, parent.optimizer)
        base = store.lineage.parent_config(parent, config)
        draft = Draft(base, parent.run, {}, start, document)
    elif config.preset in PRESETS:
        draft = Draft(PRESETS[config.preset], f"preset {config.preset}", document=document)
    else:
        draft = Draft(config, run.name, document=document)
    raw = config_to_raw(config) if path == run.config_path else parse_toml(text, path.name).raw
    return with_values(draft, raw)


class KeptDraft:
    """A draft that is being edited, and the run that keeps it from its first change on."""

    def __init__(self, draft: Draft, run: RunDirectory | None = None) -> None:
        self.draft = draft
        """The newest state."""
        self.run = run
        """The run once no write is under way; None as long as nothing was changed."""
        self.name = run.name if run is not None else ""
        """The run's name; empty until one was suggested."""
        self.stays = run is not None
        """Whether it stays without changes; else its run goes when the last one is undone."""
        self._asked = draft if run is not None else None
        """What the newest write puts on the disk; None: no run."""
        self._writes = 0
        """Writes under way."""
        self._turn = Lock()
        self._stored, self._written = run, self._asked
        """The run and what it has; they belong to the thread whose turn it is."""

    @property
    def _wanted(self) -> Draft | None:
        """What is to be on the disk; None: no run."""
        return self.draft if self.draft.changes or self.stays else None

    @property
    def is_kept(self) -> bool:
        """Whether the newest state is on the disk, or is being written."""
        return self._wanted == self._asked

    def ask(self) -> RunDirectory | None:
        """Announce a `write` of the newest state; return the run that it deletes, if any."""
        self._asked = self._wanted
        self._writes += 1
        return self.run if self._asked is None else None

    def write(self) -> RunDirectory | None:
        """Write what was asked for last into the run, which is created first; called in a thread.

        Without changes the run is deleted, unless it stays.
        """
        with self._turn:
            draft = self._asked
            if draft is None:
                if self._stored is not None:
                    store.trash.delete_run(self._stored)
                self._stored = self._written = None
                return None
            if self._stored is None:
                self._stored = self._create(draft)
                self.name = self._stored.name
                self._written = Draft(draft.base, draft.base_name, parent=draft.parent)
            if draft != self._written:
                write_draft(self._stored, draft)
                self._written = draft
            return self._stored

    def end_write(self) -> bool:
        """Note that a `write` has ended; return whether it was the last one under way."""
        self._writes -= 1
        if self._writes:
            return False
        self.run, self._asked = self._stored, self._written
        return True

    def _create(self, draft: Draft) -> RunDirectory:
        """Create the run; the draft's changes are still to be written."""
        start = draft.parent
        parent = None if start is None else client.start.parent_at(start.address, start.optimizer)
        try:
            return store.runs.create_run(draft.base, self.name or None, parent)
        except RunNameError:  # another process took the suggested name meanwhile
            return store.runs.create_run(draft.base, None, parent)


class DraftHost(Protocol):
    """The config pane, as its files see it."""

    @property
    def context(self) -> RnnlmApp:
        """The app."""

    @property
    def shown(self) -> Draft | None:
        """The draft, or the open run's config."""

    @property
    def locked(self) -> bool:
        """Whether a run's frozen config is shown."""

    @property
    def run_name(self) -> str:
        """The name of the draft's run, or of the open run."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of the shown draft."""

    def edit(self, draft: Draft) -> None:
        """Replace the draft, which can be undone."""

    def begin_from(self, draft: Draft) -> None:
        """Begin again from a preset, a run or a file."""

    def keep_document(self, draft: Draft, text: str) -> None:
        """Keep the TOML text that a draft was saved as."""


class ConfigFiles:
    """Opens, saves and edits the draft of the config pane."""

    def __init__(self, screen: DraftHost) -> None:
        self._screen = screen
        self._path: Path | None = None
        """The file that the draft was opened from or saved to."""

    # beginning

    async def begin(self) -> None:
        """Offer presets, files used lately and runs to begin from."""
        screen, context = self._screen, self._screen.context
        items = [
            PickItem(f"preset:{name}", name, PRESET_SUMMARIES.get(name, ""), "Presets")
            for name in PRESETS
        ]
        items += [
            PickItem(f"file:{path}", Path(path).name, str(Path(path).parent), "Recent files", path)
            for path in recent_files(context.settings)
        ]
        items += [
            PickItem(
                f"run:{summary.run}", summary.run, f"{summary.status}, {summary.preset}", "Runs"
            )
            for summary in (context.summaries or ())[:MOST_RUNS]
        ]
        shown = screen.shown
        current = f"preset:{shown.base.preset}" if shown is not None else ""
        chosen = await context.ask(PickScreen("Begin from", items, current=current, verb="begin"))
        kind, _, name = (chosen or "").partition(":")
        if kind == "preset":
            self._take(Draft(PRESETS[name], f"preset {name}"))
        elif kind == "file":
            await self._read(name)
        elif kind == "run":
            configs = await context.wait_for(lambda: context.watcher.runs.configs([name]))
            if name in configs:
                self._take(Draft(configs[name], safe_text(name, limit=40)))
            else:
                context.report(f"the config of {name} can't be read", trouble=True)

    def _take(self, draft: Draft, path: Path | None = None) -> None:
        self._screen.begin_from(draft)
        self._path = path

    def forget_path(self) -> None:
        """Another draft is edited: it isn't saved over the file of this one."""
        self._path = None

    # files

    async def open(self) -> None:
        """Ask for a file and open it."""
        question = AskScreen(
            "Open a config file",
            "",
            check_config_path,
            about="a TOML file; tab completes the path",
            completes=True,
        )
        path = await self._screen.context.ask(question)
        if path:
            await self._read(path)

    async def _read(self, name: str) -> None:
        path = user_path(name.strip()).absolute()
        context = self._screen.context
        found = await context.wait_for(
            lambda: client.config_files.parse_config_text(
                client.config_files.read_config_text(path), path.name
            )
        )
        unknown = [problem for problem in found.problems if not _in_the_form(problem)]
        if unknown:  # the form can't show them
            raise ConfigError(unknown)
        self._take(draft_of_text(found, path.name), path)
        self.remember(path)
        if found.problems:
            context.report(
                f"{path.name} has {counted(len(found.problems), 'problem')}: g shows them",
                trouble=True,
            )

    async def save(self) -> None:
        """Ask for a path and save the draft as TOML, with its comments."""
        screen, context = self._screen, self._screen.context
        shown = screen.shown
        if shown is None:
            return
        question = AskScreen(
            "Save the config as",
            str(self._path or Path.cwd() / f"{screen.run_name or 'config'}.toml"),
            check_new_path,
            about="a TOML file for train --config; tab completes the path",
            completes=True,
        )
        name = await context.ask(question)
        if not name:
            return
        path = user_path(name.strip()).absolute()
        if path.exists() and path != self._path:
            overwrite = ConfirmScreen(
                "Overwrite the file?",
                f"{path.name} exists already.",
                str(path.parent),
                "keep it",
                "overwrite it",
            )
            if not await context.ask(overwrite):
                return
        text = await context.wait_for(partial(self._write, shown, path))
        self._path = None if screen.locked else path
        self.remember(path)
        wrong = len(screen.problems)
        with_problems = f" with {counted(wrong, 'problem')}" if wrong else ""
        context.report(f"saved{with_problems} as {safe_text(str(path), newlines='space')}")
        screen.keep_document(shown, text)

    def _write(self, draft: Draft, path: Path) -> str:
        text = draft_toml(draft)
        client.config_files.write_config_text(path, text)
        return text

    def remember(self, path: Path) -> None:
        """List a file among those used lately."""
        context = self._screen.context
        context.settings[RECENT_SETTING] = with_recent(context.settings, path)
        context.save_settings()

    # the editor

    async def edit(self) -> None:
        """Open the draft's TOML in the user's editor, and take the result.

        A text that can't be used is kept until the user discards it.
        """
        screen = self._screen
        shown = screen.shown
        if shown is None or screen.locked:
            screen.context.report("a run's config never changes: n makes a new run from it")
            return
        edited = client.config_files.EditedFile(draft_toml(shown), screen.run_name or "config")
        line: int | None = None
        while True:
            problems, line, found = self._edited_text(edited, line)
            if found is not None and not problems:
                break
            question = edited_question(problems, str(edited.path), takes=found is not None)
            answer = await screen.context.ask(question)
            if answer == "discard":
                edited.discard()
                screen.context.report("the edited text was discarded")
            if answer in ("discard", None):
                return
            if answer == "take" and found is not None:
                break
        self._take_edited(edited, shown, found)

    def _edited_text(
        self, edited: EditedFile, line: int | None
    ) -> tuple[list[str], int | None, ReadConfig | None]:
        """Open the editor at a line.

        Returns what is wrong with the text, where to begin again, and the text's values, if the
        form can show all problems.
        """
        from rnnlm_tui.schema.toml import TomlError

        try:
            with self._terminal_given_away():
                edited.open_editor(line)
            text = edited.read()
        except RnnlmError as error:
            if edited.unchanged:  # nothing can be lost: there is no editor, for example
                edited.discard()
                raise
            return [error.message], None, None
        try:
            found = client.config_files.parse_config_text(text, edited.path.name)
        except TomlError as error:
            place = error.place
            return (
                [f"line {place.line}, column {place.column}: {error.reason}"],
                place.line,
                None,
            )
        places = [problem.place.line for problem in found.problems if problem.place]
        known = all(_in_the_form(problem) for problem in found.problems)
        return (
            [problem_line(problem) for problem in found.problems],
            min(filter(None, places), default=None),
            found if known else None,
        )

    def _take_edited(self, edited: EditedFile, draft: Draft, found: ReadConfig) -> None:
        """Take the values of the edited text, valid or not, and forget the file."""
        screen = self._screen
        edited.discard()
        base = (
            draft
            if found.preset.preset == draft.base.preset
            else Draft(found.preset, f"preset {found.preset.preset}", parent=draft.parent)
        )
        changed = with_values(base, found.raw)
        if changed == draft or found.text == draft_toml(draft):
            screen.context.report("nothing changed in the editor")
            return
        screen.edit(Draft(base.base, base.base_name, changed.changes, base.parent, found.text))
        screen.context.report("taken from the editor; F6 undoes it")

    @contextmanager
    def _terminal_given_away(self) -> Iterator[None]:
        """Leave the terminal to another program; an app without one has nothing to leave."""
        app = self._screen.context
        if app.is_headless:
            yield
        else:
            with app.batch_update(), app.suspend():  # without the batch, repainting deadlocks
                yield


def problem_line(problem: Problem) -> str:
    """Return `line 12, column 3: model.dropout: is 1.5, must be at most 0.99 (…)`."""
    place = problem.place
    where = f"line {place.line}, column {place.column}: " if place and place.line else ""
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{where}{problem.path}: {problem.message}{hint}"


def _in_the_form(problem: Problem) -> bool:
    return any(
        problem.path == field.path or problem.path.startswith(f"{field.path}.")
        for field in FORM_FIELDS
    )


def check_config_path(text: str) -> None:
    """Raise InputError unless this is a file."""
    path = user_path(text.strip())
    if path.is_dir():
        raise InputError("this is a folder: type a file name too")
    if not path.is_file():
        raise InputError("there is no such file")


def check_new_path(text: str) -> None:
    """Raise InputError unless a file can be written here."""
    path = user_path(text.strip())
    if path.is_dir():
        raise InputError("this is a folder: add the name of a file")
    if not path.parent.is_dir():
        raise InputError("its folder doesn't exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError("permission denied")


EditedAnswer = Literal["again", "take", "discard"]


def edited_question(
    problems: Sequence[str], path: str, *, takes: bool = False
) -> Question[EditedAnswer]:
    """Ask whether to open the editor again, take the text with its problems, or discard it."""
    lines = [
        Content.assemble(("✗ ", BAD), safe_content(text, newlines="space").stylize(TEXT))
        for text in problems[:MOST_PROBLEMS]
    ]
    more = len(problems) - MOST_PROBLEMS
    if more > 0:
        lines.append(Content.styled(f"  and {more:,} more", DIM))
    kept = safe_content(f"The text is kept in {path}", newlines="space").stylize(DIM)
    answers: list[tuple[str, str, EditedAnswer]] = [("enter,escape,q", "edit it again", "again")]
    if takes:
        answers.append(("t", "take it: the form shows the problems", "take"))
    answers.append(("D", "discard the text", "discard"))
    title = "The edited text can't be used"
    return Question(title, [*lines, Content(""), kept, Content("")], answers, classes="-wide")
