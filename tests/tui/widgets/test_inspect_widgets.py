"""The widgets of Inspect: text in colours, alternatives, the map of states."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.style import Style
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from rnnlm_tui.schema.sampling import Alternative, Alternatives
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.text import cells_of
from rnnlm_tui.tui.views.inspect import LayerStates, Units
from rnnlm_tui.tui.widgets.alternatives import AlternativesList
from rnnlm_tui.tui.widgets.heat_strip import HORIZON, HeatStrip, TokenPointed
from rnnlm_tui.tui.widgets.panel import Panel
from rnnlm_tui.tui.widgets.state_map import StateMapPanel
from tests.tui.test_inspect_views import states


class OnePanel(App[None]):
    """An app with one panel."""

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self.panel = panel
        self.chosen: list[int | None] = []
        self.pointed: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.panel

    def on_alternatives_list_chosen(self, event: AlternativesList.Chosen) -> None:
        self.chosen.append(event.alternative.token if event.alternative is not None else None)

    def on_token_pointed(self, event: TokenPointed) -> None:
        self.pointed.append(event.token)


@asynccontextmanager
async def showing(
    panel: Panel, size: tuple[int, int]
) -> AsyncIterator[tuple[OnePanel, Pilot[None]]]:
    """An app with the panel."""
    app = OnePanel(panel)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


async def rows(pilot: Pilot[None]) -> list[str]:
    """The screen's lines, once they are drawn."""
    await pilot.pause()
    return [strip.text.rstrip() for strip in pilot.app.screen._compositor.render_strips()]


def style_at(app: App[None], x: int, y: int) -> Style:
    """The style of a cell."""
    style = cells_of(app.screen._compositor.render_strips()[y])[x][1]
    assert style is not None
    return style


def hexes(app: App[None], x: int, y: int) -> tuple[str, str]:
    """Colour and background of a cell."""
    style = style_at(app, x, y)
    found = (style.color, style.bgcolor)
    front, ground = (one.triplet.hex if one and one.triplet else "" for one in found)
    return front, ground


async def test_a_text_marks_the_horizon_scrolls_with_the_cursor_and_takes_clicks() -> None:
    strip = HeatStrip()
    async with showing(strip, size=(80, 11)) as (app, pilot):
        strip.show(("a", " b", " c", " d"), (None, 0.5, 2.0, 4.0), 1)
        await rows(pilot)
        await pilot.click(HeatStrip, offset=(7, 1))
        assert app.pointed == [3], "the space before a word belongs to it"
        for blank in (" ", ""):  # the mark is the space before the token, or its first letter
            strip.show([f"{blank}w"] * (HORIZON + 4), [1.0] * (HORIZON + 4), 0)
            text = await rows(pilot)
            assert "╎ 30 tokens" in text[-1]
            if blank:
                column = text[1].index("╎")
                assert text[1][:column].count("w") == HORIZON
                assert text[2][column] == "╎"
        assert [style_at(app, at + HORIZON, 1).underline for at in (1, 2)] == [None, True]

        strip.show([f" word{at:04}" for at in range(10_000)], [3.0] * 10_000, 0)
        assert "↓" in (await rows(pilot))[-1]
        strip.move_to(5_000)
        text = await rows(pilot)
        assert "word5000" in "".join(text)
        assert "↑" in text[-1]
        strip.move_to(99_999)
        assert "word9999" in "".join(await rows(pilot))
        assert strip.cursor == 10_000


async def test_a_cursor_in_view_redraws_only_the_lines_that_it_leaves_and_enters() -> None:
    strip = HeatStrip()
    strip.show([f" word{at:02}" for at in range(40)], [3.0] * 40, 0)
    async with showing(strip, size=(60, 20)) as (_, pilot):
        drawn: list[Region] = []
        refresh = strip.refresh

        def record(*regions: Region, **options: bool) -> HeatStrip:
            drawn.extend(regions)
            return refresh(*regions, **options)

        strip.refresh = record  # type: ignore[method-assign]
        strip.move_to(1)
        await pilot.pause()
        assert {region.y for region in drawn} == {1, 2}


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


async def test_alternatives_are_a_table_at_every_width_and_the_last_row_types_a_token() -> None:
    panel = AlternativesList()
    async with showing(panel, size=(40, 9)) as (app, pilot):
        panel.show_words("the checkpoint is gone. choose another one with ^k", trouble=True)
        text = await rows(pilot)
        assert text[1].startswith("│  ✗ the checkpoint is gone. choose")
        assert text[2].startswith("│    another one")
        panel.focus()
        await pilot.press("down", "enter")
        assert app.chosen == []

        panel.show(alternatives(3))
        assert len(panel.rows) == 10, "a taken token among the alternatives has no second row"
        panel.show(alternatives())
        await pilot.press("home", "down", "enter", "end")
        assert "type a token" in "".join(await rows(pilot))
        await pilot.press("enter", "up", "enter")
        assert app.chosen == [2, None, 99]

        for width in (40, 48, 60, 80):
            await pilot.resize_terminal(width, 16)
            text = await rows(pilot)
            lines = text[1:12]
            assert {len(line) for line in lines} == {width}
            assert "typical-p" in lines[9]
            assert "21" in lines[10]
            if width >= 48:
                assert "[b]" in lines[10]
                assert "after bits" in text[0]
                for at, line in enumerate(lines[:10], start=1):
                    assert line.endswith(f"{at}.0 │")


TEXTS = ("a", " b", " c", " d", " e")


def take(units: Units, count: int = 6, tokens: int = 5, **changes: object) -> None:
    """Take the states of units that rise from -127 to 127 with the tokens; every second falls."""
    sweep = [round(-127 + 254 * at / max(1, tokens - 1)) for at in range(tokens)]
    rows = [sweep if unit % 2 == 0 else sweep[::-1] for unit in range(count)]
    fields = {"scale": 1.0, "memory": (3.0,) * count, **changes}
    units.states, units.unit = LayerStates.of(states(rows, **fields)), 0
    units.texts = TEXTS if tokens == 5 else tuple(f" w{at}" for at in range(tokens))


async def test_the_map_shows_units_gates_and_figures_and_scrolls_with_units_and_tokens() -> None:
    units = Units()
    panel = StateMapPanel(units)
    async with showing(panel, size=(80, 12)) as (app, pilot):

        async def shown(**changes: int) -> list[str]:
            for name, value in changes.items():
                setattr(units, name, value)
            panel.redraw()
            return await rows(pilot)

        take(units)
        text = await shown()
        assert text[1].startswith("│   1 ▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀"), "two units share a row"
        least, most = palette.DIVERGING[0], palette.DIVERGING[-1]
        assert hexes(app, 6, 1) == (least, most)
        assert hexes(app, 6 + 16, 1) == (most, least)
        assert "6 of 6 units, longest memory first" in text[0]
        figures = ("at token 1", "saturated 25 %", "|Δh| 0.50", "norm 2.00", "u0 3.0 tok")
        assert all(words in "\n".join(text) for words in figures)
        await pilot.click(StateMapPanel, offset=(6 + 9, 2))
        assert app.pointed == [2]

        take(units, 1, saturated=())
        text = await shown()
        assert hexes(app, 6, 1)[1] == palette.BACKGROUND, "an odd last unit has nothing below it"
        assert "saturated" not in "".join(text)
        assert "norm 2.00" in "".join(text)

        take(units, 4, 1_000)
        assert "▲  w0    10        20" in (await shown())[-2]
        text = await shown(cursor=700)
        assert "▲" in text[-2]
        assert "w700" in text[-2]
        assert "1000" not in (await shown(cursor=1_000))[1]

        take(units, 100)
        units.order = "index"
        assert "18 of 100 units, by number" in (await shown(cursor=0))[0]
        assert panel.scroll_units(1)
        assert "19–36 of 100 units" in (await rows(pilot))[0]
        assert panel.scroll_units(99)
        assert "83–100 of 100 units" in (await rows(pilot))[0]
        assert not panel.scroll_units(1)
        assert "›" in "".join((await shown(unit=50))[1:])

        await pilot.resize_terminal(80, 14)
        take(units, 2, gates={"input": (0.0, 0.25, 0.5, 0.75, 1.0), "forget": (1.0,) * 5})
        text = await shown(cursor=1)
        assert any(line.startswith("│ in  ▁▁▁▁▃▃▃▃▅▅▅▅▆▆▆▆████") for line in text)
        assert any("in 0.25  fgt 1.00" in line for line in text)
