"""The parts of the prompt pane that need no screen."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from rich.cells import cell_len

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece
from rnnlm_tui.tui.text import WrappedText
from rnnlm_tui.tui.views.prompt import (
    LAST,
    NARROW_CELLS,
    NOW,
    CheckpointChoice,
    PromptHistory,
    SampleProgress,
)
from tests.tui.panes.fakes import CHECKPOINTS, checkpoint


def lines(wrapped: WrappedText) -> list[str]:
    return [wrapped.text[start:end] for start, end in map(wrapped.span, range(len(wrapped)))]


def test_text_breaks_at_words_and_newlines() -> None:
    text = "The state of the Union is strong, and averyveryverylongwordindeed yes\nnew\n\nend"
    assert lines(WrappedText(20, text)) == [
        "The state of the",
        "Union is strong, and",
        "averyveryverylongwor",
        "dindeed yes",
        "new",
        "",
        "end",
    ]


@pytest.mark.parametrize("seed", range(40))
def test_text_wraps_the_same_however_it_arrives_and_never_beyond_its_width(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("ab  c\nxyz漢é") for _ in range(draw.randrange(200)))
    width = draw.randrange(3, 14)
    whole, grown, fitted = WrappedText(width, text), WrappedText(width), WrappedText(40, text)
    position = 0
    while position < len(text):
        step = draw.randrange(1, 6)
        grown.append(text[position : position + step])
        position += step
    fitted.fit(width)
    assert lines(whole) == lines(grown) == lines(fitted)
    assert all(cell_len(line.rstrip()) <= width for line in lines(whole))
    assert "".join("".join(lines(whole)).split()) == "".join(text.split())


def test_the_history_restores_the_unsent_text() -> None:
    history = PromptHistory()
    history.load(["one", "two"])
    assert history.add("three")
    assert not history.add("three")
    assert not history.add("  ")
    assert [history.older("draft"), history.older(""), history.older(""), history.older("")] == [
        "three",
        "two",
        "one",
        None,
    ]
    assert [history.newer(), history.newer(), history.newer(), history.newer()] == [
        "two",
        "three",
        "draft",
        None,
    ]


def test_an_unsent_text_searches_the_earlier_prompts() -> None:
    history = PromptHistory(["The Union is", "We must", "a union of states", "the end"])
    assert [history.older("union"), history.older(""), history.older("")] == [
        "a union of states",
        "The Union is",
        None,
    ]
    assert [history.newer(), history.newer(), history.newer()] == [
        "a union of states",
        "union",
        None,
    ]
    assert history.older("We must") == "the end", "a sent prompt isn't a search"
    assert PromptHistory(["one"]).older("nowhere") == "one"


def test_the_best_checkpoint_comes_first_then_last_older_and_now() -> None:
    choice = CheckpointChoice.of("run", CHECKPOINTS, None, living=True)
    assert choice.row is not None
    assert choice.row.best
    order, wanted = [], CHECKPOINTS[0].path
    for _ in range(6):
        following = CheckpointChoice.of("run", CHECKPOINTS, wanted, living=True).next()
        assert following is not None
        order.append(following.removeprefix("checkpoints/step-00000"))
        wanted = following
    assert order == ["now", "last", "best", "3000", "2000", "1000"]


def test_last_and_best_follow_the_run_and_a_deleted_checkpoint_is_noticed() -> None:
    later = (*CHECKPOINTS[1:4], checkpoint(4000, 4.2, last=True))
    assert [
        CheckpointChoice.of("run", rows, LAST, living=True).row for rows in (CHECKPOINTS, later)
    ] == [CHECKPOINTS[-1], later[-1]]
    assert not CheckpointChoice.of("run", later, LAST, living=True).gone
    assert (
        CheckpointChoice.of("run", CHECKPOINTS, CHECKPOINTS[0].path, living=True).row
        == CHECKPOINTS[0]
    )
    gone = CheckpointChoice.of("run", later, CHECKPOINTS[0].path, living=True)
    assert gone.gone
    assert gone.row == CHECKPOINTS[3]


def test_an_ended_run_offers_no_current_weights() -> None:
    assert CheckpointChoice.of("run", (), None, living=False).next() is None
    assert not CheckpointChoice.of("run", (), None, living=False).possible
    assert CheckpointChoice.of("run", CHECKPOINTS, NOW, living=False).row is not None
    assert CheckpointChoice.of("run", (), None, living=True).possible


def test_progress_shows_tokens_speed_and_time_to_first_token() -> None:
    clock = iter((0.0, 1.0, 1.038, 2.038))
    progress = SampleProgress(
        SamplingConfig(max_new_tokens=100), where="step 3,700", clock=lambda: next(clock)
    )
    assert progress.living().plain == "● loading the model …"
    progress.take(SamplePiece(id="1", text=" is", tokens=42))
    assert (
        progress.living().plain == "● 42 of 100 tokens   42 tok/s   first token 1,038 ms   seed 7"
    )
    assert (progress.drain(), progress.drain()) == ({0: " is"}, {})
    done = SampleDone(
        id="1",
        reason="cancelled",
        text=" is",
        tokens=42,
        prompt_tokens=5,
        seconds=0.058,
        first_token_seconds=0.038,
        bits_per_token=4.12,
    )
    assert (
        progress.ended([done], 120).plain
        == "■ 42 of 100 tokens, stopped   2,050 tok/s   first token 38 ms   4.1 bits/token   seed 7"
    )
    assert progress.meta(done) == "42 tokens · seed 7 · step 3,700 · stopped"


@pytest.mark.parametrize("tokens", [42, 4_000])
@pytest.mark.parametrize("reason", ["cancelled", "length"])
def test_the_line_of_a_sample_fits_80_columns_whole(
    reason: Literal["cancelled", "length"], tokens: int
) -> None:
    done = SampleDone(
        id="a",
        reason=reason,
        text="",
        tokens=tokens,
        prompt_tokens=1,
        seconds=3.0,
        first_token_seconds=1.234,
        bits_per_token=14.1,
    )
    line = SampleProgress(SamplingConfig(max_new_tokens=4_096), where="step 1").ended([done])
    assert line.cell_length <= 76
    assert line.plain.endswith("14.1 bits/token")


def test_a_stop_string_that_ended_the_text_is_named_and_the_line_fits() -> None:
    progress = SampleProgress(SamplingConfig(max_new_tokens=4_096), where="step 9")
    for stop, shown in (("\n", "\\n"), ("a\x1b]0;", "a␛]0;"), ("x" * 100, "x" * 19 + "…")):
        done = SampleDone(
            id="1",
            reason="stop",
            stop=stop,
            text=" is",
            tokens=4_000,
            prompt_tokens=5,
            seconds=3.0,
            first_token_seconds=1.234,
            bits_per_token=14.1,
        )
        for cells in (NARROW_CELLS, 120):
            line = progress.ended([done], cells).plain
            assert line.startswith(f'✓ 4,000 tokens, stopped at "{shown}"')
            assert len(line) <= cells
        assert progress.meta(done) == f'4,000 tokens · seed 7 · step 9 · stopped at "{shown}"'


def test_unknown_words_are_named() -> None:
    progress = SampleProgress(SamplingConfig(max_new_tokens=100), where="step 9")
    done = SampleDone(
        id="1",
        reason="length",
        text=" is",
        tokens=100,
        prompt_tokens=5,
        seconds=0.058,
        first_token_seconds=0.038,
        bits_per_token=4.1,
        unknown=("We", "a\x1bb"),
    )
    for cells in (NARROW_CELLS, 120):
        line = progress.ended([done], cells).plain
        assert line.startswith("✓ 100 of 100 tokens   no token for We, a␛b, read as <unk>")
        assert len(line) <= cells
