"""What blocks a draft: its own problems, and what this machine refused, for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rnnlm_tui.client.corpora import Preview
from rnnlm_tui.client.start import check_source
from rnnlm_tui.errors import CorpusError, DeviceError, InputError
from rnnlm_tui.schema.config import CorpusConfig, RunConfig
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.tui.screens.config_check import DraftCheck, Findings, look_up
from rnnlm_tui.tui.views.form import Draft
from tests.tui.fakes import FakeServices, make_estimate
from tests.tui.in_place import take_out

DRAFT = Draft(DEMO, "preset demo")
OTHER = DRAFT.with_value("training.seed", 43)


def found_by(services: FakeServices, config: RunConfig) -> Findings:
    services.install()
    try:
        return look_up(config)
    finally:
        take_out()


FOUND = found_by(FakeServices(), DEMO)


def test_a_table_without_the_column_is_a_problem_of_the_text_field() -> None:
    class Tables(FakeServices):
        def preview(self, config: RunConfig) -> Preview | None:
            raise CorpusError(
                'a.csv has no column "text"',
                hint="its columns: id, body; set corpus.text_field to the one with the text",
            )

    found = found_by(Tables(), DEMO)
    assert found.missing is not None
    assert (found.missing_at, found.missing.message) == (
        "corpus.text_field",
        'a.csv has no column "text"',
    )


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
    check.forget_failure()
    assert paths(check, DRAFT) == []


def test_a_hint_for_the_command_line_names_the_field_here() -> None:
    check = DraftCheck()
    check.start_failed(DEMO, CorpusError("no text", hint="then: --set corpus.source=PATH"))
    check.check(DRAFT, locked=False)
    assert [problem.hint for problem in check.problems] == [
        "then: set the field source to the folder"
    ]


def test_an_error_about_no_field_is_not_a_problem_of_the_draft() -> None:
    check = DraftCheck()
    assert check.start_failed(DEMO, InputError("no such preset")) is None
    assert paths(check, DRAFT) == []


def test_a_missing_text_is_a_problem_unless_the_start_failed_for_another_reason() -> None:
    missing = replace(FOUND, missing=CorpusError("no such file"))
    check, refused = DraftCheck(), DraftCheck()
    check.update(missing)
    assert paths(check, DRAFT) == ["corpus.source"]
    refused.start_failed(DEMO, DeviceError("no cuda here"))
    refused.update(missing)
    assert paths(refused, DRAFT) == ["training.device"]


def test_a_missing_test_text_is_shown_at_its_own_field(
    tmp_path: Path,
) -> None:
    class RealCheck(FakeServices):
        def check_source(self, corpus: CorpusConfig) -> None:
            check_source(corpus)

    draft = DRAFT.with_value("corpus.test_source", str(tmp_path / "no.txt"))
    found, check = found_by(RealCheck(), draft.config()), DraftCheck()
    assert found.missing is not None
    check.update(found)
    assert paths(check, draft) == ["corpus.test_source"]
    assert check.start_failed(draft.config(), found.missing) == "corpus.test_source"
    both = draft.with_value("corpus.source", str(tmp_path / "neither.txt"))
    check.update(found_by(RealCheck(), both.config()))
    assert paths(check, both) == ["corpus.source"]


def test_a_run_too_short_for_its_warm_up_is_found_by_its_own_estimate() -> None:
    check = DraftCheck()
    chosen = DRAFT.with_value("schedule.warmup_steps", 60)
    short = make_estimate(chosen.config(), 10)
    check.update(Findings(OTHER.config(), short, {}, None))
    assert paths(check, chosen) == []
    check.update(replace(FOUND, config=chosen.config(), estimate=short))
    assert paths(check, chosen) == ["schedule.warmup_steps"]
    assert check.blocking == check.problems


def test_a_presets_warm_up_is_shortened_in_a_short_run() -> None:
    services, check = FakeServices(), DraftCheck()
    services.steps = 30
    check.update(found_by(services, DRAFT.config()))
    assert paths(check, DRAFT) == []
    assert check.facts["schedule.warmup_steps"] == "shortened to 3 of 30"


def test_prompts_of_another_text_are_marked() -> None:
    check, own = DraftCheck(), DRAFT.with_value("corpus.source", "my-book.txt")
    for draft, marked in ((DRAFT, False), (own, True)):
        check.update(found_by(FakeServices(), draft.config()))
        assert ("evaluation.prompts" in check.facts) is marked


def test_the_disk_is_read_once_for_each_config() -> None:
    check = DraftCheck()
    assert [check.needs_estimate(config) for config in (DEMO, DEMO, OTHER.config(), DEMO)] == [
        True,
        False,
        True,
        True,
    ]


def test_the_config_of_a_run_has_no_problems() -> None:
    check = DraftCheck()
    check.start_failed(DEMO, DeviceError("no cuda here"))
    check.check(DRAFT.with_value("training.batch_size", 0), locked=True)
    assert check.blocking == check.problems == ()
