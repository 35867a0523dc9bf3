"""Exit codes and error messages of the command line, its help and shell completion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import typer

from rnnlm_tui import __version__
from rnnlm_tui.cli import app
from rnnlm_tui.cli.app import FAMILIES, GUARANTEES, GUARANTEES_TITLE, VERBS, Verb, build, command_of
from rnnlm_tui.cli.main import main, run
from rnnlm_tui.cli.options import BASH_SPLIT
from rnnlm_tui.errors import (
    CheckpointError,
    ConfigError,
    Problem,
    RnnlmError,
    RunStateError,
    UnknownRunError,
    WorkerError,
)
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.queue import QueueEntry, QueueFile
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.paths import queue_dir, queue_file, runs_dir
from rnnlm_tui.store.queue import change_queue
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.system.locks import RunLock
from tests.unit.store.rows import write_model
from tests.unit.store.test_states import keep

Captured = pytest.CaptureFixture[str]


def answer_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `rnnlm-tui doctor` raise."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(app.Verb, "load", lambda self: fail)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RnnlmError("m"), 1),
        (ConfigError([Problem("a", "b")]), 2),
        (UnknownRunError("m", hint="did you mean"), 2),
        (RunStateError("m"), 3),
        (WorkerError("m"), 4),
        (CheckpointError("m"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_reported_on_stderr_with_its_exit_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    answer_with(monkeypatch, error)
    assert run(["doctor"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    if isinstance(error, RnnlmError):
        assert f"rnnlm-tui: {error.message}\n" in err
        assert error.hint in err


def test_an_internal_error_is_one_sentence_and_a_log_with_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    answer_with(monkeypatch, ZeroDivisionError("by \x1b[31m"))
    assert run(["doctor"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert "\x1b" not in err
    found = re.search(r"the traceback is in (\S+)", err)
    assert found is not None
    log = Path(found[1])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()


def test_version_and_help_exit_with_success(capsys: Captured) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"rnnlm-tui {__version__}\n"
    assert run(["--help"]) == 0
    assert run(["-h"]) == 0
    assert run(["--ascii", "--version"]) == 0


def test_a_misspelled_verb_gets_a_suggestion(capsys: Captured) -> None:
    run(["shwo"])
    assert "Did you mean 'show'" in capsys.readouterr().err


def test_help_lists_every_verb_under_its_family_with_the_exit_codes(
    capsys: Captured,
) -> None:
    run(["--help"])
    out = capsys.readouterr().out
    for family in FAMILIES:
        assert f"\n{family}:\n" in out
    for verb in VERBS:
        assert re.search(rf"^  {verb.name} +{re.escape(verb.summary)}$", out, re.MULTILINE)
    for code in ("0", "1", "2", "3", "4", "5", "130"):
        assert re.search(rf"\b{code} ", out.partition("Exit codes:")[2])


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["resume", "--help"]], ids=" ".join
)
def test_help_lists_the_guarantees(arguments: list[str], capsys: Captured) -> None:
    run(arguments)
    said = " ".join(capsys.readouterr().out.partition(f"{GUARANTEES_TITLE}:")[2].split())
    for name, promise in GUARANTEES:
        assert f"{name} {promise}" in said


def test_the_command_line_has_the_verbs_of_the_table() -> None:
    application = build()
    assert set(application.list_commands(None)) == {verb.name.partition(" ")[0] for verb in VERBS}
    for verb in VERBS:
        assert len(verb.summary) <= 60  # fits 80 columns
        assert (verb.load().__doc__ or "").partition("\n")[0] == verb.summary


@pytest.mark.parametrize("verb", ["queue list", "state list", "config show"])
def test_a_group_without_a_verb_does_what_its_first_verb_does(verb: str, capsys: Captured) -> None:
    for options in ([], ["--json"]):
        assert run([*verb.split(), *options]) == 0
        shown = capsys.readouterr().out
        assert run([verb.partition(" ")[0], *options]) == 0
        assert capsys.readouterr().out == shown


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_its_own_help_with_arguments_as_typed(verb: Verb, capsys: Captured) -> None:
    assert run([*verb.name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "--help" in out
    assert (verb.load().__doc__ or "").partition("\n")[0] in " ".join(out.split())
    usage = " ".join(out.partition("\n\n")[0].split())
    assert "[[" not in out
    assert "......" not in out
    assert "{" not in usage
    assert not re.search(r"<[a-z|\[\]]+>", out.replace("<unk>", ""))
    for parameter in command_of(verb).params:
        if parameter.param_type_name == "argument":
            assert f" {parameter.metavar}" in usage


@pytest.mark.parametrize("verb", ["train", "estimate", "config show", "bench"])
def test_help_names_every_preset(verb: str, capsys: Captured) -> None:
    run([*verb.split(), "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert ", ".join(PRESETS) in out.replace("- ", "-"), "click breaks lines after hyphens"


def completed(words: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> set[str]:
    """What bash is offered for the last of these words."""
    monkeypatch.setenv("_RNNLM_TUI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"rnnlm-tui\n{words}")
    monkeypatch.setenv("COMP_CWORD", str(words.count("\n") + 1))
    monkeypatch.setenv(BASH_SPLIT, "1")
    monkeypatch.delenv(BASH_SPLIT)  # and after the test, which may set it
    assert run([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return set(out.split())


STEPS = "brisk-heron@best brisk-heron@last brisk-heron@20 brisk-heron@40"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sho", "show"),
        ("show bri", "brisk-heron"),
        ("train --preset ", " ".join(PRESETS)),
        ("train --set training.batch", "training.batch_size="),
        ("estimate --set model.cell", "model.cell_type="),
        ("set brisk-heron optimizer.l", "optimizer.learning_rate="),
        ("pin brisk-heron@", STEPS),
        ("unpin brisk-heron@4", "brisk-heron@40"),
        ("pin brisk-heron@4 brisk-heron@2", "brisk-heron@20"),
        ("pin bri", "brisk-heron"),
        ("sample brisk-heron@", STEPS),
        ("sample busy-wren@", "busy-wren@now"),
        ("score busy-wren@n", "busy-wren@now"),
        ("train --set model.cell_type=min", "model.cell_type=mingru model.cell_type=minlstm"),
        ("train --set nothing=", ""),
        ("train --from brisk-heron@b", "brisk-heron@best"),
        ("pin nothing-like-it@", ""),
        ("stop brisk-heron --after ep", "epoch"),
        ("queue move busy-wren u", "up"),
        ("queue remove ", "waiting-wren"),
        ("--theme ansi", "ansi-dark ansi-light"),
        ("config pre", "presets"),
        ("config diff lst", "lstm"),
        ("docs re", "reliability"),
        ("restore go", "gone-crane"),
        ("runs --sort embedding_dim", "embedding_dim"),
        ("state show in", "intro"),
        ("sample brisk-heron x --state ", "intro outro"),
        ("state ", "list keep show delete"),
    ],
)
def test_the_shell_completes_verbs_runs_and_values(
    line: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    directory = create_run(RunConfig(), "brisk-heron")
    busy = create_run(RunConfig(), "busy-wren")
    for _ in range(2):
        delete_run(create_run(RunConfig(), "gone-crane"))
    change_queue(lambda _: QueueFile(entries=(QueueEntry(run="waiting-wren", added=1.0),)))
    for name in ("intro", "outro"):
        keep(name)
    for step in (20, 40):
        write_checkpoint(directory, step, write_model, None, {"validation_loss": 4.0})
    with RunLock(busy.lock_path):
        assert completed(line.replace(" ", "\n"), monkeypatch, capsys) == set(words.split())


@pytest.mark.faults
@pytest.mark.parametrize("words", ["queue move ", "queue remove b", "restore gone@", "show b"])
def test_a_completion_that_cant_read_the_home_prints_nothing(
    words: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    queue_dir().mkdir(parents=True)
    queue_file().write_text("damaged")
    runs_dir().write_text("a file")
    assert completed(words.replace(" ", "\n"), monkeypatch, capsys) == set()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("pin brisk-heron @", "@best @last @20"),
        ("pin brisk-heron @ b", "@best"),
        ("sample brisk-heron @ l", "@last"),
        ("train --set model.cell_type =", " ".join(get_args(CellType))),
        ("train --set model.cell_type = elm", "elman"),
        ("train --set model.cell_ty", "model.cell_type="),
        ("unpin brisk-heron @ 20 bri", "brisk-heron"),
        ("train --from brisk-heron @ 2", "@20"),
    ],
)
def test_bash_which_splits_words_completes_checkpoints_and_values(
    words: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    run = create_run(RunConfig(), "brisk-heron")
    write_checkpoint(run, 20, write_model, None, {"validation_loss": 4.0})
    assert completed(words.replace(" ", "\n"), monkeypatch, capsys) == set(found.split())


def test_words_behind_the_cursor_do_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    create_run(RunConfig(), "brisk-heron")
    monkeypatch.setenv("COMP_WORDS", "rnnlm-tui\nshow\nbri\n@\nb")
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("_RNNLM_TUI_COMPLETE", "complete_bash")
    assert run([]) == 0
    assert capsys.readouterr().out.split() == ["brisk-heron"]


def test_the_shell_completes_every_option_whose_values_are_a_choice() -> None:
    """Words between bars, unless one is in capitals: then other values are possible, too."""
    for verb in VERBS:
        for parameter in command_of(verb).params:
            words = str(parameter.metavar).split("|")
            if len(words) > 1 and all(re.fullmatch("[a-z]+", word) for word in words):
                found = parameter.shell_complete(typer.Context(command_of(verb)), "")
                assert [item.value for item in found] == words, (verb.name, parameter.name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --follow --draft", "--follow and --draft"),
        ("train --follow --detach --draft", "--follow, --detach and --draft"),
        ("train --preset demo --from brisk-heron", "--preset and --from"),
        ("resume brisk-heron --follow --detach", "--follow and --detach"),
        ("metrics brisk-heron --csv --json", "--csv and --json"),
        ("purge brisk-heron --all", "NAME and --all"),
        ("corpus remove elman --unused", "CORPUS and --unused"),
        ("config show brisk-heron --preset demo", "RUN and --preset"),
        ("config show brisk-heron --config a.toml", "RUN and --config"),
        ("config show --explain --origin", "--explain and --origin"),
        ("set brisk-heron a=b --undo", "--undo and KEY"),
        ("stop brisk-heron --after epoch --cancel", "--after and --cancel"),
        ("queue add brisk-heron --from brisk-heron", "RUN and --from"),
    ],
)
def test_mutually_exclusive_options_are_rejected_with_one_message(
    arguments: str, words: str, capsys: Captured
) -> None:
    create_run(RunConfig(), "brisk-heron")
    assert run(arguments.split()) == 2
    err = capsys.readouterr().err
    assert f"{words} are mutually exclusive" in err
    assert "use one of them" in err


@pytest.mark.parametrize(
    "arguments", ["pin brisk-heron@", "sample brisk-heron@ The", "train --from brisk-heron@"]
)
def test_an_at_sign_without_a_checkpoint_is_rejected_with_the_choices(
    arguments: str, capsys: Captured
) -> None:
    create_run(RunConfig(), "brisk-heron")
    assert run(arguments.split()) == 2
    err = capsys.readouterr().err
    assert '"brisk-heron@" has no checkpoint after the @' in err
    assert "use brisk-heron@best, @last or @STEP" in err
