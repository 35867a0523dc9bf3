"""What the side-by-side pane shows, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import NOTHING, counted, safe
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.sample_grid import Grid
from rnnlm_tui.tui.views.side_facts import facts, score_words
from rnnlm_tui.tui.views.text_differences import ScoredSpan, largest, totals
from rnnlm_tui.tui.views.versus import Side, SideBySide

MOST_EXPORTED = 100
"""Differences in an export."""


def texts_markdown(found: SideBySide) -> str:
    """Return the texts of all sides, round by round from the newest, and the facts."""
    parts = ["# Side by side", _sides(found.sides)]
    lines = facts(found, range(len(found.sides)))
    if lines:
        by_bytes = not found.one_tokenizer
        unit = "bits/byte" if by_bytes else "bits/token"
        parts.append("## Same and different")
        parts.append(
            _table(
                ["", *(LETTERS[place] for place in range(len(found.sides)))],
                [
                    [line.label, *_by_side(line.values, len(found.sides))]
                    for line in lines
                    if "scores" not in line.label and unit not in line.label
                ],
            )
        )
        parts.append(
            _table(
                [unit, *(f"text of {LETTERS[place]}" for place in range(len(found.sides)))],
                [
                    [
                        f"{LETTERS[scorer]} scores",
                        *(
                            (
                                text is not None
                                and score_words(text.scores.get(scorer), by_bytes=by_bytes)
                            )
                            or NOTHING
                            for text in map(found.text, range(len(found.sides)))
                        ),
                    ]
                    for scorer in range(len(found.sides))
                ],
            )
        )
    for asked in reversed(found.rounds):
        parts.append(f"## {_one_line(asked.prompt) or 'No prompt'}")
        parts.append(_settings(asked.settings, asked.start))
        for place in range(len(found.sides)):
            text = found.text(place, asked)
            if text is None:
                continue
            parts.append(f"### {LETTERS[place]}")
            parts.append(_block(asked.prompt + text.text) if not text.error else text.error)
    return "\n\n".join(parts) + "\n"


def differences_markdown(
    sides: Sequence[Side], pair: tuple[int, int], spans: Sequence[ScoredSpan]
) -> str:
    """Return one text scored by two sides: the sums, and the largest differences."""
    a, b = pair
    sums = totals(spans)
    rows = [
        [
            f"`{_cell(spans[index].text)}`",
            *(
                NOTHING if bits is None else f"{bits:.2f}"
                for bits in (spans[index].a, spans[index].b)
            ),
            f"{spans[index].difference:+.2f}",
            LETTERS[a if spans[index].difference < 0 else b],
        ]
        for index in largest(spans, MOST_EXPORTED)
    ]
    heads = ["token", f"{LETTERS[a]} bits", f"{LETTERS[b]} bits", "difference", "better"]
    size = max(1, sums.pieces)
    return (
        "\n\n".join(
            [
                "# Difference of surprise",
                _sides([sides[a], sides[b]], (a, b)),
                _table(
                    ["", LETTERS[a], LETTERS[b]],
                    [
                        ["bits", f"{sums.a:.1f}", f"{sums.b:.1f}"],
                        ["bits/token", f"{sums.a / size:.2f}", f"{sums.b / size:.2f}"],
                        ["better", f"{sums.better_a:,}", f"{sums.better_b:,}"],
                    ],
                ),
                f"{counted(sums.pieces, 'token')} in all.",
                _block("".join(span.text for span in spans)),
                "## Largest differences",
                _table(heads, rows),
            ]
        )
        + "\n"
    )


def grid_markdown(grid: Grid) -> str:
    """Return the grid, a section per checkpoint and temperature."""
    parts = ["# Checkpoint × temperature", _sides(grid.sides), _block(grid.prompt)]
    for row, cells in enumerate(grid.cells):
        parts.append(f"## {LETTERS[row]} {_one_line(grid.sides[row].label())}")
        for temperature, cell in zip(grid.columns, cells, strict=True):
            parts.append(f"### temperature {temperature:g}")
            parts.append(_block(cell.text) if not cell.error else cell.error)
    return "\n\n".join(parts) + "\n"


def _sides(sides: Sequence[Side], places: Sequence[int] | None = None) -> str:
    rows = []
    for place, side in zip(places or range(len(sides)), sides, strict=False):
        loss = side.row.validation_loss if side.row is not None else None
        ppl = NOTHING if loss is None else formatting.figure(perplexity(loss))
        step = "now" if side.row is None else f"{side.row.step:,}"
        rows.append([LETTERS[place], _cell(side.run.name), step, side.mark.strip("@"), ppl])
    return _table(["side", "run", "step", "checkpoint", "val ppl"], rows)


def _by_side(values: Iterable[tuple[int | None, object]], count: int) -> list[str]:
    cells = [""] * count
    for place, value in values:
        cells[place or 0] = _cell(str(value))
    return cells


def _settings(settings: SamplingConfig, start: str) -> str:
    found = [_settings_words(settings), f"from state {safe(Path(start).stem)}" if start else ""]
    return " · ".join(filter(None, found))


def _settings_words(settings: SamplingConfig) -> str:
    values = settings.model_dump(mode="json", exclude_defaults=False)
    shown = {**values, "stop": ", ".join(formatting.escaped(stop) for stop in settings.stop)}
    kept = ("temperature", "top_p", "top_k", "min_p", "max_new_tokens", "seed", "stop")
    if settings.is_greedy:
        return "greedy"
    return " · ".join(
        f"{SamplingConfig.model_fields[name].title} {shown[name]}"
        for name in kept
        if shown[name] not in ("", 0)
    )


def _one_line(text: str) -> str:
    return " ".join(safe(text, keep="").split())


def _cell(text: str) -> str:
    return safe(text.replace("\n", "↵").replace("\t", " "), keep="").replace("|", "\\|")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _block(text: str) -> str:
    """Return a text as a fenced block, whose fence is longer than any in the text."""
    shown, fence = safe(text, keep="\n\t"), "```"
    while fence in shown:
        fence += "`"
    return f"{fence}text\n{shown}\n{fence}"
