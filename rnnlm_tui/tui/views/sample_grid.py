"""Grid: short samples of one prompt, a checkpoint per row and a temperature per column."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.views.sample_tree import Branch, Weights

if TYPE_CHECKING:
    from rnnlm_tui.schema.sampling import SampleDone
    from rnnlm_tui.tui.views.versus import Side, TextState

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
class GridCell:
    """One short sample."""

    settings: SamplingConfig
    weights: Weights | None = None
    state: TextState = "waiting"
    text: str = ""
    tokens: int = 0
    done: SampleDone | None = None
    error: str = ""

    def branch(self, grid: Grid) -> Branch | None:
        """Return its text as the beginning of a tree; None if it has none yet."""
        if self.done is None or self.weights is None:
            return None
        seed = "greedy" if self.settings.is_greedy else f"seed {self.settings.seed}"
        return Branch(
            number=0,
            parent=None,
            prompt=grid.prompt,
            text=self.done.text,
            ids=self.done.ids,
            shared=0,
            settings=self.settings,
            weights=self.weights,
            state=grid.start,
            meta=f"{counted(self.tokens, 'token')} · {seed} · {self.weights.label}",
        )


@dataclass(slots=True)
class Grid:
    """Rows of checkpoints, columns of temperatures."""

    prompt: str
    sides: list[Side]
    columns: tuple[float, ...]
    start: str = ""
    """Path of the kept state that all cells start from; empty: the initial state."""
    cells: list[list[GridCell]] = field(default_factory=list)
    row: int = 0
    """Of the chosen cell."""
    column: int = 0

    @classmethod
    def of(cls, prompt: str, sides: list[Side], settings: SamplingConfig, start: str = "") -> Grid:
        """Return an empty grid whose cells wait for their texts."""
        columns = temperatures(settings)
        cells = [
            [
                GridCell(
                    settings.model_copy(
                        update={
                            "temperature": temperature,
                            "greedy": False,
                            "max_new_tokens": min(settings.max_new_tokens, GRID_TOKENS),
                        }
                    )
                )
                for temperature in columns
            ]
            for _ in sides
        ]
        chosen = next(
            (at for at, one in enumerate(columns) if one == settings.temperature), len(columns) // 2
        )
        return cls(prompt, list(sides), columns, start, cells, 0, chosen)

    @property
    def chosen(self) -> GridCell:
        """The chosen cell."""
        return self.cells[self.row][self.column]

    def move(self, rows: int, columns: int) -> None:
        """Choose another cell, up to the edges."""
        self.row = max(0, min(len(self.cells) - 1, self.row + rows))
        self.column = max(0, min(len(self.columns) - 1, self.column + columns))
