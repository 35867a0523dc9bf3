"""How much each tensor of a model changed between two checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from rnnlm_tui.engine.checkpoint import WEIGHTS_NAME
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.schema.sampling import TensorChange


def changed_tensors(
    checkpoint: Path, before: Path, check: Callable[[], None] = lambda: None
) -> Iterator[TensorChange]:
    """Compare the weights of two checkpoints, by tensor in the order of their names.

    One tensor of each is in memory at a time.

    Args:
        check: called before each tensor; may raise to cancel.

    Raises:
        CheckpointError: a file is missing or damaged, or the two are of different models.
    """
    later, earlier = checkpoint / WEIGHTS_NAME, before / WEIGHTS_NAME
    try:
        with (
            safe_open(later, framework="pt") as ours,
            safe_open(earlier, framework="pt") as theirs,
        ):
            names, others = set(ours.keys()), set(theirs.keys())
            for name in sorted(names ^ others):
                missing = earlier if name in names else later
                raise CheckpointError(
                    f"the two checkpoints are of different models: {missing} has no {name}"
                )
            for name in sorted(names):
                check()
                new, old = ours.get_tensor(name), theirs.get_tensor(name)
                if new.shape != old.shape:
                    raise CheckpointError(
                        f"the two checkpoints are of different models: {name} has shape"
                        f" {tuple(new.shape)}, before {tuple(old.shape)}"
                    )
                new = new.to(torch.float64)
                norm = float(torch.linalg.vector_norm(new))
                change = float(torch.linalg.vector_norm(new.sub_(old)))
                yield TensorChange(name=name, change=change, norm=norm)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the weights of {checkpoint.name} and {before.name} can't be compared: {error}"
        ) from error
