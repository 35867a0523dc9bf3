"""The one table of actions: for bindings, footer, help, palette and the guides' table of keys.

Each action is defined once, here. A screen shows and binds what the table has for its pane; the
method `action_<id>` is the screen's, or the app's if `on_app`. A test fails if an action has no
method or a key has two meanings.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from textual.binding import Binding, BindingType
from textual.keys import key_to_character

Pane = Literal["runs", "compare", "config", "train", "checkpoints", "prompt", "inspect", "versus"]
"""A pane. `runs` lists all runs, `compare` shows the marked ones together, the others are about
one run: `prompt` samples from it, `inspect` looks inside it, `versus` compares checkpoints."""

PANES: tuple[Pane, ...] = get_args(Pane)
PANE_TITLES: dict[Pane, str] = {
    "runs": "Runs", "compare": "Compare", "config": "Config", "train": "Train",
    "checkpoints": "Checkpoints", "prompt": "Prompt", "inspect": "Inspect",
    "versus": "Side by side",
}  # fmt: skip
CHARTED: tuple[Pane, ...] = ("train", "compare")
"""The panes with charts."""
PROMPT_MODES: dict[Pane, str] = {"prompt": "Sample", "inspect": "Inspect", "versus": "Compare"}
"""The panes of the prompt and their titles in its mode line, in the order of F2."""
WITH_TEXT_BOX: tuple[Pane, ...] = ("prompt", "versus")
"""The panes with a box for a prompt: a key that types goes into the box, whatever has the focus.
Only digits act there, while the box doesn't have the focus: they go to other panes."""

Group = Literal["screen", "charts", "everywhere"]
"""The heading in help: "This screen", "Charts" or "Everywhere"."""


class Action(NamedTuple):
    """Something the user can do, with all of its texts."""

    id: str
    """Its name in the code and in a user's keymap."""
    keys: tuple[str, ...]
    """Textual's names of its keys; the first one is shown. Empty: only in the palette."""
    verb: str
    """The verb in the footer, at most ten letters, so that 80 columns hold eight actions."""
    help: str
    """The text in help and in the table of keys, in lower case."""
    panes: tuple[Pane, ...] = ()
    """The panes it works on; empty: all."""
    wide_verb: str = ""
    """The verb in a wide footer; empty: `verb`."""
    group: Group = "screen"
    on_app: bool = False
    """The method is the app's, not the screen's."""
    call: str = ""
    """What it does in Textual's spelling, `pan(0.25)`; empty: its id."""
    palette: str = ""
    """Its title in the command palette; empty: not in the palette."""
    shown: str = ""
    """The keys as shown to the user, if the first key's label isn't enough."""
    brief: str = ""
    """The help in a narrow column, at most 24 letters for charts and 30 for others; empty: `help`
    up to its colon."""

    @property
    def label(self) -> str:
        """The keys as shown to the user: `space`, `^p`, `+ - 0`."""
        return self.shown or (key_label(self.keys[0]) if self.keys else "")

    @property
    def all_keys(self) -> str:
        """All keys: `l y`, `? F1`; the palette's if it has none."""
        return self.shown or " ".join(key_label(key) for key in self.keys) or key_label(PALETTE_KEY)

    @property
    def short_help(self) -> str:
        """The help if there is little room."""
        return self.brief or self.help.partition(":")[0]

    @property
    def textual_action(self) -> str:
        """The action in Textual's spelling."""
        return f"{'app' if self.on_app else 'screen'}.{self.call or self.id}"

    def works_on(self, pane: Pane) -> bool:
        """Whether the action works on this pane."""
        return not self.panes or pane in self.panes


Row: TypeAlias = tuple[Action, ...]
"""An action, followed by those that its help describes too, such as its opposite."""


def following_mode(pane: Pane) -> str:
    """Return the title of the prompt's mode that comes after this one."""
    modes = list(PROMPT_MODES)
    return PROMPT_MODES[modes[(modes.index(pane) + 1) % len(modes)]]


PALETTE_KEY = "ctrl+p"
"""The key of the command palette, which has every action."""
KEY_SIGNS = {
    "question_mark": "?", "plus": "+", "minus": "-", "equals_sign": "=", "slash": "/", "left": "←",
    "right": "→", "up": "↑", "down": "↓",
    "escape": "esc", "comma": ",", "full_stop": ".", "left_square_bracket": "[",
    "right_square_bracket": "]", "less_than_sign": "<", "greater_than_sign": ">",
    "pageup": "PgUp", "pagedown": "PgDn", "delete": "del",
}  # fmt: skip
TYPED_SIGNS = "?+-=/,.[]<>"
"""The signs of `KEY_SIGNS` that are typed; Textual doesn't know all of these keys as characters."""


def key_label(key: str) -> str:
    """Return a key as shown to the user: `^p` for ctrl+p, `F5`, `S`, `?`."""
    if key.startswith("ctrl+"):
        return f"^{key.removeprefix('ctrl+')}"
    if key.startswith("shift+"):
        return f"⇧{key_label(key.removeprefix('shift+'))}"
    if len(key) > 1 and key[0] == "f" and key[1:].isdigit():
        return key.upper()
    return KEY_SIGNS.get(key, key)


_ASCII_KEYS = str.maketrans({"↑": "up", "↓": "dn", "←": "left", "→": "right", "⇧": "S-"})


def shown_keys(keys: str, app: object) -> str:
    """Return keys as this app shows them, in ASCII `up dn` and `S-F6`.

    There `^` is the control key, and `v`, `<` and `>` are keys.
    """
    return keys.translate(_ASCII_KEYS) if getattr(app, "ascii_only", False) else keys


def types_text(key: str) -> bool:
    """Whether the key types a character."""
    character = key_to_character(key)
    return KEY_SIGNS.get(key, "none") in TYPED_SIGNS or bool(character and character.isprintable())


def with_keys(text: str, actions: Sequence[Action]) -> str:
    """Return a text for any pane with the keys of actions in place of `{key:id}`."""

    def label(found: re.Match[str]) -> str:
        entry = next((entry for entry in actions if entry.id == found[1]), None)
        return found[0] if entry is None else on_pane(entry, "prompt").label or entry.label

    return re.sub(r"\{key:(\w+)\}", label, text)


def on_pane(entry: Action, pane: Pane) -> Action:
    """Return the action with the keys that it has on this pane, perhaps none."""
    if pane not in WITH_TEXT_BOX:
        return entry
    keys = tuple(key for key in entry.keys if key.isdigit() or not types_text(key))
    return entry if keys == entry.keys else entry._replace(keys=keys, shown="")


def with_keys_in_help(actions: Sequence[Action]) -> tuple[Action, ...]:
    """Return the actions with keys in place of `{key:id}` in their help."""
    return tuple(
        entry._replace(help=with_keys(entry.help, actions), brief=with_keys(entry.brief, actions))
        if "{" in entry.help + entry.brief
        else entry
        for entry in actions
    )


def _row(
    identifier: str, keys: str, verb: str, text: str, palette: str | None = None,
    *others: tuple[str, str, str, str, str], **more: Any,
) -> Row:  # fmt: skip
    """Return an action and those that its help describes too, such as its opposite.

    Args:
        identifier: its id; then its keys, verb, help and title in the palette (None: the id).
        others: id, key, help, title in the palette and call of each other one.
    """
    title = identifier.replace("_", " ").capitalize() if palette is None else palette
    head = Action(identifier, tuple(keys.split()), verb, text, palette=title, **more)
    return head, *(
        Action(name, (key,), verb, about, head.panes, palette=title, call=call)
        for name, key, about, title, call in others
    )


def _on(panes: tuple[Pane, ...], group: Group, *rows: Row) -> list[Row]:
    """Return the rows of a section, with its panes where they have none of their own."""
    return [
        tuple(entry._replace(panes=entry.panes or panes, group=group) for entry in row)
        for row in rows
    ]


ROWS: list[Row] = []
"""The rows of a table of keys, in the order of help: actions that one help text describes."""
ROWS += _on(("runs",), "screen",
    _row("open_selected", "enter", "Open", "open the run: with none, start the demo", "",
        brief="open the run, or the demo"),
    _row("mark_run", "space", "Mark", "mark or unmark for comparison"),
    _row("compare_runs", "equals_sign", "Compare", "compare the marked runs"),
    _row("new_run", "n", "New", "configure a new run", wide_verb="New run"),
    _row("filter_runs", "slash", "Filter", "filter: part of a name, ppl<80, status",
        brief="filter: name, ppl<80, status …"),
    _row("start_demo", "f5", "Start", "start the demo: asks if there are runs",
        wide_verb="Start demo"),
    _row("sort_runs", "o", "Sort", "sort by age, perplexity, name, status …",
        brief="sort by age, ppl, name …", call="part('table', 'next_sort')"),
    _row("reverse_runs", "O", "Reverse", "reverse the sort", "Reverse sort",
        call="part('table', 'turn_around')"),
    _row("next_layout", "V", "Layout", "list, tree of forks, or groups", "Layout of runs"),
    _row("group_runs", "G", "Group", "group by figures or settings"),
    _row("show_sweep", "W", "Sweep", "the run's sweep: its best settings", "Sweep of the run"),
    _row("fold_runs", "left", "Fold", "fold or unfold a branch, a group", "Fold",
        ("unfold_runs", "right", "unfold a branch or a group", "Unfold", "fold(0)"), call="fold(1)",
        shown="← →", brief="fold or unfold"),
    _row("tag_run", "t", "Tag", "edit the tags of the run, or of all marked ones",
        brief="tags, also of marked runs"),
    _row("note_run", "m", "Note", "write a note on the run, or rename it", "Note on run",
        ("rename_run", "N", "rename the run", "Rename run", ""), shown="m N",
        brief="note on the run, rename it"),
    _row("pin_run", "p", "Pin", "pin or unpin: pinned runs stay on top"),
    _row("delete_run", "d", "Delete",
        "move the run, or all marked ones, to the trash: {key:undo_delete} undoes it",
        brief="to the trash, {key:undo_delete} undoes it"),
    _row("undo_delete", "u", "Reset", "restore what was deleted last"),
    _row("show_queue", "Q", "Queue", "the queue: reorder, remove, add and pause waiting runs",
        brief="the queue of waiting runs"),
    _row("show_trash", "T", "Trash", "the trash: restore or purge runs",
        brief="the trash: restore or purge"),
)  # fmt: skip
ROWS += _on(("train",), "screen",
    _row("pause", "space", "Pause", "pause or resume: also a stopped run", "Pause or resume",
        brief="pause or resume", call="command('pause')", on_app=True),
    _row("resume_elsewhere", "R", "Device",
        "resume on another device: the run's own is gone or busy", "Resume on another device",
        call="command('resume_elsewhere')", on_app=True),
    _row("sample", "s", "Sample", "sample now", "Sample now", wide_verb="Sample now",
        call="command('send', 'sample')", on_app=True),
    _row("checkpoint", "c", "Save", "save a checkpoint now", "Save checkpoint now",
        panes=("train", "checkpoints"), wide_verb="Checkpoint",
        call="command('send', 'checkpoint')", on_app=True),
    _row("evaluate", "e", "Evaluate", "evaluate now", "Evaluate now",
        call="command('send', 'evaluate')", on_app=True),
    _row("steer", "E", "Edit", "edit settings while it trains: learning rate, length …",
        "Edit settings of the live run", panes=("train", "runs"), wide_verb="Edit settings",
        brief="edit the live run's settings"),
    _row("undo_setting", "f6", "Undo", "undo the last change of the live run",
        "Undo change of settings", panes=("train", "runs"), brief="undo the last change"),
    _row("stop", "S", "Stop", "stop: now, after this epoch or the next evaluation", "Stop training",
        brief="stop now, or after the epoch", call="command('stop')", on_app=True),
    _row("sample_history", "h", "History", "samples step by step: see it learn"),
    _row("health", "H", "Health", "the net's health: gates, memory, dead units, gradients",
        "Health of the net", brief="the net's health"),
    _row("discard_run", "d", "Delete", "discard a failed run: to the trash", "Discard failed run"),
    _row("show_log", "L", "Log", "worker output: or else its events", "Show worker log",
        on_app=True),
    _row("older_events", "pagedown", "Events", "older or newer events", "Older events",
        ("newer_events", "pageup", "newer events", "Newer events", "scroll_events(-1)"),
        call="scroll_events(1)", shown="PgDn PgUp"),
    _row("next_run", "J", "Run", "next or previous run of the list", "Next run",
        ("previous_run", "K", "previous run of the list", "Previous run", "to_run(-1)"),
        call="to_run(1)", shown="J K", brief="next or previous run"),
    _row("open_nearest", "enter", "Open", "sample from the checkpoint: nearest to the cursor",
        "Open checkpoint at cursor"),
    _row("left_sidebar", "left_square_bracket", "Left",
        "hide or show sidebars: runs and events, machine and samples",
        "Hide or show runs and events", ("lower_sidebar", "right_square_bracket",
        "hide or show machine and samples", "Hide or show machine and samples",
        "toggle_sidebar('lower')"), call="toggle_sidebar('left')", shown="[ ]"),
)  # fmt: skip
ROWS += _on((*CHARTED,), "charts",
    _row("log_scale", "l y", "Log y", "log or linear y", "Log or linear y"),
    _row("next_axis", "x", "Axis", "next x axis: step, tokens, epoch, active time, wall time",
        "Next x axis", brief="x: step, tokens, time …"),
    _row("smoother", "plus", "Smooth", "more, less, no smoothing", "Smoother",
        ("rougher", "minus", "less smoothing", "Less smoothing", "smooth(-1)"),
        ("raw", "0", "no smoothing", "No smoothing", "smooth(-9)"), call="smooth(1)",
        shown="+ - 0"),
    _row("next_chart", "tab", "Panel", "next chart", "Next chart",
        ("previous_chart", "shift+tab", "the previous chart", "Previous chart", "step_chart(-1)"),
        call="step_chart(1)"),
    _row("alone", "z", "Alone", "this chart alone", "This chart alone"),
    _row("whole_range", "a", "All", "whole y range: with the steep first fall", "Whole y range",
        brief="whole y range"),
    _row("zoom_in", "up", "Zoom", "zoom in, out", "Zoom in",
        ("zoom_out", "down", "zoom out", "Zoom out", "zoom(0.5)"), call="zoom(2)", shown="↑ ↓"),
    _row("pan_left", "comma", "Pan", "earlier or later steps: when zoomed", "Pan to earlier steps",
        ("pan_right", "full_stop", "later steps: when zoomed", "Pan to later steps", "pan(0.25)"),
        call="pan(-0.25)", shown=", ."),
    _row("follow", "f", "Follow", "follow the newest step", "Follow newest step"),
    _row("reset_view", "u", "Reset", "reset zoom, smoothing, axis and cursor",
        brief="reset zoom, axis, cursor"),
    _row("cursor_right", "right", "Cursor", "values at a step: a cursor on all charts",
        "Cursor right",
        ("cursor_left", "left", "cursor to the left", "Cursor left", "move_cursor(-1)"),
        call="move_cursor(1)", shown="← →"),
    _row("cursor_far_right", "shift+right", "×10", "ten cells at once", "",
        ("cursor_far_left", "shift+left", "ten cells to the left", "", "move_cursor(-10)"),
        call="move_cursor(10)", shown="⇧← ⇧→"),
    _row("cursor_end", "end", "Ends", "first or newest step", "Cursor to newest step",
        ("cursor_home", "home", "cursor to the first step", "Cursor to first step",
        "cursor_to_end(0)"), call="cursor_to_end(1)", shown="home end"),
    _row("next_evaluation", "j", "Next", "next or previous evaluation", "Next evaluation",
        ("previous_evaluation", "k", "cursor to the previous evaluation", "Previous evaluation",
        "to_evaluation(-1)"), panes=("train",), call="to_evaluation(1)", shown="j k",
        brief="next/previous evaluation"),
    _row("write_chart", "w", "Save", "write a CSV file: of the chart's points", "Write CSV",
        brief="points as a CSV file"),
    _row("next_marks", "", "Dots", "dots of charts: braille, or blocks for a font that lacks it",
        "Chart dots", brief="dots: braille or blocks", on_app=True),
)  # fmt: skip
ROWS += _on(("compare",), "screen",
    _row("table_down", "pagedown", "Table", "scroll the table down, up", "Scroll table down",
        ("table_up", "pageup", "scroll the table up", "Scroll table up",
        "part('table', 'scroll_lines', -3)"),
        call="part('table', 'scroll_lines', 3)", shown="PgDn PgUp"),
    _row("test_runs", "D", "Test", "test: is the difference on the test text real?",
        "Test the difference", brief="is the difference real?"),
)  # fmt: skip
ROWS += _on(("config",), "screen",
    _row("next_field", "down", "Field", "next or previous field", "",
        ("previous_field", "up", "the previous field", "", "part('form', 'move', -1)"),
        call="part('form', 'move', 1)", shown="↑ ↓"),
    _row("next_section", "tab", "Section", "the next section", "",
        ("previous_section", "shift+tab", "the previous section", "",
        "part('form', 'move_section', -1)"),
        call="part('form', 'move_section', 1)"),
    _row("edit_field", "enter", "Edit", "edit the field: switch it or choose", "",
        call="part('form', 'edit')"),
    _row("next_choice", "right", "Next", "next or previous choice", "",
        ("previous_choice", "left", "the previous choice", "", "part('form', 'turn', -1)"),
        call="part('form', 'turn', 1)", shown="← →"),
    _row("start_draft", "f5", "Start", "start this run", "Start this run",
        wide_verb="Start training", call="begin('now')"),
    _row("reset_field", "u", "Reset", "reset this field", "", wide_verb="Reset field",
        call="part('form', 'reset')"),
    _row("choose_preset", "P", "Preset", "begin from a preset, a recent file or a run",
        brief="preset, recent file or run"),
    _row("next_problem", "g", "Problem", "go to the next problem", "", wide_verb="Go to problem"),
    _row("adjust_field", "A", "Adjust",
        "solve the field's problem as suggested: again for another way", "Adjust fields",
        brief="solve the problem as suggested"),
    _row("find_rate", "U", "Rate", "find a learning rate: a short test, which leaves no run",
        "Find a learning rate", brief="find a learning rate"),
    _row("save_draft", "ctrl+s", "Save", "save as a draft: don't start it", wide_verb="Save draft"),
    _row("queue_draft", "Q", "Queue", "add to the queue: it starts when its turn comes",
        "Add to queue", brief="start when its turn comes", call="begin('queue')"),
    _row("toggle_field", "space", "Switch", "switch the field between yes and no", "",
        brief="switch between yes and no"),
    _row("undo_edit", "f6", "Undo", "undo or redo an edit, a preset or an opened file", "Undo edit",
        ("redo_edit", "shift+f6", "redo the edit that was undone", "Redo edit", "travel(1)"),
        call="travel(-1)", shown="F6 ⇧F6", brief="undo, redo"),
    _row("next_comparison", "v", "Compare",
        "only fields that differ from the preset, the defaults, a run; then all",
        "Show fields that differ", brief="only what differs from …"),
    _row("find_field", "slash", "Find", "find a field by name, key or help", brief="find a field"),
    _row("browse_files", "b", "Browse", "browse for a text, or in Tokenizer for a tokenizer",
        "Browse for a text or tokenizer", brief="browse for text, tokenizer"),
    _row("edit_toml", "f4", "Edit", "edit the config as TOML in your editor: $EDITOR", "Edit TOML",
        brief="edit the TOML in $EDITOR"),
    _row("open_config", "ctrl+o", "Open", "open a TOML file", "Open config file"),
    _row("write_config", "w", "Save", "save as a TOML file: your comments are kept",
        "Save config file"),
    _row("new_from_run", "n", "New", "a new run from this config", "New run from this config",
        panes=("config", "train"), wide_verb="New run from it"),
)  # fmt: skip
ROWS += _on(("checkpoints",), "screen",
    _row("choose_checkpoint", "enter", "Prompt", "sample from this checkpoint", ""),
    _row("fork_checkpoint", "F", "Fork", "fork: a new run from its weights"),
    _row("pin_checkpoint", "p", "Pin", "pin or unpin: a pinned one is kept"),
    _row("delete_checkpoint", "d", "Delete",
        "move the checkpoint, or all marked ones, to the trash:"
        " {key:undo_delete_checkpoint} undoes it",
        brief="delete it, or the marked"),
    _row("undo_delete_checkpoint", "u", "Reset", "restore what was deleted last",
        "Undo delete of checkpoint"),
    _row("verify_checkpoint", "C", "Verify",
        "check the files of it, or of all marked ones, against their hashes",
        brief="check files against hashes"),
    _row("export_checkpoint", "w", "Save", "export it: for transformers, ONNX or the book",
        brief="export: hf, ONNX, book"),
    _row("average_checkpoints", "M", "Average",
        "average the marked ones: evaluated before it is kept", "Average marked checkpoints",
        brief="average the marked ones"),
    _row("note_checkpoint", "m", "Note", "write a note on the checkpoint", "Note on checkpoint"),
    _row("prune_checkpoints", "X", "Prune", "prune: choose what to keep, see what it frees",
        brief="prune, with a preview"),
    _row("show_checkpoint_trash", "T", "Trash",
        "the trash of the run: restore or purge checkpoints", "Show trash of checkpoints",
        brief="the run's trash"),
    _row("mark_checkpoint", "space", "Mark", "mark or unmark for the next action",
        brief="mark for the next action"),
    _row("mark_all", "a", "All", "mark all checkpoints, or none", "Mark all checkpoints"),
    _row("sort_checkpoints", "o", "Sort", "sort by the next column",
        call="part('table', 'next_sort')"),
    _row("reverse_checkpoints", "O", "Reverse", "reverse the order",
        "Reverse order of checkpoints", call="part('table', 'turn_around')"),
    _row("tensors", "z", "Alone", "all tensors: shapes, sizes, changes"),
)  # fmt: skip
ROWS += _on(("prompt",), "screen",
    _row("generate", "enter", "Generate", "continue the prompt", "", panes=("prompt", "versus")),
    _row("settings", "tab", "Settings",
        "settings: temperature, filters, penalty, stop, seed, samples", "",
        brief="settings: temperature …"),
    _row("new_seed", "ctrl+r", "New seed", "draw the text again with the next seed",
        panes=("prompt", "versus"), brief="again with the next seed"),
    _row("next_checkpoint", "ctrl+k", "Checkpoint", "sample from the next checkpoint",
        panes=("prompt", "versus"), brief="the next checkpoint"),
    _row("choose_weights", "ctrl+o", "Run", "choose run and checkpoint", "Run and checkpoint",
        panes=("prompt", "versus")),
    _row("continue_text", "f3", "Continue", "continue the newest text"),
    _row("edit_text", "f4", "Edit", "edit the newest text: enter continues from it"),
    _row("undo_branch", "f6", "Undo", "undo or redo a continuation, an edit or a new seed", "Undo",
        ("redo_branch", "shift+f6", "redo what was undone", "Redo", ""),
        panes=("prompt", "inspect"), shown="F6 ⇧F6", brief="undo, redo"),
    _row("later_branch", "right", "Branch",
        "previous or next branch, outside the box: other seeds and edits", "Later branch",
        ("earlier_branch", "left", "the previous branch", "Earlier branch", "walk_branches(-1)"),
        call="walk_branches(1)", shown="← →", brief="other branches, after esc"),
    _row("kept_samples", "f7", "Samples", "everything sampled: search, reuse, export, delete",
        "Samples"),
    _row("kept_states", "f8", "States", "kept states: start from one, keep another", "States",
        panes=tuple(PROMPT_MODES)),
    _row("setting_presets", "f9", "Presets", "presets of the settings: greedy, careful, wild",
        "Presets of settings"),
    _row("side_by_side", "", "Columns", "samples of one request beside or below each other",
        "Samples side by side", brief="samples side by side"),
    _row("follow_now", "ctrl+f", "Follow", "sample after each evaluation of the run",
        "Sample after each evaluation", brief="sample after evaluations"),
    _row("save_text", "ctrl+s", "Save", "save the newest text to a file",
        panes=("prompt", "versus")),
    _row("copy_text", "ctrl+y", "Copy", "copy the newest text: if the terminal allows it",
        panes=("prompt", "versus"), call="copy_newest"),
    _row("older_text", "pageup", "Older", "older or newer texts", "Scroll to older texts",
        ("newer_text", "pagedown", "newer texts", "Scroll to newer texts", "to_older(-1)"),
        panes=("prompt", "versus"), call="to_older(1)", shown="PgUp PgDn"),
    _row("next_mode", "f2", "Mode", "next mode: sample, inspect, compare",
        "Next mode of the prompt", panes=tuple(PROMPT_MODES), brief="next mode of the prompt",
        on_app=True),
)  # fmt: skip
ROWS += _on(("inspect",), "screen",
    _row("next_token", "right", "Token", "next or previous token", "Next token",
        ("previous_token", "left", "the previous token", "Previous token", "go_by(-1)"),
        call="go_by(1)", shown="← →"),
    _row("next_line", "down", "Line", "next or previous line: a unit in its view", "",
        ("previous_line", "up", "the previous line", "", "move_line(-1)"), call="move_line(1)",
        shown="↑ ↓"),
    _row("first_token", "home", "Ends", "first token, or what comes next", "First token",
        ("last_token", "end", "what comes next", "What comes next", "go_by(999999999)"),
        call="go_by(-999999999)", shown="home end", brief="first token, what comes next"),
    _row("page_down", "pagedown", "Page", "a page of text, or of units", "",
        ("page_up", "pageup", "the page before", "", "move_page(-1)"), call="move_page(1)",
        shown="PgUp PgDn"),
    _row("next_surprise", "j", "Next", "next or previous surprising token", "Next surprising token",
        ("previous_surprise", "k", "the surprising token before", "Previous surprising token",
        "to_surprise(-1)"), call="to_surprise(1)", shown="j k", brief="next/previous surprise"),
    _row("branch", "enter", "Branch", "take another token here: and sample on from it",
        "Branch at the cursor"),
    _row("score_again", "ctrl+k", "Checkpoint", "score the text with the current checkpoint",
        "Score with the current checkpoint", brief="by the current checkpoint"),
    _row("undo_here", "u", "Reset", "undo a branch: back to the text it left", "Undo branch",
        brief="undo the branch", call="undo_branch"),
    _row("next_branch", "greater_than_sign", "Branch",
        "previous or next branch: other seeds and edits", "Next branch", ("previous_branch",
        "less_than_sign", "the previous branch", "Previous branch", "walk_branches(-1)"),
        shown="< >", call="walk_branches(1)"),
    _row("next_view", "tab", "View", "next view: alternatives, state, unit, reach", "Next view",
        ("previous_view", "shift+tab", "the view before", "", "turn_view(-1)"),
        call="turn_view(1)"),
    _row("next_layer", "i", "Layer", "states of the next layer"),
    _row("unit_order", "o", "Sort", "sort the units by memory, by number, by the search",
        "Sort units", brief="sort units: memory, number"),
    _row("search_units", "slash", "Search", "units that follow: a space, quotes, a letter"),
    _row("keep_state", "p", "Pin", "keep the state after this token", brief="keep the state here"),
    _row("panel_alone", "z", "Alone", "this view alone", "This view alone"),
    _row("write_inspection", "w", "Save", "write a TSV or JSON file: of all tokens"),
)  # fmt: skip
ROWS += _on(("versus",), "screen",
    _row("next_side", "tab", "Side", "next or previous side: then the prompt", "Next side",
        ("previous_side", "shift+tab", "the previous side", "Previous side", "walk_sides(-1)"),
        call="walk_sides(1)"),
    _row("next_difference", "shift+right", "Next", "next or previous difference, outside the box",
        "Next difference", ("previous_difference", "shift+left", "the previous difference",
        "Previous difference", "walk_differences(-1)"), wide_verb="Next difference",
        call="walk_differences(1)", shown="⇧← ⇧→", brief="differences, after esc"),
    _row("differences", "ctrl+t", "Difference",
        "one text scored by two sides: which predicts each token better", "Difference of surprise",
        brief="surprise, token by token", call="switch('differences')"),
    _row("grid", "ctrl+g", "Grid", "grid: short samples by checkpoint and temperature",
        "Grid of checkpoint and temperature", brief="checkpoint × temperature",
        call="switch('grid')"),
    _row("add_side", "ctrl+n", "New", "add a side: up to four", wide_verb="Add side"),
    _row("remove_side", "delete", "Delete", "remove this side, outside the box",
        wide_verb="Remove side", brief="remove this side, after esc"),
)  # fmt: skip
ROWS += _on((), "everywhere",
    _row("show_config", "1", "Config", "the run's config", "Go to Config",
        call="open_pane('config')", on_app=True),
    _row("show_train", "2", "Train", "training charts", "Go to Train", call="open_pane('train')",
        on_app=True),
    _row("show_checkpoints", "3", "Checkpoints", "the run's checkpoints", "Go to Checkpoints",
        call="open_pane('checkpoints')", on_app=True),
    _row("show_prompt", "4", "Prompt", "prompt the model", "Go to Prompt",
        call="open_pane('prompt')", on_app=True),
    _row("show_runs", "r ctrl+l", "Runs", "all runs", "Go to Runs", call="open_pane('runs')",
        on_app=True),
    _row("command_palette", PALETTE_KEY, "Palette", "palette: every command", "", on_app=True),
    _row("keys", "question_mark f1", "Keys", "these keys, and the marks explained", "Help",
        brief="these keys", on_app=True),
    _row("next_theme", "", "Theme", "next colours: dark, light, 16, none", on_app=True),
    _row("alerts", "", "Alerts", "alerts to the terminal: on or off", on_app=True),
    _row("leave_field", "escape", "Leave field", "leave a text field: then digits switch panes",
        ""),
    _row("leave", "q ctrl+q", "Leave", "leave the app: no run is stopped", on_app=True),
)  # fmt: skip
ACTIONS: tuple[Action, ...] = with_keys_in_help(tuple(chain.from_iterable(ROWS)))
"""Every action of the app."""


def action(identifier: str, actions: Iterable[Action] = ACTIONS) -> Action:
    """Return the action with this id; raises KeyError for an unknown one."""
    return {entry.id: entry for entry in actions}[identifier]


def with_ascii_keys(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Return the table with its keys as shown in ASCII."""
    return tuple(
        entry
        if entry.all_keys.isascii()
        else entry._replace(shown=entry.all_keys.translate(_ASCII_KEYS))
        for entry in actions
    )


def actions_for(pane: Pane, actions: Iterable[Action] = ACTIONS) -> tuple[Action, ...]:
    """Return the actions that work on this pane, with its keys, in the order of the table."""
    return tuple(on_pane(entry, pane) for entry in actions if entry.works_on(pane))


def bindings_for(pane: Pane) -> list[BindingType]:
    """Return the pane's key bindings.

    Each has its action's id, so that a user's keymap can change it.
    """
    return [
        Binding(",".join(entry.keys), entry.textual_action, entry.verb, show=False, id=entry.id)
        for entry in actions_for(pane)
        if entry.keys and entry.id != "command_palette"
    ]


def key_rows(actions: Iterable[Action] = ACTIONS) -> list[Row]:
    """Return the rows of a table of keys, of these actions alone."""
    known = {entry.id: entry for entry in actions}
    rows = (tuple(known[entry.id] for entry in row if entry.id in known) for row in ROWS)
    return [row for row in rows if row]


def unbound_key_hint(key: str, pane: Pane, actions: Sequence[Action]) -> str:
    """Return what a key does on another pane if it does nothing here, empty if nowhere.

    Args:
        key: in Textual's spelling.
        actions: the table with the user's keys.
    """
    known = [entry for entry in actions if key in entry.keys]
    ways = {entry.id: entry.label for entry in actions}
    places = [(entry, other) for entry in known for other in entry.panes if f"show_{other}" in ways]
    if not places or any(entry.works_on(pane) for entry in known):
        return ""
    entry, other = places[0]
    label = key_label(key)
    way = f"{ways[f'show_{other}']}, then {label}"
    return f"{label} is a key of {PANE_TITLES[other]}: {way}: {entry.help.split(':')[0]}"
