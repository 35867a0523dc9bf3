"""Grid: short samples of one prompt, a checkpoint per row and a temperature per column."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.tui.views.sample_tree import Sample
from rnnlm_tui.tui.views.versus import Side, SideText

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
    cells: list[list[SideText]]
    row: int = 0
    """Of the chosen cell."""
    column: int = 0

    @classmethod
    def of(cls, prompt: str, sides: list[Side], settings: SamplingConfig, start: str = "") -> Grid:
        """Return an empty grid whose cells wait for their texts."""
        columns = temperatures(settings)
        most = min(settings.max_new_tokens, GRID_TOKENS)
        chosen = next(
            (at for at, one in enumerate(columns) if one == settings.temperature), len(columns) // 2
        )
        settings = settings.model_copy(update={"greedy": False, "max_new_tokens": most})
        of_columns = [settings.model_copy(update={"temperature": one}) for one in columns]
        cells = [[SideText(side, prompt, one, start) for one in of_columns] for side in sides]
        return cls(prompt, list(sides), columns, cells, 0, chosen)

    def chosen_branch(self) -> Sample | None:
        """Return the chosen cell's text as the beginning of a tree; None if it has none yet."""
        sample = self.cells[self.row][self.column].samples[0]
        return None if sample.done is None else replace(sample)

    def move(self, rows: int, columns: int) -> None:
        """Choose another cell, up to the edges."""
        self.row = max(0, min(len(self.cells) - 1, self.row + rows))
        self.column = max(0, min(len(self.columns) - 1, self.column + columns))
