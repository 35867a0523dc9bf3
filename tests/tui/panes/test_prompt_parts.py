"""The parts of the prompt pane that need no screen."""

from __future__ import annotations

import math
import random

from rich.cells import cell_len

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone
from rnnlm_tui.tui.text import WrappedText
from rnnlm_tui.tui.views.sample_tree import NARROW_CELLS, Drawing, Sample, Weights


def lines(wrapped: WrappedText) -> list[str]:
    return [wrapped.text[start:end] for start, end in map(wrapped.span, range(len(wrapped)))]


def test_text_wraps_at_words_the_same_however_it_arrives_and_never_beyond_its_width() -> None:
    broken = WrappedText(10, "The Union is averyverylongword\n\nend")
    assert "|".join(lines(broken)) == "The Union|is|averyveryl|ongword||end"
    draw = random.Random(1)
    for _ in range(40):
        text = "".join(draw.choice("ab  c\nxyz漢é") for _ in range(draw.randrange(200)))
        width = draw.randrange(3, 14)
        whole, grown, fitted = WrappedText(width, text), WrappedText(width), WrappedText(40, text)
        while len(grown.text) < len(text):
            at = len(grown.text)
            grown.append(text[at : at + draw.randrange(1, 6)])
        fitted.fit(width)
        assert lines(whole) == lines(grown) == lines(fitted)
        assert all(cell_len(line.rstrip()) <= width for line in lines(whole))
        assert "".join("".join(lines(whole)).split()) == "".join(text.split())


def test_the_line_below_a_sample_says_how_it_ended_as_far_as_there_is_room() -> None:
    stop = f'stopped at "a␛\\n{"x" * 15}…"'
    for changes, words, meta in (
        (
            {"reason": "stop", "stop": "a\x1b\n" + "x" * 100, "seconds": 3.0},
            f"✓ 42 tokens, {stop}   14 tok/s   first token 38 ms   4.1 bits/token   seed 7",
            f"42 tokens · seed 7 · step 3,700 · {stop}",
        ),
        (
            {"unknown": ("We", "a\x1bb")},
            "✓ 42 of 100 tokens   no token for We, a␛b, read as <unk>   4.1 bits/token   seed 7",
            "42 tokens · seed 7 · step 3,700",
        ),
        (
            {"reason": "cancelled", "text": "", "tokens": 0, "bits_per_token": math.nan},
            "■ 0 of 100 tokens, stopped   – tok/s   first token 38 ms   seed 7",
            "",
        ),
    ):
        sample = Sample("We", SamplingConfig(seed=7), Weights("run", "/c", 3_700))
        found = Drawing(sample)
        found.where, found.asked, found.over = "step 3,700", True, True
        values: dict[str, object] = {
            "id": "1", "reason": "length", "text": " is", "tokens": 42, "prompt_tokens": 5,
            "seconds": 0.058, "first_token_seconds": 0.038, "bits_per_token": 4.12,
        }  # fmt: skip
        found.take(SampleDone.model_validate({**values, **changes}))
        assert (found.status(200).plain, found.samples[0].meta) == (words, meta)
        assert (found.finished() == []) == (meta == "")
        assert found.status().cell_length <= NARROW_CELLS
        assert "bits/token" in found.status().plain or not meta
