"""Where a draft comes from and goes to: presets, runs, TOML files, the user's editor, and the
overlays that ask for them and for a field's value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, cast

from textual.content import Content

from rnnlm_tui import client, store
from rnnlm_tui.errors import ConfigError, InputError, Problem, RnnlmError, RunNameError
from rnnlm_tui.schema.cells import CELLS
from rnnlm_tui.schema.config import value_of
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.schema.presets import PRESET_SUMMARIES, PRESETS
from rnnlm_tui.schema.validation import config_to_raw, merge, raw_value
from rnnlm_tui.tui.palette import BAD, DIM, TEXT
from rnnlm_tui.tui.screens.browse import BrowseScreen, Purpose
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from rnnlm_tui.tui.screens.overlay import AskPathScreen, ConfirmScreen, Question
from rnnlm_tui.tui.screens.pick import PickItem, PickScreen
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.views.form import (
    FIELDS,
    PATH_FIELDS,
    Draft,
    EditHistory,
    edited_value,
    field_of,
    is_same,
    read_value,
    with_values,
)

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Item, Table

    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.app import RnnlmApp
    from rnnlm_tui.tui.views.form import FieldRow
    from rnnlm_tui.tui.widgets.form import Form

RECENT_SETTING = "recent_configs"
"""Where the app's settings have the paths of config files, the last used first."""
MOST_RECENT = 10
MOST_RUNS = 100
MOST_PROBLEMS = 12
"""Problems of an edited text that are listed."""


def recent_files(settings: Mapping[str, object]) -> list[str]:
    """Return the paths of the config files used last."""
    saved = settings.get(RECENT_SETTING)
    paths = saved if isinstance(saved, list) else []
    return [path for path in paths if isinstance(path, str) and path.isprintable()][:MOST_RECENT]


def remember_file(app: RnnlmApp, path: Path) -> None:
    """List a file first among those used lately."""
    others = [other for other in recent_files(app.settings) if other != str(path)]
    app.settings[RECENT_SETTING] = [str(path), *others][:MOST_RECENT]
    app.save_settings()


def draft_toml(draft: Draft) -> str:
    """Return the draft as TOML, also if it is invalid.

    With a document of the user, its comments are kept, and fields that it doesn't have are added
    only if they differ from the preset. Without one, each field has its description.
    """
    from rnnlm_tui.schema.toml import explained_toml, parse_toml

    if not draft.document:
        return updated_toml(
            explained_toml(draft.nearest_config()), merge(draft.base, draft.changes)
        )
    written = parse_toml(draft.document, "config").raw
    preset = PRESETS.get(draft.base.preset)
    kept: dict[str, dict[str, object]] = {}
    for path in FIELDS:
        section, _, name = path.partition(".")
        value, is_written = draft.value(path), raw_value(written, path) is not None
        if is_written or preset is None or value != value_of(preset, path):
            kept.setdefault(section, {})[name] = value
    return updated_toml(draft.document, {"preset": draft.base.preset, **kept})


def updated_toml(text: str, raw: Mapping[str, object]) -> str:
    """A TOML text with other values: comments, order and the notation of equal values are kept.

    Values that `raw` doesn't have are removed, with their comment on the same line. New ones are
    added at the end of their section.

    Args:
        text: the text to change; it must be valid TOML.
        raw: all values of the result; None is left out.

    Raises:
        TomlError: the text isn't TOML.
    """
    import tomllib

    import tomlkit

    from rnnlm_tui.schema.toml import parse_toml, toml_text

    plain = toml_text(raw)
    wanted = tomllib.loads(plain)
    if parse_toml(text, "config").raw == wanted:
        return text
    with suppress(AttributeError, LookupError, ValueError):
        document = tomlkit.parse(text if text.endswith("\n") else f"{text}\n")
        _update(document, wanted)
        updated = tomlkit.dumps(document)
        if tomllib.loads(updated) == wanted:
            return updated
    # tomlkit can't change a table that is written in several parts. Its comments come first.
    comments = re.findall(r"^[ \t]*#[^\r\n]*", text, re.MULTILINE)
    return "".join(f"{comment.strip()}\n" for comment in comments) + plain


def _update(table: TOMLDocument | Table, raw: Mapping[str, Any]) -> None:
    """Change, remove and add values. New ones come before the comments at the end of a section,
    which belong to the next one."""
    import tomlkit

    from rnnlm_tui.schema.toml import toml_text

    before = table.unwrap()
    for name in before.keys() - raw.keys():
        table.remove(name)
    for name, value in raw.items():
        item = cast("Item", tomlkit.parse(toml_text({name: value})).item(name))
        if name not in before:
            body = table.value.body if isinstance(table, tomlkit.items.Table) else []
            end = len(body)
            while end and body[end - 1][0] is None:
                end -= 1
            after = body[end:]
            del body[end:]
            table.add(name, item)
            body.extend(after)
        elif isinstance(value, dict) and isinstance(before[name], dict):
            _update(cast("Table", table[name]), value)
        elif not is_same(before[name], value):
            old = table.item(name)
            if not isinstance(old, Mapping):
                item.trivia.comment_ws = old.trivia.comment_ws
                item.trivia.comment = old.trivia.comment
            table[name] = item


def write_draft(run: RunDirectory, draft: Draft) -> None:
    """Write a draft, valid or not, into its run's folder.

    Raises:
        RunStateError: the run was started.
    """
    from rnnlm_tui.schema.toml import toml_text

    nearest = draft.nearest_config()
    config = store.runs.with_absolute_paths(nearest)
    for path in PATH_FIELDS:
        if draft.value(path) == value_of(nearest, path):
            draft = draft.with_value(path, value_of(config, path))
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
        base = store.lineage.parent_config(parent, config)
        draft = Draft(base, parent.run, {}, parent, document)
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
        self.history = EditHistory()
        self.run = run
        """The run once no write is under way; None as long as nothing was changed."""
        self.name = run.name if run is not None else ""
        """The run's name; empty until one was suggested."""
        self.stays = run is not None
        """Whether it stays without changes; else its run goes when the last one is undone."""
        self.tokenizer_size: int | None = None
        """Vocabulary size of its pretrained tokenizer when that was last looked up."""
        self.writes = 0
        """Writes under way."""
        self.problem = ""
        """Why the last write failed, which was reported."""
        self._turn = Lock()
        self.stored = run
        self._written = draft if run is not None else None
        """The run and what it has; they belong to the thread whose turn it is."""

    @property
    def wanted(self) -> Draft | None:
        """What is to be on the disk; None: no run."""
        return self.draft if self.draft.changes or self.stays else None

    @property
    def is_kept(self) -> bool:
        """Whether the newest state is on the disk."""
        return self.wanted == self._written

    def write(self) -> RunDirectory | None:
        """Write the newest state into the run, which is created first; called in a thread.

        Without changes the run is deleted, unless it stays.
        """
        with self._turn:
            draft = self.wanted
            if draft is None:
                if self.stored is not None:
                    store.trash.delete_run(self.stored)
                self.stored = self._written = None
                return None
            if self.stored is None:
                self.stored = self._create(draft)
                self.name = self.stored.name
                self._written = Draft(draft.base, draft.base_name, parent=draft.parent)
            if draft != self._written:
                write_draft(self.stored, draft)
                self._written = draft
            return self.stored

    def _create(self, draft: Draft) -> RunDirectory:
        """Create the run; the draft's changes are still to be written."""
        start = draft.parent
        parent = None if start is None else client.start.parent_at(start.address, start.optimizer)
        try:
            return store.runs.create_run(draft.base, self.name or None, parent)
        except RunNameError:  # another process took the suggested name meanwhile
            return store.runs.create_run(draft.base, None, parent)


# beginning


async def ask_beginning(app: RnnlmApp, preset: str) -> Draft | None:
    """Offer presets, of which one is the current one, files used lately and runs to begin from."""
    items = [
        PickItem(f"preset:{name}", name, PRESET_SUMMARIES.get(name, ""), "Presets")
        for name in PRESETS
    ]
    items += [
        PickItem(f"file:{path}", Path(path).name, str(Path(path).parent), "Recent files", path)
        for path in recent_files(app.settings)
    ]
    items += [
        PickItem(f"run:{summary.run}", summary.run, f"{summary.status}, {summary.preset}", "Runs")
        for summary in (app.summaries or ())[:MOST_RUNS]
    ]
    question = PickScreen("Begin from", items, current=f"preset:{preset}", verb="begin")
    kind, _, name = (await app.ask(question) or "").partition(":")
    if kind == "preset":
        return Draft(PRESETS[name], f"preset {name}")
    if kind == "file":
        return await read_file(app, name)
    config = await app.config_of(name) if kind == "run" else None
    return None if config is None else Draft(config, safe_text(name, limit=40))


# files


async def ask_file(app: RnnlmApp) -> Draft | None:
    """Ask for a file and read it."""
    about = "a TOML file; tab completes the path"
    path = await app.ask(AskPathScreen("Open a config file", "", check_config_path, about=about))
    return await read_file(app, path) if path else None


async def read_file(app: RnnlmApp, name: str) -> Draft:
    """Read a config file.

    Raises:
        ConfigError: it has problems that the form can't show.
    """
    path = user_path(name.strip()).absolute()
    found = await app.wait_for(
        lambda: client.config_files.parse_config_text(
            client.config_files.read_config_text(path), path.name
        )
    )
    if unknown := _unshown(found.problems):
        raise ConfigError(unknown)
    remember_file(app, path)
    # a valid one is its own base
    draft = Draft(found.config or found.preset, path.name, document=found.text, file=path)
    return draft if found.config is not None else with_values(draft, found.raw)


async def ask_new_path(app: RnnlmApp, name: str, own: Path | None) -> Path | None:
    """Ask where to save a config, and before another file than its own is overwritten."""
    free = str(own or Path.cwd() / f"{name}.toml")
    about = "a TOML file for train --config; tab completes the path"
    answer = await app.ask(AskPathScreen("Save the config as", free, check_new_path, about=about))
    if not answer:
        return None
    path = user_path(answer.strip()).absolute()
    fact = f"{path.name} exists already."
    if path.exists() and path != own:
        overwrite = ConfirmScreen(
            "Overwrite the file?", fact, str(path.parent), "keep it", "overwrite it"
        )
        return path if await app.ask(overwrite) else None
    return path


# the editor


async def edit_as_toml(app: RnnlmApp, draft: Draft, name: str) -> Draft | None:
    """Open the draft's TOML in the user's editor; return the result, valid or not.

    A text that can't be used is kept until the user discards it.
    """
    from rnnlm_tui.schema.toml import TomlError

    before = draft_toml(draft)
    edited = client.config_files.EditedFile(before, name)
    line: int | None = None
    while True:
        found, problems = None, []
        try:
            # without the batch, repainting deadlocks; a test's app has no terminal to leave
            with app.batch_update(), nullcontext() if app.is_headless else app.suspend():
                edited.open_editor(line)
            found = client.config_files.parse_config_text(edited.read(), edited.path.name)
            problems = [problem_line(problem) for problem in found.problems]
            places = [problem.place.line for problem in found.problems if problem.place]
            line = min(filter(None, places), default=None)
        except TomlError as error:
            line = error.place.line
            problems = [f"line {line}, column {error.place.column}: {error.reason}"]
        except RnnlmError as error:
            if edited.unchanged:  # nothing can be lost: there is no editor, for example
                edited.discard()
                raise
            problems, line = [error.message], None
        if found is not None and not problems:
            break
        takes = found is not None and not _unshown(found.problems)
        answer = await app.ask(edited_question(problems, str(edited.path), takes=takes))
        if answer == "take" and found is not None:
            break
        if answer == "discard":
            edited.discard()
            app.report("the edited text was discarded")
        if answer != "again":
            return None
    edited.discard()
    base = draft
    if found.preset.preset != draft.base.preset:
        name = f"preset {found.preset.preset}"
        base = Draft(found.preset, name, parent=draft.parent, file=draft.file)
    changed = with_values(base, found.raw)
    if changed == draft or found.text == before:
        app.report("nothing changed in the editor")
        return None
    return replace(changed, document=found.text)


def problem_line(problem: Problem) -> str:
    """Return `line 12, column 3: model.dropout: is 1.5, must be at most 0.99 (…)`."""
    place = problem.place
    where = f"line {place.line}, column {place.column}: " if place and place.line else ""
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{where}{problem.path}: {problem.message}{hint}"


def _unshown(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems that the form can't show."""
    return [problem for problem in problems if field_of(problem) not in FIELDS]


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


# the form


async def ask_value(app: RnnlmApp, form: Form, row: FieldRow, title: str = "") -> None:
    """Edit a field that needs more than one line, in a list of choices or a box for texts."""
    field, value = row.field, row.value
    choices = [
        (choice, CELLS[choice].summary if field.path == "model.cell_type" else "")
        for choice in field.choices
    ]
    answer = await app.ask(
        TextsScreen(title or field.title, edited_value(field, value))
        if field.kind == "list"
        else ChooseScreen(field.title, choices, str(value), field.help)
    )
    if answer is not None and (answer or field.kind == "list"):
        form.set_values({field.path: read_value(field, answer)})


def field_question(form: Form) -> PickScreen:
    """Search for a field by its name, its key or its help; return its path."""
    items = [
        PickItem(path, field.title, f"{path}  {field.help}", field.section.capitalize(), path)
        for path, field in FIELDS.items()
    ]
    return PickScreen("Find a field", items, current=form.path, verb="go to it")


async def ask_run(app: RnnlmApp, *but: str) -> Draft | None:
    """Ask for a run to compare with, other than the runs `but`."""
    items = [
        PickItem(summary.run, summary.run, f"{summary.status}, {summary.preset}")
        for summary in app.summaries or ()
        if summary.run not in but
    ]
    if not items:
        app.report("all fields: there is no other run to compare with")
        return None
    name = await app.ask(PickScreen("Show what differs from the run", items, verb="compare"))
    config = await app.config_of(name) if name else None
    return None if name is None or config is None else Draft(config, name)


async def browse(app: RnnlmApp, form: Form, draft: Draft) -> None:
    """Browse for a text, or in the section of the tokenizer for a tokenizer."""
    purpose: Purpose = "text"
    path, kind = "corpus.source", {}
    if form.path.startswith("tokenizer."):
        purpose, path, kind = "tokenizer", "tokenizer.name", {"tokenizer.kind": "pretrained"}
    elif form.path == "corpus.test_source":
        path = form.path
    start = str(draft.value(path) or "")
    target = await app.ask(BrowseScreen(purpose, draft.nearest_config(), start))
    if target is not None:
        form.set_values({**kind, path: target})
        form.go_to(path)
