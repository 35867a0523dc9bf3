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
from rnnlm_tui.schema.validation import field_paths
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.paths import queue_dir, queue_file, runs_dir
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.trash import delete_run
from rnnlm_tui.system.locks import RunLock
from tests.unit.store.rows import write_model
from tests.unit.store.test_states import keep


def answer_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `rnnlm-tui doctor` raise."""

    def fail() -> None:
        raise error

    def load(self: Verb) -> object:
        return fail

    monkeypatch.setattr(app.Verb, "load", load)


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
    capsys: pytest.CaptureFixture[str],
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
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_version_and_help_exit_with_success(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"rnnlm-tui {__version__}\n"
    assert run(["--help"]) == 0
    assert run(["-h"]) == 0
    assert run(["--ascii", "--version"]) == 0


def test_a_misspelled_verb_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    run(["shwo"])
    assert "Did you mean 'show'" in capsys.readouterr().err


def test_help_lists_every_verb_under_its_family_with_the_exit_codes(
    capsys: pytest.CaptureFixture[str],
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
def test_help_lists_the_guarantees(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
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
def test_a_group_without_a_verb_does_what_its_first_verb_does(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--json"]):
        assert run([*verb.split(), *options]) == 0
        shown = capsys.readouterr().out
        assert run([verb.partition(" ")[0], *options]) == 0
        assert capsys.readouterr().out == shown


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_its_own_help_with_arguments_as_typed(
    verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
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
def test_help_names_every_preset(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([*verb.split(), "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert ", ".join(PRESETS) in out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rnnlm-tui sho", {"show"}),
        ("rnnlm-tui show bri", {"brisk-heron"}),
        ("rnnlm-tui train --preset ", set(PRESETS)),
        ("rnnlm-tui train --set training.batch", {"training.batch_size="}),
        (
            "rnnlm-tui estimate --set model.",
            {f"{path}=" for path in field_paths() if path.startswith("model.")},
        ),
        ("rnnlm-tui set brisk-heron optimizer.l", {"optimizer.learning_rate="}),
        (
            "rnnlm-tui pin brisk-heron@",
            {"brisk-heron@best", "brisk-heron@last", "brisk-heron@20", "brisk-heron@40"},
        ),
        ("rnnlm-tui unpin brisk-heron@4", {"brisk-heron@40"}),
        ("rnnlm-tui pin brisk-heron@4 brisk-heron@2", {"brisk-heron@20"}),
        ("rnnlm-tui pin bri", {"brisk-heron"}),
        (
            "rnnlm-tui sample brisk-heron@",
            {"brisk-heron@best", "brisk-heron@last", "brisk-heron@20", "brisk-heron@40"},
        ),
        ("rnnlm-tui sample busy-wren@", {"busy-wren@now"}),
        ("rnnlm-tui score busy-wren@n", {"busy-wren@now"}),
        (
            "rnnlm-tui train --set model.cell_type=min",
            {"model.cell_type=mingru", "model.cell_type=minlstm"},
        ),
        ("rnnlm-tui train --set nothing=", set()),
        ("rnnlm-tui train --from brisk-heron@b", {"brisk-heron@best"}),
        ("rnnlm-tui pin nothing-like-it@", set()),
        ("rnnlm-tui config pre", {"presets"}),
        ("rnnlm-tui docs re", {"reliability"}),
        ("rnnlm-tui restore go", {"gone-crane"}),
        ("rnnlm-tui runs --sort embedding_dim", {"embedding_dim"}),
        ("rnnlm-tui state show in", {"intro"}),
        ("rnnlm-tui sample brisk-heron x --state ", {"intro", "outro"}),
        ("rnnlm-tui state ", {"list", "keep", "show", "delete"}),
    ],
)
def test_the_shell_completes_verbs_runs_and_presets(
    line: str, words: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = create_run(RunConfig(), "brisk-heron")
    busy = create_run(RunConfig(), "busy-wren")
    for _ in range(2):
        delete_run(create_run(RunConfig(), "gone-crane"))
    for name in ("intro", "outro"):
        keep(name)
    for step in (20, 40):
        write_checkpoint(directory, step, write_model, None, {"validation_loss": 4.0})
    monkeypatch.setenv("_RNNLM_TUI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    with RunLock(busy.lock_path):
        assert run([]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(words)


@pytest.mark.faults
@pytest.mark.parametrize("words", ["queue move ", "queue remove b", "restore gone@", "show b"])
def test_a_completion_that_cant_read_the_home_prints_nothing(
    words: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue_dir().mkdir(parents=True)
    queue_file().write_text("damaged")
    runs_dir().write_text("a file")
    monkeypatch.setenv("_RNNLM_TUI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"rnnlm-tui {words}")
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ") + 1))
    assert run([]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() + printed.err == ""


@pytest.mark.parametrize(
    ("words", "at", "found"),
    [
        ("rnnlm-tui\npin\nbrisk-heron\n@", 3, {"@best", "@last", "@20"}),
        ("rnnlm-tui\npin\nbrisk-heron\n@\nb", 4, {"@best"}),
        ("rnnlm-tui\nsample\nbrisk-heron\n@\nl\nThe", 4, {"@last"}),
        ("rnnlm-tui\ntrain\n--set\nmodel.cell_type\n=", 4, set(get_args(CellType))),
        ("rnnlm-tui\ntrain\n--set\nmodel.cell_type\n=\nelm", 5, {"elman"}),
        ("rnnlm-tui\ntrain\n--set\nmodel.cell_ty\n--follow", 3, {"model.cell_type="}),
        ("rnnlm-tui\nunpin\nbrisk-heron\n@\n20\nbri", 5, {"brisk-heron"}),
        ("rnnlm-tui\ntrain\n--from\nbrisk-heron\n@\n2", 5, {"@20"}),
    ],
)
def test_bash_which_splits_words_completes_checkpoints_and_values(
    words: str,
    at: int,
    found: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_checkpoint(
        create_run(RunConfig(), "brisk-heron"), 20, write_model, None, {"validation_loss": 4.0}
    )
    monkeypatch.setenv("_RNNLM_TUI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(at))
    monkeypatch.setenv(BASH_SPLIT, "1")
    monkeypatch.delenv(BASH_SPLIT)  # and after the test, which may set it
    assert run([]) == 0
    assert set(capsys.readouterr().out.split()) == found


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
        (["train", "--follow", "--draft"], "--follow and --draft are mutually exclusive"),
        (
            ["train", "--follow", "--detach", "--draft"],
            "--follow, --detach and --draft are mutually exclusive",
        ),
        (
            ["train", "--preset", "demo", "--from", "brisk-heron"],
            "--preset and --from are mutually exclusive",
        ),
        (
            ["resume", "brisk-heron", "--follow", "--detach"],
            "--follow and --detach are mutually exclusive",
        ),
        (["show", "brisk-heron", "--watch", "--once"], "--watch and --once are mutually exclusive"),
        (["metrics", "brisk-heron", "--csv", "--json"], "--csv and --json are mutually exclusive"),
        (["purge", "brisk-heron", "--all"], "NAME and --all are mutually exclusive"),
        (["corpus", "remove", "elman", "--unused"], "CORPUS and --unused are mutually exclusive"),
        (
            ["config", "show", "brisk-heron", "--preset", "demo"],
            "RUN and --preset are mutually exclusive",
        ),
        (
            ["config", "show", "brisk-heron", "--config", "a.toml"],
            "RUN and --config are mutually exclusive",
        ),
    ],
    ids=str,
)
def test_mutually_exclusive_options_are_rejected_with_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(RunConfig(), "brisk-heron")
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "use one of them" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["pin", "brisk-heron@"],
        ["sample", "brisk-heron@", "The"],
        ["train", "--from", "brisk-heron@"],
    ],
    ids=" ".join,
)
def test_an_at_sign_without_a_checkpoint_is_rejected_with_the_choices(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(RunConfig(), "brisk-heron")
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert '"brisk-heron@" has no checkpoint after the @' in err
    assert "use brisk-heron@best, @last or @STEP" in err
