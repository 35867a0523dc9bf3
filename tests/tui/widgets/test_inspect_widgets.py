"""The widgets of Inspect: text in colours, alternatives, the map of states."""

from __future__ import annotations

import base64
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rich.style import Style
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from rnnlm_tui.schema.sampling import Alternative, Alternatives, StateMap
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import cells_of
from rnnlm_tui.tui.views.inspect import LayerStates
from rnnlm_tui.tui.widgets.alternatives import AlternativesList
from rnnlm_tui.tui.widgets.heat_strip import HORIZON, HeatStrip
from rnnlm_tui.tui.widgets.panel import Panel
from rnnlm_tui.tui.widgets.state_map import StateMapPanel, UnitList, UnitStrip


class One(App[None]):
    """An app with one panel."""

    def __init__(self, panel: Panel, *, ascii_only: bool = False) -> None:
        super().__init__()
        self.panel, self.ascii_only = panel, ascii_only
        self.chosen: list[Alternative | None] = []
        self.pointed: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.panel

    def on_alternatives_list_chosen(self, event: AlternativesList.Chosen) -> None:
        self.chosen.append(event.alternative)

    def on_token_strip_pointed(self, event: HeatStrip.Pointed) -> None:
        self.pointed.append(event.token)

    def on_state_map_panel_pointed(self, event: StateMapPanel.Pointed) -> None:
        self.pointed.append(event.token)


@asynccontextmanager
async def showing(
    panel: Panel, size: tuple[int, int] = (40, 10), *, ascii_only: bool = False
) -> AsyncIterator[tuple[One, Pilot[None]]]:
    """An app with the panel."""
    app = One(panel, ascii_only=ascii_only)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


def rows(app: App[None]) -> list[str]:
    """The screen's lines."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


def style_at(app: App[None], x: int, y: int) -> Style:
    """The style of a cell."""
    style = cells_of(app.screen._compositor.render_strips()[y])[x][1]
    assert style is not None
    return style


def background(style: Style) -> str | None:
    """A style's background."""
    return style.bgcolor.triplet.hex if style.bgcolor and style.bgcolor.triplet else None


async def test_each_step_of_surprise_has_its_colour_and_its_bar() -> None:
    strip = HeatStrip()
    bits = (None, 0.5, 2.0, 4.0, 5.5, 6.9, 12.0)
    strip.show(("a", " b", " c", " d", " e", " f", " g"), bits, 1)
    async with showing(strip) as (app, _):
        assert rows(app)[1].startswith("│ a b c d e f g…")
        assert rows(app)[2].startswith("│   ▁ ▂ ▄ ▅ ▆ ▇")
        found = [background(style_at(app, 2 + 2 * at, 1)) for at in range(7)]
        plain = palette.BACKGROUND
        assert found[0] == palette.FOCUS
        assert found[1] in (None, plain, app.panel.styles.background.hex.lower(), "#000000")
        assert found[2:] == list(palette.SURPRISE)
        assert style_at(app, 14, 1).color.triplet.hex == palette.BACKGROUND  # type: ignore[union-attr]


async def test_in_ascii_digits_stand_below_the_start_of_each_token() -> None:
    strip = HeatStrip()
    strip.show(("a", " great", "ness"), (None, 7.4, 12.0), 1)
    async with showing(strip, ascii_only=True) as (app, _):
        assert rows(app)[2].startswith("│   7    9")


async def test_the_horizon_is_marked_before_the_token_that_lies_behind_it() -> None:
    strip = HeatStrip()
    strip.show([" w"] * (HORIZON + 4), [1.0] * (HORIZON + 4), 0)
    async with showing(strip, (80, 8)) as (app, _):
        text = rows(app)
        column = text[1].index("╎")
        assert text[1][:column].count("w") == HORIZON
        assert text[2][column] == "╎"
        assert "╎ 30 tokens" in text[-1]
    strip = HeatStrip()
    strip.show(["w"] * (HORIZON + 4), [1.0] * (HORIZON + 4), 0)
    async with showing(strip, (80, 8)) as (app, _):
        assert style_at(app, 2 + HORIZON, 1).underline
        assert not style_at(app, 1 + HORIZON, 1).underline


async def test_the_text_scrolls_with_the_cursor_and_says_what_is_hidden() -> None:
    strip = HeatStrip()
    texts = [f" word{at:04}" for at in range(10_000)]
    strip.show(texts, [3.0] * len(texts), 0)
    async with showing(strip, (80, 12)) as (app, pilot):
        assert "more" in rows(app)[-1]
        strip.move_to(5_000)
        await pilot.pause()
        assert any("word5000" in row for row in rows(app))
        assert "↑" in rows(app)[-1]
        strip.move_to(strip.vertical(1))
        strip.move_to(99_999)
        await pilot.pause()
        assert strip.cursor == 10_000
        assert any("word9999" in row for row in rows(app))


async def test_a_cursor_in_view_redraws_only_the_lines_that_it_leaves_and_enters() -> None:
    strip = HeatStrip()
    texts = [f" word{at:02}" for at in range(40)]
    strip.show(texts, [3.0] * 40, 0)
    async with showing(strip, (60, 20)) as (_, pilot):
        drawn: list[Region] = []
        refresh = strip.refresh

        def record(*regions: Region, **options: bool) -> HeatStrip:
            drawn.extend(regions)
            return refresh(*regions, **options)

        strip.refresh = record  # type: ignore[method-assign]
        strip.move_to(1)
        await pilot.pause()
        assert {region.y for region in drawn} <= {1, 2}


async def test_a_click_points_at_a_token() -> None:
    strip = HeatStrip()
    strip.show(("one", " two", " three"), (None, 1.0, 1.0), 1)
    async with showing(strip) as (app, pilot):
        await pilot.click(HeatStrip, offset=(7, 1))
        assert app.pointed == [1]


def alternatives(taken_rank: int = 21) -> Alternatives:
    """Ten alternatives and the taken token."""
    found = [
        Alternative(token=at, text=f" word{at}", rank=at, probability=0.5**at, filtered=0.6**at)
        for at in range(1, 11)
    ]
    found[9] = found[9].model_copy(update={"removed_by": "typical-p", "filtered": 0.0})
    taken = Alternative(
        token=99, text=" [b]taken", rank=taken_rank, probability=0.0001, filtered=0.0002
    )
    if taken_rank <= 10:
        taken = found[taken_rank - 1]
    return Alternatives(
        id="1", position=4, rows=tuple(found), taken=taken, entropy=3.0, filtered_entropy=2.0,
        vocab_size=100,
    )  # fmt: skip


@pytest.mark.parametrize("width", [40, 48, 60, 80])
async def test_all_rows_end_in_the_same_columns_at_every_width(width: int) -> None:
    panel = AlternativesList()
    panel.show(alternatives())
    async with showing(panel, (width, 16)) as (app, _):
        lines = rows(app)[1:12]
        assert {len(line) for line in lines} == {width}
        assert "typical-p" in lines[9]
        assert "21" in lines[10]
        assert "[b]" in lines[10] or width < 48
        if width >= 48:
            assert "after bits" in rows(app)[0]
            assert all(line.endswith(f"{bits:>4} │") for line, bits in zip(
                lines, [f"{at}.0" for at in range(1, 11)], strict=False
            ))  # fmt: skip


async def test_a_taken_token_among_the_alternatives_has_no_second_row() -> None:
    panel = AlternativesList()
    panel.show(alternatives(3))
    assert len(panel.rows) == 10


async def test_the_list_scrolls_to_the_selected_row_and_the_last_one_types_a_token() -> None:
    panel = AlternativesList()
    panel.show(alternatives())
    async with showing(panel, (48, 9)) as (app, pilot):
        panel.focus()
        await pilot.press("down", "enter", "end")
        await pilot.pause()
        assert any("type a token" in row for row in rows(app))
        await pilot.press("enter", "up", "enter")
        chosen = [row.token if row is not None else None for row in app.chosen]
        assert chosen == [2, None, 99]


async def test_without_alternatives_a_sentence_is_wrapped() -> None:
    panel = AlternativesList()
    async with showing(panel, (40, 9)) as (app, pilot):
        panel.show_words("the checkpoint is gone. choose another one with ^k", trouble=True)
        await pilot.pause()
        assert rows(app)[1].startswith("│  ✗ the checkpoint is gone. choose")
        assert rows(app)[2].startswith("│    another one")
        panel.focus()
        await pilot.press("down", "enter")
        assert app.chosen == []


def layer(units: int = 6, tokens: int = 5, **changes: object) -> LayerStates:
    """Units that rise from -127 to 127 with the tokens, and every second one falls."""
    sweep = [round(-127 + 254 * at / max(1, tokens - 1)) for at in range(tokens)]
    data = bytes(
        value % 256 for unit in range(units) for value in (sweep if unit % 2 == 0 else sweep[::-1])
    )
    return LayerStates.of(
        StateMap.model_validate(
            {
                "id": "1",
                "layer": 1,
                "num_layers": 2,
                "units": tuple(range(units)),
                "tokens": tokens,
                "values": base64.b64encode(data).decode(),
                "scale": 1.0,
                "memory": (3.0,) * units,
                "saturated": (0.25,) * tokens,
                "norm": (2.0,) * tokens,
                "change": (0.5,) * tokens,
                **changes,
            }
        )
    )


TEXTS = ("a", " b", " c", " d", " e")


async def test_two_units_share_a_row_of_half_blocks() -> None:
    panel = StateMapPanel()
    panel.show(layer(), TEXTS, "longest memory first")
    async with showing(panel, (80, 12)) as (app, _):
        assert rows(app)[1].startswith("│   1 ▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀")
        first, last = style_at(app, 6, 1), style_at(app, 6 + 16, 1)
        assert first.color.triplet.hex == palette.DIVERGING[0]  # type: ignore[union-attr]
        assert background(first) == palette.DIVERGING[-1]
        assert last.color.triplet.hex == palette.DIVERGING[-1]  # type: ignore[union-attr]
        assert background(last) == palette.DIVERGING[0]
        assert "6 of 6 units, longest memory first" in rows(app)[0]
        text = "\n".join(rows(app))
        for words in ("at token 1", "saturated 25 %", "|Δh| 0.50", "norm 2.00", "u0 3.0 tok"):
            assert words in text


async def test_the_map_of_a_cell_without_tanh_says_nothing_of_saturation() -> None:
    panel = StateMapPanel()
    panel.show(layer(saturated=()), TEXTS, "")
    async with showing(panel, (80, 12)) as (app, _):
        text = "\n".join(rows(app))
        assert "norm 2.00" in text
        assert "saturated" not in text


async def test_an_odd_last_unit_has_nothing_below_it() -> None:
    panel = StateMapPanel()
    panel.show(layer(1), TEXTS, "")
    async with showing(panel, (80, 12)) as (app, _):
        assert background(style_at(app, 6, 1)) == palette.BACKGROUND


async def test_in_ascii_values_are_letters_below_zero_and_digits_above() -> None:
    panel = StateMapPanel()
    panel.show(layer(2), TEXTS, "")
    async with showing(panel, (80, 12), ascii_only=True) as (app, _):
        assert rows(app)[1].split("│")[1][:25] == "   1 d   b   .   2   4   "
        assert rows(app)[2].split("│")[1][5:25] == "4   2   .   b   d   "


async def test_gates_are_lines_of_means_with_their_values_at_the_cursor() -> None:
    panel = StateMapPanel()
    gates = {"input": (0.0, 0.25, 0.5, 0.75, 1.0), "forget": (1.0,) * 5}
    panel.show(layer(2, gates=gates), TEXTS, "")
    panel.point(1, 0)
    async with showing(panel, (80, 14)) as (app, _):
        lines = rows(app)
        assert any(line.startswith("│ in  ▁▁▁▁▃▃▃▃▅▅▅▅▆▆▆▆████") for line in lines)
        assert any("in 0.25  fgt 1.00" in line for line in lines)


async def test_a_long_text_scrolls_with_the_cursor_and_has_ticks() -> None:
    panel = StateMapPanel()
    tokens = 1_000
    panel.show(layer(4, tokens), tuple(f" w{at}" for at in range(tokens)), "")
    async with showing(panel, (80, 12)) as (app, pilot):
        assert "▲  w0    10        20" in rows(app)[-2]
        panel.point(700, 0)
        await pilot.pause()
        assert "▲" in rows(app)[-2]
        assert "w700" in rows(app)[-2]
        assert len(rows(app)[1]) == 80
        panel.point(1_000, 0)
        await pilot.pause()
        assert "1000" not in rows(app)[1]


async def test_more_units_than_rows_are_scrolled_by_pages() -> None:
    panel = StateMapPanel()
    panel.show(layer(100), TEXTS, "by number")
    async with showing(panel, (80, 12)) as (app, pilot):
        assert "18 of 100 units" in rows(app)[0]
        assert panel.scroll_units(1)
        await pilot.pause()
        assert "19–36 of 100 units" in rows(app)[0]
        assert panel.scroll_units(99)
        assert not panel.scroll_units(1)
        panel.point(0, 50)
        await pilot.pause()
        assert any("›" in row for row in rows(app))


async def test_a_click_on_the_map_points_at_a_token() -> None:
    panel = StateMapPanel()
    panel.show(layer(), TEXTS, "")
    async with showing(panel, (80, 12)) as (app, pilot):
        await pilot.click(StateMapPanel, offset=(6 + 9, 2))
        assert app.pointed == [2]


async def test_a_followed_unit_colours_the_text() -> None:
    strip = UnitStrip()
    states = layer(1)
    strip.show(TEXTS, states.row(0), 1.0, 1)
    async with showing(strip, (60, 8)) as (app, _):
        strip.move_to(4)
        assert rows(app)[2].startswith("│ ▁ ▃ ▅ ▆ █")
        assert background(style_at(app, 4, 1)) == palette.DIVERGING[2]
        assert "−1.00" in rows(app)[-1]
        assert "+1.00" in rows(app)[-1]


async def test_the_ranking_shows_match_and_memory() -> None:
    panel = UnitList()
    panel.show(layer(30, match=tuple(1 - at / 30 for at in range(30))), 20)
    async with showing(panel, (30, 10)) as (app, pilot):
        assert any(row.startswith("│›u20     0.33    3.0 tok") for row in rows(app)) or any(
            "›u20" in row and "0.33" in row for row in rows(app)
        )
        panel.show(None, 0)
        await pilot.pause()
        assert "u20" not in "\n".join(rows(app))


async def test_sizes_from_nothing_to_large_draw_without_an_error() -> None:
    panels: list[Panel] = [
        HeatStrip(),
        AlternativesList(),
        StateMapPanel(),
        UnitStrip(),
        UnitList(),
    ]
    for panel in panels:
        match panel:
            case HeatStrip():
                panel.show([" w"] * 50, [math.inf, None, *[3.0] * 48], 3)
            case AlternativesList():
                panel.show(alternatives())
            case StateMapPanel():
                panel.show(layer(9, gates={"update": (0.5,) * 5}), TEXTS, "by number")
            case UnitStrip():
                panel.show(TEXTS, [0] * 5, 0.0, 1)
            case UnitList():
                panel.show(layer(9), 8)
        async with showing(panel, (2, 2)) as (_, pilot):
            for size in ((1, 1), (5, 3), (12, 4), (30, 5), (200, 60)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
