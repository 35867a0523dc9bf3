"""The parts of the prompt pane that need no screen."""

from __future__ import annotations

import random
from collections.abc import Callable

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
    Drawing,
    PromptHistory,
)
from rnnlm_tui.tui.views.sample_tree import Sample, Weights
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


def drawing(count: int = 1, clock: Callable[[], float] = lambda: 0.0, **changes: int) -> Drawing:
    """A request for samples, 100 tokens each, from step 3,700."""
    settings = SamplingConfig().model_copy(update={"max_new_tokens": 100, **changes})
    found = Drawing(Sample("We", settings, Weights("run", "/c", 3_700)), count, clock=clock)
    found.where, found.asked = "step 3,700", True
    return found


def done(**changes: object) -> SampleDone:
    """The end of a sample of 42 tokens."""
    values: dict[str, object] = {
        "id": "1", "reason": "length", "text": " is", "tokens": 42, "prompt_tokens": 5,
        "seconds": 0.058, "first_token_seconds": 0.038, "bits_per_token": 4.12,
    }  # fmt: skip
    return SampleDone.model_validate({**values, **changes})


def ended(found: Drawing, *ends: SampleDone) -> Drawing:
    """The request after these ends."""
    for end in ends:
        found.take(end)
    found.over = True
    return found


def test_the_line_below_a_sample_has_its_tokens_speed_and_time_to_first_token() -> None:
    clock = iter((0.0, 1.0, 1.038, 2.038))
    found = drawing(clock=lambda: next(clock))
    assert found.status().plain == "● loading the model …"
    found.take(SamplePiece(id="1", text=" is", tokens=42))
    assert found.status().plain == "● 42 of 100 tokens   42 tok/s   first token 1,038 ms   seed 7"
    assert found.samples[0].whole == "We is"
    assert (
        ended(found, done(reason="cancelled")).status(120).plain
        == "■ 42 of 100 tokens, stopped   2,050 tok/s   first token 38 ms   4.1 bits/token   seed 7"
    )
    (sample,) = found.finished()
    assert sample.meta == "42 tokens · seed 7 · step 3,700 · stopped"


def test_a_sample_without_a_token_leaves_no_text() -> None:
    end = done(reason="cancelled", text="", tokens=0, bits_per_token=float("nan"))
    found = ended(drawing(), end)
    assert found.finished() == []
    assert (
        found.status(120).plain
        == "■ 0 of 100 tokens, stopped   – tok/s   first token 38 ms   seed 7"
    )


def test_several_samples_have_one_line_and_a_seed_each() -> None:
    found = drawing(3, seed=2**63 - 2)
    ended(found, *(done(sample=number, bits_per_token=number) for number in range(3)))
    assert [sample.settings.seed for sample in found.finished()] == [2**63 - 2, 2**63 - 1, 0]
    assert found.status(120).plain.startswith("✓ 3 samples   126 of 300 tokens")
    assert f"1.0 bits/token   seeds {2**63 - 2}–0" in found.status(200).plain


@pytest.mark.parametrize("tokens", [42, 4_000])
@pytest.mark.parametrize("reason", ["cancelled", "length"])
def test_the_line_of_a_sample_fits_80_columns_whole(reason: str, tokens: int) -> None:
    end = done(
        reason=reason, tokens=tokens, seconds=3.0, first_token_seconds=1.234, bits_per_token=14.1
    )
    line = ended(drawing(max_new_tokens=4_096), end).status()
    assert line.cell_length <= 76
    assert line.plain.endswith("14.1 bits/token")


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ({"reason": "stop", "stop": "\n"}, '42 tokens, stopped at "\\n"'),
        ({"reason": "stop", "stop": "a\x1b]0;"}, '42 tokens, stopped at "a␛]0;"'),
        ({"reason": "stop", "stop": "x" * 100}, f'42 tokens, stopped at "{"x" * 19}…"'),
        ({"unknown": ("We", "a\x1bb")}, "42 of 100 tokens   no token for We, a␛b, read as <unk>"),
    ],
)
def test_a_stop_string_and_unknown_words_are_named_and_the_line_fits(
    end: dict[str, object], shown: str
) -> None:
    found = ended(drawing(), done(**end, first_token_seconds=1.234, seconds=3))
    for cells in (NARROW_CELLS, 120):
        line = found.status(cells).plain
        assert line.startswith(f"✓ {shown}")
        assert len(line) <= cells
    if "stop" in end:
        assert found.samples[0].meta == f"42 tokens · seed 7 · step 3,700 · {shown[11:]}"
