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


def done(**changes: object) -> SampleDone:
    """The end of a sample of 42 tokens."""
    values: dict[str, object] = {
        "id": "1", "reason": "length", "text": " is", "tokens": 42, "prompt_tokens": 5,
        "seconds": 0.058, "first_token_seconds": 0.038, "bits_per_token": 4.12,
    }  # fmt: skip
    return SampleDone.model_validate({**values, **changes})


def ended(*ends: SampleDone, seed: int = 7, most: int = 100) -> Drawing:
    """A request for so many samples from step 3,700, after its end."""
    settings = SamplingConfig(max_new_tokens=most, seed=seed)
    found = Drawing(Sample("We", settings, Weights("run", "/c", 3_700)), max(1, len(ends)))
    found.where, found.asked, found.over = "step 3,700", True, bool(ends)
    for end in ends:
        found.take(end)
    return found


LARGEST = 2**63 - 1
SLOW = {"first_token_seconds": 1.234, "seconds": 3.0}
STATUSES = (
    (
        ended(done(reason="cancelled", text="", tokens=0, bits_per_token=math.nan)),
        "■ 0 of 100 tokens, stopped   – tok/s   first token 38 ms   seed 7",
        "",
    ),
    (
        ended(*(done(sample=place, bits_per_token=place) for place in range(3)), seed=LARGEST - 1),
        f"✓ 3 samples   126 of 300 tokens   6,150 tok/s   first token 38 ms   1.0 bits/token"
        f"   seeds {LARGEST - 1}–0",
        f"42 tokens · seed {LARGEST - 1} · step 3,700",
    ),
    (
        ended(done(reason="stop", stop="a\x1b\n" + "x" * 100, **SLOW)),
        f'✓ 42 tokens, stopped at "a␛\\n{"x" * 15}…"   23 tok/s   first token 1,234 ms'
        "   4.1 bits/token   seed 7",
        f'42 tokens · seed 7 · step 3,700 · stopped at "a␛\\n{"x" * 15}…"',
    ),
    (
        ended(done(unknown=("We", "a\x1bb"))),
        "✓ 42 of 100 tokens   no token for We, a␛b, read as <unk>   4.1 bits/token   seed 7",
        "42 tokens · seed 7 · step 3,700",
    ),
)
"""Ended requests, the line below them, and that of their first text."""


def test_the_line_below_a_sample_has_its_figures_the_most_important_where_it_is_narrow() -> None:
    for found, line, meta in STATUSES:
        assert found.status(200).plain == line
        assert found.samples[0].meta == meta
        assert (found.finished() == []) == (meta == "")
        assert found.status().cell_length <= NARROW_CELLS
    for tokens, reason in ((42, "cancelled"), (4_000, "length")):
        found = ended(done(reason=reason, tokens=tokens, bits_per_token=14.1, **SLOW), most=4_096)
        assert found.status().plain.endswith("14.1 bits/token")
