"""UnitViews: a layer's states as a map, one unit on the text, and the units as a list."""

from __future__ import annotations

from typing import Literal

from textual.content import Content

from rnnlm_tui.tui.palette import BRIGHT, DIM
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.views.inspect import LayerStates, ScoredText
from rnnlm_tui.tui.widgets.state_map import StateMapPanel, UnitList, UnitStrip

Order = Literal["memory", "index", "search"]
"""How the units are sorted, as in a states request."""


class UnitViews:
    """Keeps the three widgets in step."""

    def __init__(self, map_panel: StateMapPanel, strip: UnitStrip, ranking: UnitList) -> None:
        self.map, self.strip, self.ranking = map_panel, strip, ranking
        self.states: LayerStates | None = None
        """The states shown; None until they are known."""
        self.layer = -1
        """The wanted layer, as in a states request."""
        self.order: Order = "memory"
        self.query = ""
        """What was searched for last."""
        self.unit = 0
        """Place of the followed unit in the order."""
        self._scored: ScoredText | None = None
        self._cursor = 0

    @property
    def wanted(self) -> dict[str, object]:
        """The fields of a states request."""
        return {"layer": self.layer, "order": self.order, "query": self.query}

    def clear(self) -> None:
        """Show nothing: there is another text."""
        self.states = self._scored = None
        self._show()

    def take(self, states: LayerStates, scored: ScoredText) -> None:
        """Show the states of a text."""
        self.states, self._scored, self.layer = states, scored, states.answer.layer
        self.unit = min(self.unit, max(0, len(states.answer.units) - 1))
        self._show()

    def point(self, token: int) -> None:
        """Put the cursor on a token."""
        self._cursor = token
        self.strip.move_to(token)
        self.map.point(token, self.unit)
        self._show_value()

    def follow(self, by: int) -> None:
        """Follow the unit that is `by` places further down."""
        if self.states is None:
            return
        self.unit = max(0, min(self.unit + by, len(self.states.answer.units) - 1))
        self.ranking.show(self.states, self.unit)
        self.map.point(self._cursor, self.unit)
        self._show_unit()

    def next_order(self) -> None:
        """Sort by memory, by number, or by the last search."""
        orders: list[Order] = ["memory", "index", *(("search",) if self.query else ())]
        self.order = orders[(orders.index(self.order) + 1) % len(orders)]
        self.unit = 0

    def search(self, query: str) -> None:
        """Sort by how the units follow something."""
        self.order, self.query, self.unit = "search", query.strip() or query, 0

    def give_up_search(self) -> None:
        """Go back to the order before a search that failed; its units are still shown."""
        self.order, self.query = "memory", ""

    def _show(self) -> None:
        texts = self._scored.texts if self._scored is not None else ()
        orders: dict[Order, str] = {
            "memory": "longest memory first",
            "index": "by number",
            "search": f"by how they follow {safe_text(self.query, limit=20, newlines='space')}",
        }
        self.map.show(self.states, texts, orders[self.order])
        self.ranking.show(self.states, self.unit)
        self._show_unit()

    def _show_unit(self) -> None:
        states, scored = self.states, self._scored
        if states is None or scored is None or not states.answer.units:
            self.strip.show((), (), 1.0, 0)
            return
        answer = states.answer
        values = states.row(self.unit)
        self.strip.show(scored.texts, values, answer.scale, scored.prompt_tokens)
        self.strip.move_to(self._cursor)
        name, layer = f"Unit u{answer.units[self.unit]}", f", layer {answer.layer + 1}"
        self.strip.panel_title = Content.assemble((name, "bold"), (layer, DIM))
        self._show_value()

    def _show_value(self) -> None:
        states = self.states
        if states is None or self._cursor >= states.answer.tokens or not states.answer.units:
            self.strip.legend = ""
            return
        value = f"{states.value(self.unit, self._cursor):+.2f}".replace("-", "−")
        self.strip.legend = Content.assemble(("at the cursor ", DIM), (value, f"bold {BRIGHT}"))
