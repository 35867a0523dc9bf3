"""What the checkpoints pane has read of a run: details, samples, weights' changes and damage.

Reading and verifying take place in threads and in the sampler; the pane shows what is known so far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from rnnlm_tui import client, store
from rnnlm_tui.client.checkpoint_detail import CheckpointDetail, FoundSamples
from rnnlm_tui.errors import RnnlmError, StorageError
from rnnlm_tui.tui.messages import words_of
from rnnlm_tui.tui.screens.asking import Questions
from rnnlm_tui.tui.threads import to_thread
from rnnlm_tui.tui.widgets.checkpoints import layer_changes

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import CheckpointRow
    from rnnlm_tui.schema.sampling import TensorChange
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.screens.pane import PaneScreen

SETTLE_SECONDS = 0.3
"""How long the cursor rests on a checkpoint before its weights are compared."""


class CheckpointFacts:
    """The facts of one run's checkpoints; `refresh` of the pane is called when one is new."""

    def __init__(self, screen: PaneScreen, refresh: Callable[[], None]) -> None:
        self._screen, self._refresh = screen, refresh
        self._details: dict[str, CheckpointDetail] = {}
        """By the checkpoint's directory."""
        self._samples: dict[int, FoundSamples] = {}
        """By step of the checkpoint."""
        self._tensors: dict[tuple[str, str], Sequence[TensorChange] | str] = {}
        """How much the tensors changed, or why that isn't known, by the paths of a checkpoint and
        of the one before."""
        self._problems: dict[str, str] = {}
        """What names and sizes of its files show to be wrong, by the checkpoint's directory."""
        self._known: tuple[str, ...] = ()
        """The checkpoints whose files were looked at."""
        self._questions = Questions(screen)

    def take_rows(self, run: RunDirectory, rows: Sequence[CheckpointRow]) -> None:
        """Look at the files if there are other checkpoints than before."""
        paths = tuple(row.path for row in rows)
        if paths == self._known:
            return
        # the samples that belong to a step, and the checkpoint before, may be others now
        self._known = paths
        self._samples.clear()
        self._details = {path: found for path, found in self._details.items() if path in paths}
        self.look_at(run, rows)

    def look_at(self, run: RunDirectory, rows: Sequence[CheckpointRow]) -> None:
        """Look for missing and cut files in a thread."""

        def found(problems: dict[str, str]) -> None:
            if problems != self._problems:
                for path in problems.keys() ^ self._problems.keys():
                    self._details.pop(path, None)
                self._problems = problems
                self._refresh()

        self._screen.context.in_thread(
            lambda: client.checkpoints.quick_problems(run, rows), found, lambda _error: None
        )

    def damage(self, row: CheckpointRow) -> str:
        """What is wrong with a checkpoint; empty if nothing is known to be."""
        detail = self._details.get(row.path)
        return self._problems.get(row.path, "") or (detail.damage if detail is not None else "")

    def detail(
        self, run: RunDirectory, row: CheckpointRow, snapshot: RunSnapshot
    ) -> CheckpointDetail | None:
        """What is known about a checkpoint; None while it is read."""
        if found := self._details.get(row.path):
            return replace(found, damage=self.damage(row))

        async def read() -> None:
            detail = await to_thread(_read_detail, run, row, snapshot)
            if row.path not in self._details:  # a verification came first, and knows more
                self._keep(row, detail)

        self._questions.start("detail", row.path, read)
        return None

    def samples(self, run: RunDirectory, step: int) -> FoundSamples | None:
        """The samples of a step or of the nearest before; None while they are read."""
        if found := self._samples.get(step):
            return found

        async def read() -> None:
            samples = FoundSamples()
            with suppress(RnnlmError, OSError):
                samples = await to_thread(lambda: client.checkpoint_detail.read_samples(run, step))
            self._samples[step] = samples
            self._refresh()

        self._questions.start("samples", step, read)
        return None

    def tensors(self, detail: CheckpointDetail) -> dict[str, TensorChange]:
        """How much each tensor changed, by name; empty if that isn't known."""
        known = self._tensors.get((detail.path, detail.before), "")
        return {} if isinstance(known, str) else {tensor.name: tensor for tensor in known}

    def layers(self, detail: CheckpointDetail) -> dict[str, float] | str:
        """How much each layer changed, or why that isn't known; asks the sampler once the cursor
        rests."""
        if not detail.files or detail.damage:
            return ""
        if not detail.before:
            return "weights: no earlier checkpoint to compare with"
        place = (detail.path, detail.before)
        known = self._tensors.get(place)
        if known is None:
            self._questions.start("weights", place, partial(self._compare, *place))
            return f"weights since {detail.before_name}: comparing …"
        return known if isinstance(known, str) else layer_changes(known)

    async def _compare(self, path: str, before: str) -> None:
        """Ask how much the weights changed, unless the cursor moves on at once."""
        from rnnlm_tui.schema.sampling import WeightChange, WeightChangeRequest

        await asyncio.sleep(SETTLE_SECONDS)
        if not self._screen.is_current:
            return
        request = WeightChangeRequest(id=uuid4().hex, checkpoint=path, before=before)
        try:
            found = await self._questions.ask(request, WeightChange, lambda _words: None)
            self._tensors[path, before] = found.tensors
        except RnnlmError as error:
            self._tensors[path, before] = f"weights not compared: {error.message}"
        self._refresh()

    async def verify(
        self, run: RunDirectory, row: CheckpointRow, snapshot: RunSnapshot, now: float
    ) -> int:
        """Check a checkpoint's files against their hashes.

        Returns:
            The number of files that are as they were written; 0 if the checkpoint is damaged.
        """
        folder, files, damage = run.path / row.path, 0, ""
        try:
            found = await to_thread(lambda: store.manifest.verify_checkpoint(folder))
            files = len(found.files)
        except (StorageError, OSError) as error:
            damage = words_of(error)[0].replace(f"{folder}/", "")
        detail = self._details.get(row.path)
        if detail is None:
            detail = await to_thread(_read_detail, run, row, snapshot)
        self._keep(row, replace(detail, verified=None if damage else now, damage=damage))
        return files

    def _keep(self, row: CheckpointRow, detail: CheckpointDetail) -> None:
        self._details[row.path] = detail
        self._refresh()


def _read_detail(run: RunDirectory, row: CheckpointRow, snapshot: RunSnapshot) -> CheckpointDetail:
    return client.checkpoint_detail.read_detail(
        run, row, others=snapshot.checkpoints, journal=snapshot.changes
    )
