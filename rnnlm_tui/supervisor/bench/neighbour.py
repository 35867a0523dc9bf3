"""`bench --neighbour`: training alone and next to a busy process, in torch's environment and in that of our runs."""

from __future__ import annotations

from contextlib import ExitStack

from rnnlm_tui.contract.bench import NeighbourFigures, TaskReady, TurnDone, TurnRequest
from rnnlm_tui.supervisor.bench.children import Busy, Child
from rnnlm_tui.supervisor.bench.statistics import ratio, spread

OPENMP_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Variables that torch's default environment doesn't have."""

PLACES = ("alone", "beside")


class Neighbourhood:
    """Two children that train the same in two environments; each round has a turn alone and one next to the busy process."""

    def __init__(self, default: Child, ours: Child, warm_up_steps: int) -> None:
        """Wait for both, then warm them up one after the other."""
        self._children = {"default": default, "ours": ours}
        self._speeds: dict[tuple[str, str], list[float]] = {(place, name): [] for place in PLACES for name in self._children}
        for child in self._children.values():
            child.ready(TaskReady)
        for child in self._children.values():
            child.ask(TurnRequest(seconds=0, least=warm_up_steps), TurnDone)

    def round(self, seconds: float) -> None:
        """Four turns of this many seconds."""
        self._turns("alone", seconds)
        with ExitStack() as stack:
            stack.callback(Busy().close)
            self._turns("beside", seconds)

    def figures(self) -> NeighbourFigures:
        """Speeds of all rounds; call `round` at least once before."""
        speeds = self._speeds
        return NeighbourFigures(
            alone_default=spread(speeds["alone", "default"]),
            alone_ours=spread(speeds["alone", "ours"]),
            beside_default=spread(speeds["beside", "default"]),
            beside_ours=spread(speeds["beside", "ours"]),
            kept_default=ratio(speeds["beside", "default"], speeds["alone", "default"]),
            kept_ours=ratio(speeds["beside", "ours"], speeds["alone", "ours"]),
            alone_ratio=ratio(speeds["alone", "ours"], speeds["alone", "default"]),
        )

    def _turns(self, place: str, seconds: float) -> None:
        for name, child in self._children.items():
            done = child.ask(TurnRequest(seconds=seconds), TurnDone)
            self._speeds[place, name].append(done.tokens / done.seconds)
