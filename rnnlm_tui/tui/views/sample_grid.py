"""Grid: short samples of one prompt, a checkpoint per row and a temperature per column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.tui.views.prompt import Drawing
from rnnlm_tui.tui.views.sample_tree import Sample, Weights

if TYPE_CHECKING:
    from rnnlm_tui.tui.views.versus import Side

TEMPERATURES = (0.4, 0.7, 1.0, 1.3)
GRID_TOKENS = 60
"""Most tokens of a cell."""


def temperatures(settings: SamplingConfig) -> tuple[float, ...]:
    """Return the temperatures of the columns; the chosen one replaces the nearest."""
    if settings.is_greedy:
        return TEMPERATURES
    nearest = min(TEMPERATURES, key=lambda one: abs(one - settings.temperature))
    return tuple(sorted({settings.temperature if one == nearest else one for one in TEMPERATURES}))


@dataclass(slots=True)
class Grid:
    """Rows of checkpoints, columns of temperatures."""

    prompt: str
    sides: list[Side]
    columns: tuple[float, ...]
    cells: list[list[Drawing]]
    row: int = 0
    """Of the chosen cell."""
    column: int = 0

    @classmethod
    def of(cls, prompt: str, sides: list[Side], settings: SamplingConfig, start: str = "") -> Grid:
        """Return an empty grid whose cells wait for their texts.

        Args:
            start: path of the kept state that all cells start from; empty: the initial state.
        """
        columns = temperatures(settings)
        length = min(settings.max_new_tokens, GRID_TOKENS)

        def cell(side: Side, temperature: float) -> Drawing:
            changes = {"temperature": temperature, "greedy": False, "max_new_tokens": length}
            weights = Weights(side.run.name, "", 0)
            changed = settings.model_copy(update=changes)
            return Drawing(Sample(prompt, changed, weights, start=start))

        cells = [[cell(side, temperature) for temperature in columns] for side in sides]
        chosen = next(
            (at for at, one in enumerate(columns) if one == settings.temperature), len(columns) // 2
        )
        return cls(prompt, list(sides), columns, cells, 0, chosen)

    @property
    def chosen(self) -> Drawing:
        """The chosen cell."""
        return self.cells[self.row][self.column]

    def move(self, rows: int, columns: int) -> None:
        """Choose another cell, up to the edges."""
        self.row = max(0, min(len(self.cells) - 1, self.row + rows))
        self.column = max(0, min(len(self.columns) - 1, self.column + columns))
