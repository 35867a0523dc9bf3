"""Count the kernels that one training step launches on a CUDA GPU, without a GPU.

The step that a CUDA graph would record, from the batch to the new weights, runs on torch's meta
device, where every operation happens but nothing is computed. Each operation that reaches a kernel
is counted. What only cuDNN or a Triton kernel can do is replaced by an operation of a known number
of launches.

`python -m tests.tools.launches` prints a table.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm_tui.engine.cells import CELLS, minimal
from rnnlm_tui.engine.cells.base import LayerState
from rnnlm_tui.engine.cells.slstm import WIDEST_HEAD
from rnnlm_tui.engine.cells.slstm_recurrence import Passed, SlstmKernel
from rnnlm_tui.engine.figures import StepFigures
from rnnlm_tui.engine.graphs import RateTable, StepGraphs
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.optim import OptimizerSettings, build_optimizer
from rnnlm_tui.engine.resident import ResidentBatches, ResidentSentences, ResidentStreams
from rnnlm_tui.engine.softmax import PLAIN, Softmax
from rnnlm_tui.engine.step import Update
from rnnlm_tui.schema.config import RECURRENT_WEIGHT_CELLS

META = torch.device("meta")
CUDNN_MODES = {"rnn_tanh": 1, "lstm": 2, "gru": 3}
"""torch's functions, and cuDNN's numbers for them."""
FREE = frozenset(
    {
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "_unsafe_view",
        "_reshape_alias",
        "lift_fresh",
        "resize_",
        "set_",
    }
)
"""Operations beside views that launch nothing: they allocate, or change only shapes."""
WAITING = frozenset(
    {"_local_scalar_dense", "nonzero", "nonzero_static", "masked_select", "equal", "_unique2"}
)
"""Operations whose result, or whose result's shape, the host has to wait for."""
TWO_KERNELS = frozenset(
    {
        "constant_pad_nd",
        "index_add",
        "index_fill",
        "masked_fill",
        "masked_scatter",
        "scatter",
        "scatter_add",
        "select_backward",
        "slice_backward",
    }
)
"""Operations that copy or fill their result before they change a part of it."""
TENSORS_AT_ONCE = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
"""By the number of tensor lists: how many tensors one multi-tensor kernel takes
(`aten/src/ATen/native/cuda/MultiTensorApply.cuh`)."""
BLOCKS_AT_ONCE, BLOCK_NUMBERS = 320, 65_536
"""How many blocks of how many numbers one multi-tensor kernel takes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model and of its batch."""

    vocab_size: int = 32_011
    embedding_dim: int = 128
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    batch_size: int = 128
    steps: int = 29
    rows: int | None = 2_880
    """Targets that count in a batch of sentences; None: all positions, windows of a stream."""


BOOK = Shape()
"""The book's model and batch: sentences of at most 30 tokens, about three quarters of the positions
used."""
LARGE = Shape(10_000, 1_024, 1_024, batch_size=64, steps=70, rows=None)
"""Two layers of 1,024 on a stream."""
PHASES = "batch", "forward", "backward", "update"
"""Putting the batch together and taking the learning rate; the forward pass with the loss; the
backward pass; clipping, optimizer, state, loss and norm for the host."""


@dataclass(slots=True)
class Count:
    """What one training step did."""

    by_phase: Counter[str] = field(default_factory=Counter)
    """Launches in each of `PHASES`."""
    operations: Counter[str] = field(default_factory=Counter)
    """Launches by phase and operation."""
    cudnn_calls: int = 0
    """Forward and backward calls of cuDNN's RNN."""
    waits: Counter[str] = field(default_factory=Counter)
    """Operations for which the host waits."""
    host_copies: Counter[str] = field(default_factory=Counter)
    """Copies between host and device."""

    @property
    def launches(self) -> int:
        return self.by_phase.total()


def launches(cell: str, shape: Shape = BOOK, **options: Any) -> dict[str, int]:
    """Launches of one recorded training step with AdamW and clipping.

    Args:
        options: those of `count_step`.

    Returns:
        Those of each of `PHASES`, and their sum `total`; `cudnn calls`, of which each counts
        in the other figures as many launches as `cudnn_launches` says; `waits`, operations for
        which the host waits; and `host copies` between host and device.
    """
    count = count_step(cell, shape, **options)
    return {
        **{phase: count.by_phase[phase] for phase in PHASES},
        "total": count.launches,
        "cudnn calls": count.cudnn_calls,
        "waits": count.waits.total(),
        "host copies": count.host_copies.total(),
    }


def count_step(
    cell: str,
    shape: Shape = BOOK,
    *,
    algorithm: str = "adamw",
    dropout: float = 0.0,
    all_dropouts: bool = False,
    max_grad_norm: float = 1.0,
    tie_weights: bool = False,
    reduced: bool = False,
    triton: bool = True,
) -> Count:
    """Run one training step on the meta device, not the first one, whose moments are new.

    Args:
        triton: with our Triton kernels; otherwise the single operations in their place.
        all_dropouts: the same units at every time step, whole words and state-to-state weights
            (where the cell has any) as well.
        reduced: bf16 products in the head.
    """
    model = RecurrentLanguageModel(
        vocab_size=shape.vocab_size,
        embedding_dim=shape.embedding_dim,
        hidden_size=shape.hidden_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        cell_type=cell,
        dropout=dropout,
        variational_dropout=all_dropouts,
        embedding_dropout=0.1 if all_dropouts else 0.0,
        weight_dropout=0.3 if all_dropouts and cell in RECURRENT_WEIGHT_CELLS else 0.0,
        tie_weights=tie_weights,
        pad_id=0,
    ).to("meta")
    model.train()
    carries = shape.rows is None
    with as_on_cuda(triton=triton):
        settings = OptimizerSettings(algorithm=algorithm, max_grad_norm=max_grad_norm)
        # torch reads a tensor's value once, which the meta device doesn't have.
        with mock.patch("rnnlm_tui.engine.optim._rate", side_effect=lambda rate, _: rate):
            optimizer = build_optimizer(model.parameters(), settings, 1e-3)
        for group in optimizer.param_groups:
            group["lr"] = torch.full((), 1e-3, device="meta")
        steps = StepGraphs(
            Update(model, optimizer, max_grad_norm, reduced=reduced, carries=carries),
            _batches(shape),
            RateTable(optimizer, lambda _: 1e-3, META),
            StepFigures(META),
            epoch=0,
        )
        rows = shape.batch_size * shape.steps if shape.rows is None else shape.rows
        for counter in (Counting(model), Counting(model)):
            with counter:
                steps._run(rows)
    return counter.count


def _batches(shape: Shape) -> ResidentBatches:
    if shape.rows is None:
        tokens = np.zeros(shape.batch_size * shape.steps * 2 + 1, np.uint16)
        return ResidentStreams(tokens, shape.batch_size, shape.steps, shape.steps * 2, META)
    sentences, length = shape.batch_size * 2, shape.steps + 1
    return ResidentSentences(
        np.zeros(sentences * length, np.uint16),
        np.arange(sentences, dtype=np.int64) * length,
        np.full(sentences, length, np.int32),
        lambda _: None,
        batch_size=shape.batch_size,
        pad_id=0,
        device=META,
    )


@contextmanager
def as_on_cuda(*, triton: bool = True) -> Iterator[None]:
    """Let torch's and our code take the ways of a CUDA GPU for tensors on the meta device."""
    fused = _foreach_utils._get_fused_kernels_supported_devices()
    many = _foreach_utils._get_foreach_kernels_supported_devices()
    optimizers = sys.modules[torch.optim.Optimizer.__module__]
    with (
        mock.patch.object(
            optimizers, "_get_fused_kernels_supported_devices", return_value=[*fused, "meta"]
        ),
        mock.patch.object(
            _foreach_utils, "_get_foreach_kernels_supported_devices", return_value=[*many, "meta"]
        ),
        mock.patch("rnnlm_tui.engine.optim.FUSED_DEVICES", frozenset({"cuda", "meta"})),
        mock.patch("rnnlm_tui.engine.optim.SKIPPING_DEVICES", frozenset({"cuda", "meta"})),
        mock.patch("rnnlm_tui.engine.loss.softmax_for", return_value=LOSS if triton else PLAIN),
        mock.patch(
            "rnnlm_tui.engine.cells.minimal.kernel_for", return_value=AVERAGE if triton else None
        ),
        mock.patch(
            "rnnlm_tui.engine.cells.slstm.kernel_for",
            side_effect=lambda _, width: SLSTM if triton and width <= WIDEST_HEAD else None,
        ),
        _CudaFunctions(),
    ):
        yield


def _softmax_gradient(
    logits_RW: Tensor, _targets_R: Tensor, _count: Tensor, _vocab_size: int
) -> tuple[Tensor, Tensor]:
    return logits_RW, _softmax_losses(logits_RW, _targets_R, _vocab_size)


def _softmax_losses(logits_RW: Tensor, _targets_R: Tensor, _vocab_size: int) -> Tensor:
    _launch("loss kernel")
    return torch.empty(len(logits_RW), device=META)


def _scaled(values: Tensor, _factor: Tensor) -> Tensor:
    _launch("scale kernel")
    return values


LOSS = Softmax(_softmax_gradient, _softmax_losses, _scaled)
"""The loss's Triton kernels as empty launches."""


def _average_forward(gate_TBH: Tensor, _candidate_TBH: Tensor, _state_BH: Tensor) -> Tensor:
    _launch("gated average kernel")
    return torch.empty_like(gate_TBH)


def _average_backward(
    _grad_TBH: Tensor, gate_TBH: Tensor, _candidate: Tensor, state_BH: Tensor, _hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    _launch("gated average kernel")
    return torch.empty_like(gate_TBH), torch.empty_like(gate_TBH), torch.empty_like(state_BH)


AVERAGE = minimal.AverageKernel(_average_forward, _average_backward)
"""The Triton kernels of minGRU and minLSTM as empty launches."""


def _slstm_forward(
    projected_TBG: Tensor, state: LayerState, _weight: Tensor, heads: int
) -> tuple[Passed, Tensor]:
    _launch("slstm kernel")
    steps, batch, width = len(projected_TBG), len(state[0]), state[0].shape[1] // heads
    in_memory = torch.empty(steps, heads, batch, width, device=META)
    passed = Passed(
        gates=torch.empty(steps, heads, batch, 4, width, device=META),
        log_forget=in_memory,
        cells=in_memory,
        normalisers=in_memory,
        hidden_TBH=torch.empty(steps, *state[0].shape, device=META),
    )
    return passed, in_memory[-1]


def _slstm_backward(
    _grad_TBH: Tensor, passed: Passed, state: LayerState, _weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _launch("slstm kernel")
    steps, batch, width = passed.hidden_TBH.shape
    cell, normaliser, hidden = (torch.empty_like(part) for part in state[:3])
    return torch.empty(steps, batch, 4 * width, device=META), cell, normaliser, hidden


SLSTM = SlstmKernel(_slstm_forward, _slstm_backward)
"""sLSTM's Triton kernels as empty launches."""


class _CudaFunctions(TorchFunctionMode):
    """Replaces functions that torch computes otherwise on a GPU: the recurrent layers by cuDNN's
    operation, dropout by the fused one."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in CUDNN_MODES and getattr(torch._VF, name) == func:
            return _cudnn(CUDNN_MODES[name], *args)
        if name == "dropout" and len(args) > 0 and args[0].device.type == "meta":
            rate = args[1] if len(args) > 1 else (kwargs or {})["p"]
            training = args[2] if len(args) > 2 else (kwargs or {}).get("training", True)
            return torch.native_dropout(args[0], rate, training)[0]
        return func(*args, **(kwargs or {}))


def _cudnn(
    mode: int,
    inputs_TBE: Tensor,
    state: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    _has_biases: bool,
    num_layers: int,
    _dropout: float,
    train: bool,
    *_: object,
) -> tuple[Tensor, ...]:
    """What `at::rnn_tanh`, `lstm` and `gru` call for a GPU: `_cudnn_rnn`, with its gradient."""
    hidden, cell = (state, None) if isinstance(state, Tensor) else state
    weight_buffer = torch.empty(sum(weight.numel() for weight in weights), device="meta")
    output, hidden_after, cell_after, *_rest = torch.ops.aten._cudnn_rnn(
        inputs_TBE,
        weights,
        4,
        weight_buffer,
        hidden,
        cell,
        mode,
        hidden.shape[2],
        0,
        num_layers,
        False,
        0.0,
        train,
        False,
        [],
        None,
    )
    return (output, hidden_after) if cell is None else (output, hidden_after, cell_after)


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts launches while it is active."""

    def __init__(self, model: RecurrentLanguageModel | None = None) -> None:
        """
        Args:
            model: with one, launches before its forward pass are those of the batch.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = Count()
        self._model, self._phase = model, "forward" if model is None else "batch"
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        token = _counting.set(self)
        self._undo = [lambda: _counting.reset(token)]
        if self._model is not None:
            hook = self._model.register_forward_pre_hook(self._goes_forward)
            self._undo.append(hook.remove)
        return self

    def __exit__(self, *failure: object) -> None:
        for undo in self._undo:
            undo()
        super().__exit__(*failure)  # type: ignore[no-untyped-call]

    def launch(self, name: str, count: int = 1) -> None:
        """Count launches by an operation."""
        if torch._C._current_graph_task_id() != -1:
            self._phase = "backward"
        elif self._phase == "backward":
            self._phase = "update"
        self.count.by_phase[self._phase] += count
        self.count.operations[f"{self._phase} {name}"] += count

    def _goes_forward(self, *_: object) -> None:
        self._phase = "forward"

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        if name in WAITING:
            self.count.waits[name] += 1
        if _crosses(name, args, given):
            self.count.host_copies[name] += 1
        elif not func.is_view and name not in FREE and _on_device(func, args, given):
            self.launch(name, launches_of(name, args))
        if name.startswith("_cudnn_rnn"):
            self.count.cudnn_calls += 1
        if name == "_local_scalar_dense":
            return 1.0 if args[0].is_floating_point() else 1
        if name == "_cudnn_rnn_backward":
            return _cudnn_gradients(*args)
        if name.startswith("_fused_"):
            return None  # in place
        if name == "_to_copy" and args[0].is_meta and given.get("device") == torch.device("cpu"):
            return torch.empty(args[0].shape, dtype=given.get("dtype") or args[0].dtype)
        return func(*args, **given)


_counting: ContextVar[Counting] = ContextVar("counting")


def _launch(name: str) -> None:
    """Count a kernel that isn't an operation of torch, while something counts."""
    if counting := _counting.get(None):
        counting.launch(name)


def launches_of(name: str, args: Sequence[Any]) -> int:
    """Kernels that one operation launches on a GPU; libraries may split a product further."""
    if name == "_cudnn_rnn":
        inputs_TBE, num_layers = args[0], args[9]
        return cudnn_launches(len(inputs_TBE), args[7], num_layers, args[6])[0]
    if name == "_cudnn_rnn_backward":
        inputs_TBE, num_layers = args[0], args[13]
        zeros = sum(grad is None for grad in args[7:9]) + (args[5] is not None and args[9] is None)
        # The gradients of state that has none, and the weights' gradients, are filled with zeros.
        return cudnn_launches(len(inputs_TBE), args[11], num_layers, args[10])[1] + zeros + 1
    if name in ("addmm", "baddbmm", "addmv", "addbmm"):
        # The addend is copied first, unless it is a bias, which cuBLASLt adds, or the result.
        return 1 if args[0].dim() == 1 and name == "addmm" else 2
    if name in TWO_KERNELS:
        return 2
    if name == "cumsum" and args[0].dim() == 1:
        return 2  # CUB's
    if name == "_foreach_norm":
        return 2 + many_tensors(args[:1])  # zeros before, the sums of the blocks' sums after
    if name.startswith("_foreach"):
        return many_tensors([part for part in args if isinstance(part, (list, tuple))])
    if name.startswith("_fused_adam"):
        return many_tensors(args[:4])
    if name.startswith("_fused_sgd"):
        return many_tensors([part for part in args[:3] if part])
    return 1


def many_tensors(lists: Sequence[Sequence[Tensor]]) -> int:
    """Launches of a multi-tensor kernel over so many lists of tensors."""
    most = TENSORS_AT_ONCE[len(lists)]
    found = tensors = blocks = 0
    for tensor in lists[0]:
        tensors += 1
        for _ in range(-(-tensor.numel() // BLOCK_NUMBERS)):
            blocks += 1
            if blocks == BLOCKS_AT_ONCE:
                found, tensors, blocks = found + 1, 1, 0
        if tensors == most and blocks:
            found, tensors, blocks = found + 1, 0, 0
    return found + (blocks > 0)


def cudnn_launches(steps: int, hidden_size: int, num_layers: int, mode: int) -> tuple[int, int]:
    """Kernels that cuDNN is assumed to launch for all layers, forward and backward.

    For each layer a product with the inputs of all steps and its gradients: by the inputs, by both
    weights and by the biases. The recurrence is one persistent kernel up to the widths at which
    torch asks for it (`use_rnn_persist_small_h` in `aten/src/ATen/native/cudnn/RNN.cpp`); above,
    each step is a product and an element-wise kernel. NVIDIA doesn't document the numbers: a
    profile may show others.
    """
    forward_limit, backward_limit = (384, 256) if mode == CUDNN_MODES["rnn_tanh"] else (192, 128)
    forward = 1 + (1 if hidden_size <= forward_limit else 2 * steps)
    backward = 4 + (1 if hidden_size <= backward_limit else 2 * steps)
    return forward * num_layers, backward * num_layers


def _cudnn_gradients(*args: Any) -> tuple[object, ...]:
    inputs_TBE, weights, hidden, cell = args[0], args[1], args[4], args[5]
    return (
        torch.empty_like(inputs_TBE),
        torch.empty_like(hidden),
        None if cell is None else torch.empty_like(cell),
        [torch.empty_like(weight) for weight in weights],
    )


def _devices(values: object) -> set[str]:
    if isinstance(values, Tensor):
        # A number that is passed to a kernel.
        return set() if values.device.type == "cpu" and values.dim() == 0 else {values.device.type}
    if isinstance(values, (list, tuple)):
        return set().union(*(_devices(value) for value in values))
    return set()


def _on_device(func: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """The operation computes on the device: it has a tensor there, or makes one."""
    found = _devices(list(args)) | _devices(list(kwargs.values()))
    device = kwargs.get("device")
    return "meta" in (found or {torch.device(device).type if device is not None else "cpu"})


def _crosses(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Copies between host and device."""
    if name == "copy_":
        return len(_all_devices(args[:2])) > 1
    if name == "_to_copy":
        target = kwargs.get("device")
        return target is not None and torch.device(target).type != args[0].device.type
    return False


def _all_devices(tensors: Sequence[Tensor]) -> set[str]:
    return {tensor.device.type for tensor in tensors}


COLUMNS = *PHASES, "total", "cudnn calls", "waits", "host copies"


def table(shape: Shape, cells: Iterable[str] = tuple(CELLS)) -> Iterator[str]:
    """Lines with the launches of each cell."""
    yield f"{'':8}" + "".join(f"{column:>12}" for column in COLUMNS)
    for cell in cells:
        found = launches(cell, shape)
        yield f"{cell:8}" + "".join(f"{found[column]:12,}" for column in COLUMNS)


def main() -> None:
    """Print the launches of every cell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--operations", choices=sorted(CELLS), help="list those of one cell")
    cell = parser.parse_args().operations
    for title, shape in (("The book's model", BOOK), ("Two layers of 1,024", LARGE)):
        sys.stdout.write(f"{title}, {shape.batch_size} × {shape.steps} tokens a step\n\n")
        sys.stdout.writelines(f"{line}\n" for line in table(shape, [cell] if cell else CELLS))
        if cell:
            operations = count_step(cell, shape).operations.most_common()
            sys.stdout.writelines(f"{number:8,} {name}\n" for name, number in operations)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
