"""What blocks a draft: its own problems, and what this machine refused, for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rnnlm_tui.errors import CorpusError, DeviceError, InputError, Problem
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.tui.screens.config_check import DraftCheck, Findings, look_up
from rnnlm_tui.tui.views.form import Draft

DRAFT = Draft(DEMO, "preset demo")
OTHER = DRAFT.with_value("training.seed", 43)


def paths(check: DraftCheck, draft: Draft) -> list[str]:
    check.check(draft, locked=False)
    return [problem.path for problem in check.problems]


def test_a_refusal_is_shown_only_for_its_config_and_blocks_nothing() -> None:
    check = DraftCheck()
    hint = "then: --set corpus.source=PATH"
    assert check.start_failed(DEMO, CorpusError("no text", hint=hint)) == "corpus.source"
    assert paths(check, DRAFT) == ["corpus.source"]
    assert check.problems[0].hint == "then: set the field source to the folder"
    assert check.start_failed(DEMO, DeviceError("no cuda here")) == "training.device"
    check.update(Findings(DEMO, missing=Problem("corpus.source", "no such file")))
    assert paths(check, DRAFT) == ["training.device"], "it was tried, and failed for this"
    assert check.blocking == ()
    assert paths(check, OTHER) == []
    assert paths(check, DRAFT) == ["training.device"]
    check.check(DRAFT.with_value("training.batch_size", 0), locked=True)
    assert check.blocking == check.problems == (), "the config of a run has no problems"
    check.forget_failure()
    assert paths(check, DRAFT) == []
    assert check.start_failed(DEMO, InputError("no such preset")) is None
    assert paths(check, DRAFT) == []


def test_what_is_missing_is_shown_at_the_field_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,one\n")
    gone = str(tmp_path / "no.txt")
    for changes, at in (
        ({"corpus.test_source": gone}, "corpus.test_source"),
        ({"corpus.test_source": gone, "corpus.source": gone}, "corpus.source"),
        ({"corpus.source": str(tmp_path / "a.csv")}, "corpus.text_field"),
        ({"tokenizer.kind": "pretrained", "tokenizer.name": gone}, "tokenizer.name"),
    ):
        draft, check = replace(DRAFT, changes=changes), DraftCheck()
        found = look_up(draft.config())
        assert found.missing is not None
        check.update(found)
        assert paths(check, draft) == [at]
        error = CorpusError(found.missing.message)
        assert check.start_failed(draft.config(), error) == at, "the start fails for the same"


def test_the_disk_is_read_once_for_each_config_and_its_figures_count_for_that_one(
    tmp_path: Path,
) -> None:
    check = DraftCheck()
    configs = (DEMO, DEMO, OTHER.config(), DEMO)
    assert [check.needs_estimate(config) for config in configs] == [True, False, True, True]
    (tmp_path / "text.txt").write_text("A line of forty characters, or about so.\n" * 500)
    text = {"corpus.source": str(tmp_path / "text.txt"), "tokenizer.kind": "character"}
    short = replace(DRAFT, changes={**text, "schedule.warmup_steps": 6_000})
    found = look_up(short.config())
    check.update(replace(found, config=DEMO))
    assert paths(check, short) == []
    check.update(found)
    assert paths(check, short) == ["schedule.warmup_steps"]
    assert check.blocking == check.problems
