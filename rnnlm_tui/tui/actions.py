"""The one table of actions: for bindings, footer, help, palette and the guides' table of keys.

Each action is defined once, here. A screen shows and binds what the table has for its pane; the
method `action_<id>` is the screen's, or the app's if `on_app`. A test fails if an action has no
method or a key has two meanings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

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


@dataclass(frozen=True, slots=True)
class Other:
    """An action that is described in the row of another, such as its opposite."""

    id: str
    key: str
    verb: str
    help: str
    palette: str = ""
    call: str = ""


@dataclass(frozen=True, slots=True)
class Action:
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
    others: tuple[Other, ...] = ()
    """The actions that are described in its row."""
    covered: bool = False
    """It is one of the `others`."""
    on_app: bool = False
    """The method is the app's, not the screen's."""
    call: str = ""
    """What it does in Textual's spelling, `pan(0.25)`; empty: its id."""
    footer: bool = True
    """Shown in the footer, in the table's order, if there is room."""
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


_ROWS: tuple[Action, ...] = (
    # runs
    Action("open_selected", ("enter",), "Open", "open the run: with none, start the demo",
        ("runs",), brief="open the run, or the demo"),
    Action("mark_run", ("space",), "Mark", "mark or unmark for comparison", ("runs",),
        palette="Mark run"),
    Action("compare_runs", ("equals_sign",), "Compare", "compare the marked runs", ("runs",),
        palette="Compare runs"),
    Action("new_run", ("n",), "New", "configure a new run", ("runs",), wide_verb="New run",
        palette="New run"),
    Action("filter_runs", ("slash",), "Filter", "filter: part of a name, ppl<80, status", ("runs",),
        palette="Filter runs", brief="filter: name, ppl<80, status …"),
    Action("start_demo", ("f5",), "Start", "start the demo: asks if there are runs", ("runs",),
        wide_verb="Start demo", footer=False, palette="Start demo"),
    Action("sort_runs", ("o",), "Sort", "sort by age, perplexity, name, status …", ("runs",),
        palette="Sort runs", brief="sort by age, ppl, name …"),
    Action("reverse_runs", ("O",), "Reverse", "reverse the sort", ("runs",), footer=False,
        palette="Reverse sort"),
    Action("next_layout", ("V",), "Layout", "list, tree of forks, or groups", ("runs",),
        footer=False, palette="Layout of runs"),
    Action("group_runs", ("G",), "Group", "group by figures or settings", ("runs",), footer=False,
        palette="Group runs"),
    Action("fold_runs", ("left",), "Fold", "fold or unfold a branch, a group", ("runs",),
        footer=False, palette="Fold", shown="← →", brief="fold or unfold",
        others=(Other("unfold_runs", "right", "Unfold", "unfold a branch or a group", "Unfold"),)),
    Action("tag_run", ("t",), "Tag", "edit the tags of the run, or of all marked ones", ("runs",),
        palette="Tag run", brief="tags, also of marked runs"),
    Action("note_run", ("m",), "Note", "write a note on the run", ("runs",), footer=False,
        palette="Note on run"),
    Action("pin_run", ("p",), "Pin", "pin or unpin: pinned runs stay on top", ("runs",),
        footer=False, palette="Pin run"),
    Action("rename_run", ("N",), "Rename", "rename the run", ("runs",), footer=False,
        palette="Rename run"),
    Action("delete_run", ("d",), "Delete",
        "move the run, or all marked ones, to the trash: u undoes it", ("runs",),
        palette="Delete run", brief="to the trash, u undoes it"),
    Action("undo_delete", ("u",), "Reset", "restore what was deleted last", ("runs",), footer=False,
        palette="Undo delete"),
    Action("show_queue", ("Q",), "Queue", "the queue: reorder, remove, add and pause waiting runs",
        ("runs",), palette="Show queue", brief="the queue of waiting runs"),
    Action("show_trash", ("T",), "Trash", "the trash: restore or purge runs", ("runs",),
        footer=False, palette="Show trash", brief="the trash: restore or purge"),
    # train
    Action("pause", ("space",), "Pause", "pause or resume: also a stopped run", ("train",),
        on_app=True, palette="Pause or resume", brief="pause or resume"),
    Action("resume_elsewhere", ("R",), "Device",
        "resume on another device: the run's own is gone or busy", ("train",), on_app=True,
        footer=False, palette="Resume on another device"),
    Action("sample", ("s",), "Sample", "sample now", ("train",), wide_verb="Sample now",
        on_app=True, palette="Sample now", call="send('sample')"),
    Action("checkpoint", ("c",), "Save", "save a checkpoint now", ("train", "checkpoints"),
        wide_verb="Checkpoint", on_app=True, palette="Save checkpoint now",
        call="send('checkpoint')"),
    Action("evaluate", ("e",), "Evaluate", "evaluate now", ("train",), on_app=True,
        palette="Evaluate now", call="send('evaluate')"),
    Action("steer", ("E",), "Edit", "edit settings while it trains: learning rate, length …",
        ("train", "runs"), wide_verb="Edit settings", palette="Edit settings of the live run",
        brief="edit the live run's settings"),
    Action("undo_setting", ("f6",), "Undo", "undo the last change of the live run",
        ("train", "runs"), footer=False, palette="Undo change of settings",
        brief="undo the last change"),
    Action("stop", ("S",), "Stop", "stop: now, after this epoch or the next evaluation", ("train",),
        on_app=True, palette="Stop training", brief="stop now, or after the epoch"),
    Action("sample_history", ("h",), "History", "samples step by step: see it learn", ("train",),
        palette="Sample history"),
    Action("discard_run", ("d",), "Delete", "discard a failed run: to the trash", ("train",),
        footer=False, palette="Discard failed run"),
    Action("show_log", ("L",), "Log", "worker output: or else its events", ("train",), on_app=True,
        footer=False, palette="Show worker log"),
    Action("older_events", ("pagedown",), "Events", "older or newer events", ("train",),
        footer=False, palette="Older events", shown="PgDn PgUp", call="scroll_events(1)",
        others=(Other("newer_events", "pageup", "Events", "newer events", "Newer events",
            "scroll_events(-1)"),)),
    Action("next_run", ("J",), "Run", "next or previous run of the list", ("train",),
        palette="Next run", shown="J K", brief="next or previous run", call="to_run(1)",
        others=(Other("previous_run", "K", "Run", "previous run of the list", "Previous run",
            "to_run(-1)"),)),
    Action("open_nearest", ("enter",), "Open", "sample from the checkpoint: nearest to the cursor",
        ("train",), footer=False, palette="Open checkpoint at cursor"),
    Action("left_sidebar", ("left_square_bracket",), "Left",
        "hide or show sidebars: runs and events, machine and samples", ("train",), footer=False,
        palette="Hide or show runs and events", shown="[ ]", call="toggle_sidebar('left')",
        others=(Other("lower_sidebar", "right_square_bracket", "Lower",
            "hide or show machine and samples", "Hide or show machine and samples",
            "toggle_sidebar('lower')"),)),
    Action("log_scale", ("l", "y"), "Log y", "log or linear y", CHARTED, group="charts",
        palette="Log or linear y"),
    Action("next_axis", ("x",), "Axis", "next x axis: step, tokens, epoch, active time, wall time",
        CHARTED, group="charts", palette="Next x axis", brief="x: step, tokens, time …"),
    Action("smoother", ("plus",), "Smooth", "more, less, no smoothing", CHARTED, group="charts",
        palette="Smoother", shown="+ - 0", call="smooth(1)",
        others=(Other("rougher", "minus", "Rough", "less smoothing", "Less smoothing",
            "smooth(-1)"), Other("raw", "0", "Raw", "no smoothing", "No smoothing",
            "smooth(-9)"),)),
    Action("next_chart", ("tab",), "Panel", "next chart", CHARTED, group="charts", footer=False,
        palette="Next chart", call="step_chart(1)",
        others=(Other("previous_chart", "shift+tab", "Panel", "the previous chart",
            "Previous chart", "step_chart(-1)"),)),
    Action("alone", ("z",), "Alone", "this chart alone", CHARTED, group="charts", footer=False,
        palette="This chart alone"),
    Action("whole_range", ("a",), "All", "whole y range: with the steep first fall", CHARTED,
        group="charts", footer=False, palette="Whole y range", brief="whole y range"),
    Action("zoom_in", ("up",), "Zoom", "zoom in, out", CHARTED, group="charts", palette="Zoom in",
        shown="↑ ↓", call="zoom(2)",
        others=(Other("zoom_out", "down", "Zoom out", "zoom out", "Zoom out", "zoom(0.5)"),)),
    Action("pan_left", ("comma",), "Pan", "earlier or later steps: when zoomed", CHARTED,
        group="charts", footer=False, palette="Pan to earlier steps", shown=", .",
        call="pan(-0.25)",
        others=(Other("pan_right", "full_stop", "Pan", "later steps: when zoomed",
            "Pan to later steps", "pan(0.25)"),)),
    Action("follow", ("f",), "Follow", "follow the newest step", CHARTED, group="charts",
        footer=False, palette="Follow newest step"),
    Action("reset_view", ("u",), "Reset", "reset zoom, smoothing, axis and cursor", CHARTED,
        group="charts", footer=False, palette="Reset view", brief="reset zoom, axis, cursor"),
    Action("cursor_right", ("right",), "Cursor", "values at a step: a cursor on all charts",
        CHARTED, group="charts", footer=False, palette="Cursor right", shown="← →",
        call="move_cursor(1)",
        others=(Other("cursor_left", "left", "Cursor", "cursor to the left", "Cursor left",
            "move_cursor(-1)"),)),
    Action("cursor_far_right", ("shift+right",), "×10", "ten cells at once", CHARTED,
        group="charts", footer=False, shown="⇧← ⇧→", call="move_cursor(10)",
        others=(Other("cursor_far_left", "shift+left", "×10", "ten cells to the left", "",
            "move_cursor(-10)"),)),
    Action("cursor_end", ("end",), "Ends", "first or newest step", CHARTED, group="charts",
        footer=False, palette="Cursor to newest step", shown="home end", call="cursor_to_end(1)",
        others=(Other("cursor_home", "home", "Ends", "cursor to the first step",
            "Cursor to first step", "cursor_to_end(0)"),)),
    Action("next_evaluation", ("j",), "Next", "next or previous evaluation", ("train",),
        group="charts", footer=False, palette="Next evaluation", shown="j k",
        brief="next/previous evaluation", call="to_evaluation(1)",
        others=(Other("previous_evaluation", "k", "Previous", "cursor to the previous evaluation",
            "Previous evaluation", "to_evaluation(-1)"),)),
    Action("write_chart", ("w",), "Save", "write a CSV file: of the chart's points", CHARTED,
        group="charts", footer=False, palette="Write CSV", brief="points as a CSV file"),
    # compare
    Action("table_down", ("pagedown",), "Table", "scroll the table down, up", ("compare",),
        footer=False, palette="Scroll table down", shown="PgDn PgUp", call="scroll_table(3)",
        others=(Other("table_up", "pageup", "Table", "scroll the table up", "Scroll table up",
            "scroll_table(-3)"),)),
    Action("next_marks", (), "Dots", "dots of charts: braille, or blocks for a font that lacks it",
        CHARTED, group="charts", on_app=True, footer=False, palette="Chart dots",
        brief="dots: braille or blocks"),
    # config
    Action("next_field", ("down",), "Field", "next or previous field", ("config",), shown="↑ ↓",
        call="move_field(1)",
        others=(Other("previous_field", "up", "Field", "the previous field", "",
            "move_field(-1)"),)),
    Action("next_section", ("tab",), "Section", "the next section", ("config",),
        call="move_section(1)",
        others=(Other("previous_section", "shift+tab", "Section", "the previous section", "",
            "move_section(-1)"),)),
    Action("edit_field", ("enter",), "Edit", "edit the field: switch it or choose", ("config",)),
    Action("next_choice", ("right",), "Next", "next or previous choice", ("config",), footer=False,
        shown="← →", call="turn(1)",
        others=(Other("previous_choice", "left", "Previous", "the previous choice", "",
            "turn(-1)"),)),
    Action("start_draft", ("f5",), "Start", "start this run", ("config",),
        wide_verb="Start training", palette="Start this run"),
    Action("reset_field", ("u",), "Reset", "reset this field", ("config",),
        wide_verb="Reset field"),
    Action("choose_preset", ("P",), "Preset", "begin from a preset, a recent file or a run",
        ("config",), palette="Choose preset", brief="preset, recent file or run"),
    Action("next_problem", ("g",), "Problem", "go to the next problem", ("config",),
        wide_verb="Go to problem"),
    Action("adjust_field", ("A",), "Adjust",
        "solve the field's problem as suggested: again for another way", ("config",),
        palette="Adjust fields", brief="solve the problem as suggested"),
    Action("save_draft", ("ctrl+s",), "Save", "save as a draft: don't start it", ("config",),
        wide_verb="Save draft", palette="Save draft"),
    Action("queue_draft", ("Q",), "Queue", "add to the queue: it starts when its turn comes",
        ("config",), footer=False, palette="Add to queue", brief="start when its turn comes"),
    Action("toggle_field", ("space",), "Switch", "switch the field between yes and no", ("config",),
        footer=False, brief="switch between yes and no"),
    Action("undo_edit", ("f6",), "Undo", "undo or redo an edit, a preset or an opened file",
        ("config",), footer=False, palette="Undo edit", shown="F6 ⇧F6", brief="undo, redo",
        call="travel(-1)",
        others=(Other("redo_edit", "shift+f6", "Redo", "redo the edit that was undone", "Redo edit",
            "travel(1)"),)),
    Action("next_comparison", ("v",), "Compare",
        "only fields that differ from the preset, the defaults, a run; then all", ("config",),
        palette="Show fields that differ", brief="only what differs from …"),
    Action("find_field", ("slash",), "Find", "find a field by name, key or help", ("config",),
        palette="Find field", brief="find a field"),
    Action("browse_files", ("b",), "Browse", "browse for a text, or in Tokenizer for a tokenizer",
        ("config",), footer=False, palette="Browse for a text or tokenizer",
        brief="browse for text, tokenizer"),
    Action("edit_toml", ("f4",), "Edit", "edit the config as TOML in your editor: $EDITOR",
        ("config",), footer=False, palette="Edit TOML", brief="edit the TOML in $EDITOR"),
    Action("open_config", ("ctrl+o",), "Open", "open a TOML file", ("config",), footer=False,
        palette="Open config file"),
    Action("write_config", ("w",), "Save", "save as a TOML file: your comments are kept",
        ("config",), footer=False, palette="Save config file"),
    Action("new_from_run", ("n",), "New", "a new run from this config", ("config", "train"),
        wide_verb="New run from it", palette="New run from this config"),
    # checkpoints
    Action("choose_checkpoint", ("enter",), "Prompt", "sample from this checkpoint",
        ("checkpoints",)),
    Action("fork_checkpoint", ("F",), "Fork", "fork: a new run from its weights", ("checkpoints",),
        palette="Fork checkpoint"),
    Action("pin_checkpoint", ("p",), "Pin", "pin or unpin: a pinned one is kept", ("checkpoints",),
        palette="Pin checkpoint"),
    Action("delete_checkpoint", ("d",), "Delete",
        "move the checkpoint, or all marked ones, to the trash: u undoes it", ("checkpoints",),
        palette="Delete checkpoint", brief="delete it, or the marked"),
    Action("undo_delete_checkpoint", ("u",), "Reset", "restore what was deleted last",
        ("checkpoints",), palette="Undo delete of checkpoint"),
    Action("verify_checkpoint", ("C",), "Verify",
        "check the files of it, or of all marked ones, against their hashes", ("checkpoints",),
        palette="Verify checkpoint", brief="check files against hashes"),
    Action("export_checkpoint", ("w",), "Save", "export it: for transformers, ONNX or the book",
        ("checkpoints",), palette="Export checkpoint", brief="export: hf, ONNX, book"),
    Action("average_checkpoints", ("M",), "Average",
        "average the marked ones: evaluated before it is kept", ("checkpoints",), footer=False,
        palette="Average marked checkpoints", brief="average the marked ones"),
    Action("note_checkpoint", ("m",), "Note", "write a note on the checkpoint", ("checkpoints",),
        palette="Note on checkpoint"),
    Action("prune_checkpoints", ("X",), "Prune", "prune: choose what to keep, see what it frees",
        ("checkpoints",), palette="Prune checkpoints", brief="prune, with a preview"),
    Action("show_checkpoint_trash", ("T",), "Trash",
        "the trash of the run: restore or purge checkpoints", ("checkpoints",), footer=False,
        palette="Show trash of checkpoints", brief="the run's trash"),
    Action("mark_checkpoint", ("space",), "Mark", "mark or unmark for the next action",
        ("checkpoints",), footer=False, palette="Mark checkpoint",
        brief="mark for the next action"),
    Action("mark_all", ("a",), "All", "mark all checkpoints, or none", ("checkpoints",),
        footer=False, palette="Mark all checkpoints"),
    Action("sort_checkpoints", ("o",), "Sort", "sort by the next column", ("checkpoints",),
        footer=False, palette="Sort checkpoints"),
    Action("reverse_checkpoints", ("O",), "Reverse", "reverse the order", ("checkpoints",),
        footer=False, palette="Reverse order of checkpoints"),
    Action("tensors", ("z",), "Alone", "all tensors: shapes, sizes, changes", ("checkpoints",),
        footer=False, palette="Tensors"),
    # prompt
    Action("generate", ("enter",), "Generate", "continue the prompt", ("prompt", "versus")),
    Action("settings", ("tab",), "Settings",
        "settings: temperature, top-p, top-k, min-p, typical-p, penalty, stop, seed, samples",
        ("prompt",), brief="settings: temperature, top-p …"),
    Action("new_seed", ("ctrl+r",), "New seed", "draw the text again with the next seed",
        ("prompt", "versus"), palette="New seed", brief="again with the next seed"),
    Action("next_checkpoint", ("ctrl+k",), "Checkpoint", "sample from the next checkpoint",
        ("prompt", "versus"), palette="Next checkpoint", brief="the next checkpoint"),
    Action("choose_weights", ("ctrl+o",), "Run", "choose run and checkpoint", ("prompt", "versus"),
        palette="Run and checkpoint"),
    Action("continue_text", ("f3",), "Continue", "continue the newest text", ("prompt",),
        palette="Continue text"),
    Action("edit_text", ("f4",), "Edit", "edit the newest text: enter continues from it",
        ("prompt",), palette="Edit text"),
    Action("undo_branch", ("f6",), "Undo", "undo or redo a continuation, an edit or a new seed",
        ("prompt", "inspect"), palette="Undo", shown="F6 ⇧F6", brief="undo, redo",
        others=(Other("redo_branch", "shift+f6", "Redo", "redo what was undone", "Redo"),)),
    Action("later_branch", ("right",), "Branch",
        "previous or next branch, outside the box: other seeds and edits", ("prompt",),
        footer=False, palette="Later branch", call="next_branch", shown="← →",
        brief="other branches, after esc",
        others=(Other("earlier_branch", "left", "Branch", "the previous branch", "Earlier branch",
            "previous_branch"),)),
    Action("kept_samples", ("f7",), "Samples", "everything sampled: search, reuse, export, delete",
        ("prompt",), palette="Samples"),
    Action("kept_states", ("f8",), "States", "kept states: start from one, keep another",
        ("prompt", "inspect", "versus"), palette="States"),
    Action("setting_presets", ("f9",), "Presets", "presets of the settings: greedy, careful, wild",
        ("prompt",), palette="Presets of settings"),
    Action("side_by_side", (), "Columns", "samples of one request beside or below each other",
        ("prompt",), footer=False, palette="Samples side by side", brief="samples side by side"),
    Action("follow_now", ("ctrl+f",), "Follow", "sample after each evaluation of the run",
        ("prompt",), footer=False, palette="Sample after each evaluation",
        brief="sample after evaluations"),
    Action("save_text", ("ctrl+s",), "Save", "save the newest text to a file", ("prompt", "versus"),
        palette="Save text"),
    Action("copy_text", ("ctrl+y",), "Copy", "copy the newest text: if the terminal allows it",
        ("prompt", "versus"), palette="Copy text", call="copy_newest"),
    Action("older_text", ("pageup",), "Older", "older or newer texts", ("prompt", "versus"),
        footer=False, palette="Scroll to older texts", shown="PgUp PgDn", call="to_older(1)",
        others=(Other("newer_text", "pagedown", "Newer", "newer texts", "Scroll to newer texts",
            "to_older(-1)"),)),
    Action("next_mode", ("f2",), "Mode", "next mode: sample, inspect, compare", tuple(PROMPT_MODES),
        on_app=True, palette="Next mode of the prompt", brief="next mode of the prompt"),
    # inspect
    Action("next_token", ("right",), "Token", "next or previous token", ("inspect",),
        palette="Next token", shown="← →", call="go_by(1)",
        others=(Other("previous_token", "left", "Token", "the previous token", "Previous token",
            "go_by(-1)"),)),
    Action("next_line", ("down",), "Line", "next or previous line: a unit in its view",
        ("inspect",), shown="↑ ↓", call="move_line(1)",
        others=(Other("previous_line", "up", "Line", "the previous line", "", "move_line(-1)"),)),
    Action("first_token", ("home",), "Ends", "first token, or what comes next", ("inspect",),
        brief="first token, what comes next", footer=False, palette="First token", shown="home end",
        call="go_by(-999999999)",
        others=(Other("last_token", "end", "Ends", "what comes next", "What comes next",
            "go_by(999999999)"),)),
    Action("page_down", ("pagedown",), "Page", "a page of text, or of units", ("inspect",),
        footer=False, shown="PgUp PgDn", call="move_page(1)",
        others=(Other("page_up", "pageup", "Page", "the page before", "", "move_page(-1)"),)),
    Action("next_surprise", ("j",), "Next", "next or previous surprising token", ("inspect",),
        palette="Next surprising token", shown="j k", brief="next/previous surprise",
        call="to_surprise(1)",
        others=(Other("previous_surprise", "k", "Previous", "the surprising token before",
            "Previous surprising token", "to_surprise(-1)"),)),
    Action("branch", ("enter",), "Branch", "take another token here: and sample on from it",
        ("inspect",), palette="Branch at the cursor"),
    Action("score_again", ("ctrl+k",), "Checkpoint", "score the text with the current checkpoint",
        ("inspect",), footer=False, palette="Score with the current checkpoint",
        brief="by the current checkpoint"),
    Action("undo_here", ("u",), "Reset", "undo a branch: back to the text it left", ("inspect",),
        palette="Undo branch", brief="undo the branch"),
    Action("next_branch", ("greater_than_sign",), "Branch",
        "previous or next branch: other seeds and edits", ("inspect",), footer=False,
        palette="Next branch", shown="< >",
        others=(Other("previous_branch", "less_than_sign", "Branch", "the previous branch",
            "Previous branch"),)),
    Action("next_view", ("tab",), "View", "next view: alternatives, state, unit, reach",
        ("inspect",), palette="Next view", call="turn_view(1)",
        others=(Other("previous_view", "shift+tab", "View", "the view before", "",
            "turn_view(-1)"),)),
    Action("next_layer", ("i",), "Layer", "states of the next layer", ("inspect",), footer=False,
        palette="Next layer"),
    Action("unit_order", ("o",), "Sort", "sort the units by memory, by number, by the search",
        ("inspect",), footer=False, palette="Sort units", brief="sort units: memory, number"),
    Action("search_units", ("slash",), "Search", "units that follow: a space, quotes, a letter",
        ("inspect",), footer=False, palette="Search units"),
    Action("keep_state", ("p",), "Pin", "keep the state after this token", ("inspect",),
        footer=False, palette="Keep state", brief="keep the state here"),
    Action("panel_alone", ("z",), "Alone", "this view alone", ("inspect",), footer=False,
        palette="This view alone"),
    Action("write_inspection", ("w",), "Save", "write a TSV or JSON file: of all tokens",
        ("inspect",), footer=False, palette="Write inspection"),
    # side by side
    Action("next_side", ("tab",), "Side", "next or previous side: then the prompt", ("versus",),
        palette="Next side", call="walk_sides(1)",
        others=(Other("previous_side", "shift+tab", "Side", "the previous side", "Previous side",
            "walk_sides(-1)"),)),
    Action("next_difference", ("shift+right",), "Next",
        "next or previous difference, outside the box", ("versus",), wide_verb="Next difference",
        palette="Next difference", shown="⇧← ⇧→", brief="differences, after esc",
        call="walk_differences(1)",
        others=(Other("previous_difference", "shift+left", "Previous", "the previous difference",
            "Previous difference", "walk_differences(-1)"),)),
    Action("differences", ("ctrl+t",), "Difference",
        "one text scored by two sides: which predicts each token better", ("versus",),
        palette="Difference of surprise", brief="surprise, token by token"),
    Action("grid", ("ctrl+g",), "Grid", "grid: short samples by checkpoint and temperature",
        ("versus",), palette="Grid of checkpoint and temperature",
        brief="checkpoint × temperature"),
    Action("add_side", ("ctrl+n",), "New", "add a side: up to four", ("versus",),
        wide_verb="Add side", palette="Add side"),
    Action("remove_side", ("delete",), "Delete", "remove this side, outside the box", ("versus",),
        wide_verb="Remove side", palette="Remove side", brief="remove this side, after esc"),
    # everywhere
    Action("show_config", ("1",), "Config", "the run's config", group="everywhere", on_app=True,
        footer=False, palette="Go to Config", call="open_pane('config')"),
    Action("show_train", ("2",), "Train", "training charts", group="everywhere", on_app=True,
        footer=False, palette="Go to Train", call="open_pane('train')"),
    Action("show_checkpoints", ("3",), "Checkpoints", "the run's checkpoints", group="everywhere",
        on_app=True, footer=False, palette="Go to Checkpoints", call="open_pane('checkpoints')"),
    Action("show_prompt", ("4",), "Prompt", "prompt the model", group="everywhere", on_app=True,
        footer=False, palette="Go to Prompt", call="open_pane('prompt')"),
    Action("show_runs", ("r", "ctrl+l"), "Runs", "all runs", group="everywhere", on_app=True,
        footer=False, palette="Go to Runs", call="open_pane('runs')"),
    Action("command_palette", (PALETTE_KEY,), "Palette", "palette: every command",
        group="everywhere", on_app=True, footer=False),
    Action("keys", ("question_mark", "f1"), "Keys", "these keys, and the marks explained",
        group="everywhere", on_app=True, footer=False, palette="Help", brief="these keys"),
    Action("next_theme", (), "Theme", "next colours: dark, light, 16, none", group="everywhere",
        on_app=True, footer=False, palette="Next theme"),
    Action("alerts", (), "Alerts", "alerts to the terminal: on or off", group="everywhere",
        on_app=True, footer=False, palette="Alerts"),
    Action("leave_field", ("escape",), "Leave field",
        "leave a text field: then digits switch panes", group="everywhere", footer=False),
    Action("leave", ("q", "ctrl+q"), "Leave", "leave the app: no run is stopped",
        group="everywhere", on_app=True, palette="Leave"),
)  # fmt: skip


def _row(first: Action) -> tuple[Action, ...]:
    others = (
        Action(
            other.id, (other.key,), other.verb, other.help, first.panes, group=first.group,
            covered=True, on_app=first.on_app, call=other.call, footer=False, palette=other.palette,
        )
        for other in first.others
    )  # fmt: skip
    return (first, *others)


ACTIONS: tuple[Action, ...] = tuple(found for first in _ROWS for found in _row(first))
"""Every action of the app, in the order of footers and help."""


def action(identifier: str, actions: Iterable[Action] = ACTIONS) -> Action:
    """Return the action with this id; raises KeyError for an unknown one."""
    for entry in actions:
        if entry.id == identifier:
            return entry
    raise KeyError(identifier)


def with_ascii_keys(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Return the table with its keys as shown in ASCII."""
    return tuple(
        entry
        if entry.all_keys.isascii()
        else replace(entry, shown=entry.all_keys.translate(_ASCII_KEYS))
        for entry in actions
    )


def on_pane(entry: Action, pane: Pane) -> Action:
    """Return the action with the keys that it has on this pane, perhaps none."""
    if pane not in WITH_TEXT_BOX:
        return entry
    keys = tuple(key for key in entry.keys if key.isdigit() or not types_text(key))
    return entry if keys == entry.keys else replace(entry, keys=keys, shown="")


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


def key_rows(actions: Sequence[Action] = ACTIONS) -> list[tuple[Action, ...]]:
    """Return the rows of a table of keys: an action, followed by those described in its row."""
    rows: list[tuple[Action, ...]] = []
    for entry in actions:
        if entry.covered:
            rows[-1] = (*rows[-1], entry)
        else:
            rows.append((entry,))
    return rows


PANE_ACTIONS: dict[Pane, str] = {
    "config": "show_config", "train": "show_train", "checkpoints": "show_checkpoints",
    "prompt": "show_prompt", "runs": "show_runs",
}  # fmt: skip
"""The action that goes to each pane; `compare` has none."""


def unbound_key_hint(key: str, pane: Pane, actions: Sequence[Action]) -> str:
    """Return what a key does on another pane if it does nothing here, empty if nowhere.

    Args:
        key: in Textual's spelling.
        actions: the table with the user's keys.
    """
    known = [entry for entry in actions if key in entry.keys]
    if any(entry.works_on(pane) for entry in known):
        return ""
    for entry in known:
        other = next((name for name in entry.panes if name in PANE_ACTIONS), None)
        if other is not None:
            way = action(PANE_ACTIONS[other], actions).label
            return (
                f"{entry.label} is a key of {PANE_TITLES[other]}: {way}, then {entry.label}:"
                f" {entry.help.split(':')[0]}"
            )
    return ""


def key_table() -> list[tuple[str, str, str, str]]:
    """Return the rows of the table of keys: keys, panes, help, names in a keymap."""
    return [
        (
            row[0].all_keys,
            ", ".join(PANE_TITLES[pane] for pane in row[0].panes) or "everywhere",
            row[0].help,
            " ".join(f"`{entry.id}`" for entry in row),
        )
        for row in key_rows()
    ]
