"""What blocks a draft: its own problems, and what this machine refused, for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rnnlm_tui.errors import CorpusError, DeviceError, InputError, Problem
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.tui.screens.config_check import DraftCheck, look_up
from rnnlm_tui.tui.views.form import Draft

DRAFT = Draft(DEMO, "preset demo")
OTHER = DRAFT.with_value("training.seed", 43)


def paths(check: DraftCheck, draft: Draft) -> list[str]:
    check.check(draft, locked=False)
    return [problem.path for problem in check.problems]


def test_a_failed_start_is_shown_only_for_its_config_and_blocks_nothing() -> None:
    check = DraftCheck()
    assert check.start_failed(DEMO, DeviceError("no cuda here")) == "training.device"
    assert paths(check, DRAFT) == ["training.device"]
    assert check.blocking == ()
    assert paths(check, OTHER) == []
    assert paths(check, DRAFT) == ["training.device"]
    check.check(DRAFT.with_value("training.batch_size", 0), locked=True)
    assert check.blocking == check.problems == (), "the config of a run has no problems"
    check.forget_failure()
    assert paths(check, DRAFT) == []
    assert check.start_failed(DEMO, InputError("no such preset")) is None
    assert paths(check, DRAFT) == []


def test_a_hint_for_the_command_line_names_the_field_here() -> None:
    check = DraftCheck()
    check.start_failed(DEMO, CorpusError("no text", hint="then: --set corpus.source=PATH"))
    check.check(DRAFT, locked=False)
    assert [problem.hint for problem in check.problems] == [
        "then: set the field source to the folder"
    ]


def test_a_missing_text_is_a_problem_unless_the_start_failed_for_another_reason() -> None:
    missing = replace(look_up(DEMO), missing=Problem("corpus.source", "no such file"))
    check, refused = DraftCheck(), DraftCheck()
    check.update(missing)
    assert paths(check, DRAFT) == ["corpus.source"]
    refused.start_failed(DEMO, DeviceError("no cuda here"))
    refused.update(missing)
    assert paths(refused, DRAFT) == ["training.device"]


def test_what_is_missing_is_shown_at_the_field_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,one\n")
    gone = str(tmp_path / "no.txt")
    for changes, at in (
        ({"corpus.test_source": gone}, "corpus.test_source"),
        ({"corpus.test_source": gone, "corpus.source": gone}, "corpus.source"),
        ({"corpus.source": str(tmp_path / "a.csv")}, "corpus.text_field"),
        ({"tokenizer.kind": "pretrained", "tokenizer.name": gone}, "tokenizer.name"),
    ):
        draft, check = DRAFT, DraftCheck()
        for path, value in changes.items():
            draft = draft.with_value(path, value)
        found = look_up(draft.config())
        assert found.missing is not None
        check.update(found)
        assert paths(check, draft) == [at]
        error = CorpusError(found.missing.message)
        assert check.start_failed(draft.config(), error) == at, "the start fails for the same"


def test_a_run_too_short_for_its_warm_up_is_found_by_its_own_estimate(tmp_path: Path) -> None:
    """A preset's warm-up is shortened; prompts of another text are marked."""
    text = tmp_path / "text.txt"
    text.write_text("A line of forty characters, or about so.\n" * 500)
    draft = DRAFT.with_value("corpus.source", str(text)).with_value("tokenizer.kind", "character")
    draft = draft.with_value("training.epochs", 1)
    chosen, check = draft.with_value("schedule.warmup_steps", 60), DraftCheck()
    check.update(replace(look_up(chosen.config()), config=DEMO))
    assert paths(check, chosen) == [], "these are the figures of another draft"
    check.update(look_up(chosen.config()))
    assert paths(check, chosen) == ["schedule.warmup_steps"]
    assert check.blocking == check.problems
    check.update(look_up(draft.config()))
    assert paths(check, draft) == []
    assert check.found.facts["schedule.warmup_steps"].startswith("shortened to ")
    assert "evaluation.prompts" in check.found.facts
    check.update(look_up(DEMO))
    assert "evaluation.prompts" not in check.found.facts


def test_the_disk_is_read_once_for_each_config() -> None:
    check = DraftCheck()
    configs = (DEMO, DEMO, OTHER.config(), DEMO)
    assert [check.needs_estimate(config) for config in configs] == [True, False, True, True]
