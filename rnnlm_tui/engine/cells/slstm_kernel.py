"""Triton kernels of sLSTM's recurrence: all time steps of a layer in one launch, each way.

The memory is mixed within a head only, so a program can walk through all steps of one head and a
few rows of the batch without asking the others. Importing this module needs Triton, which comes
with torch's CUDA wheels on Linux.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlm_tui.engine.cells.base import LayerState
from rnnlm_tui.engine.cells.slstm_recurrence import Passed

ROWS_AT_ONCE = 16
"""Rows of the batch in a program: the fewest that tensor cores multiply."""
NARROW = 32
"""Units of a head up to which 4 warps are enough and loads of coming steps are started early; wider
heads take 8 warps, and their weights leave no shared memory for such loads on consumer GPUs."""


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _log_sigmoid(x):  # type: ignore[no-untyped-def]
    """min(x, 0) - log(1 + exp(-|x|)); the quotient restores what rounding 1 + u loses."""
    u = tl.exp(-tl.abs(x))
    one = 1.0 + u
    log = tl.where(one == 1.0, u, tl.log(one) * (u / tl.where(one == 1.0, 1.0, one - 1.0)))
    return tl.minimum(x, 0.0) - log


@triton.jit
def _one_minus_exp(x):  # type: ignore[no-untyped-def]
    """1 - exp(x) for x <= 0, also for an x near zero."""
    y = tl.exp(x)
    near = (y - 1.0) * (x / tl.where(y == 1.0, 1.0, tl.log(y)))
    return -tl.where(y == 1.0, x, tl.where(y < 0.5, y - 1.0, near))


@triton.jit(do_not_specialize=("steps", "batch", "heads"))  # type: ignore[untyped-decorator]
def _forward_kernel(  # type: ignore[no-untyped-def]
    projected,
    cell,
    normaliser,
    hidden,
    stabiliser,
    weight,
    gates,
    log_forgets,
    cells,
    normalisers,
    hiddens,
    stabiliser_after,
    steps,
    batch,
    heads,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    head = tl.program_id(0)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    inside = (rows < batch) & (columns < WIDTH)
    whole = heads * WIDTH
    in_state = rows * whole + head * WIDTH + columns  # (B, N·D)
    in_memory = (head * batch + rows) * WIDTH + columns  # (N, B, D)
    in_gates = (head * batch + rows) * 4 * WIDTH + columns  # (N, B, 4, D)
    in_projected = (rows * heads + head) * 4 * WIDTH + columns  # (B, N·4D)

    c = tl.load(cell + in_state, mask=inside, other=0.0)
    n = tl.load(normaliser + in_state, mask=inside, other=1.0)  # no 0 / 0 outside
    h = tl.load(hidden + in_state, mask=inside, other=0.0)
    m = tl.load(stabiliser + in_state, mask=inside, other=0.0)

    inputs = tl.arange(0, BLOCK)[:, None]
    square = (inputs < WIDTH) & (columns < WIDTH)
    in_weight = head * 4 * WIDTH * WIDTH + columns * WIDTH + inputs
    weight_o = tl.load(weight + in_weight, mask=square, other=0.0)
    weight_z = tl.load(weight + WIDTH * WIDTH + in_weight, mask=square, other=0.0)
    weight_i = tl.load(weight + 2 * WIDTH * WIDTH + in_weight, mask=square, other=0.0)
    weight_f = tl.load(weight + 3 * WIDTH * WIDTH + in_weight, mask=square, other=0.0)

    for _ in range(steps):
        o = tl.load(projected + in_projected, mask=inside, other=0.0)
        z = tl.load(projected + in_projected + WIDTH, mask=inside, other=0.0)
        i = tl.load(projected + in_projected + 2 * WIDTH, mask=inside, other=0.0)
        f = tl.load(projected + in_projected + 3 * WIDTH, mask=inside, other=0.0)
        o = tl.sigmoid(tl.dot(h, weight_o, o, input_precision=PRECISION))
        z = _tanh(tl.dot(h, weight_z, z, input_precision=PRECISION))
        i = tl.dot(h, weight_i, i, input_precision=PRECISION)
        f = tl.dot(h, weight_f, f, input_precision=PRECISION)
        log_f = _log_sigmoid(f)
        kept = log_f + m
        m = tl.maximum(i, kept)
        i = tl.exp(i - m)
        f = tl.exp(kept - m)
        c = f * c + i * z
        n = f * n + i
        h = o * (c / n)
        tl.store(gates + in_gates, o, mask=inside)
        tl.store(gates + in_gates + WIDTH, z, mask=inside)
        tl.store(gates + in_gates + 2 * WIDTH, i, mask=inside)
        tl.store(gates + in_gates + 3 * WIDTH, f, mask=inside)
        tl.store(log_forgets + in_memory, log_f, mask=inside)
        tl.store(cells + in_memory, c, mask=inside)
        tl.store(normalisers + in_memory, n, mask=inside)
        tl.store(hiddens + in_state, h, mask=inside)
        projected += batch * 4 * whole
        gates += batch * 4 * whole
        log_forgets += batch * whole
        cells += batch * whole
        normalisers += batch * whole
        hiddens += batch * whole
    tl.store(stabiliser_after + in_memory, m, mask=inside)


@triton.jit(do_not_specialize=("steps", "batch", "heads"))  # type: ignore[untyped-decorator]
def _backward_kernel(  # type: ignore[no-untyped-def]
    hidden_grads,
    gates,
    log_forgets,
    cells,
    normalisers,
    hiddens,
    cell,
    normaliser,
    weight,
    projected_grads,
    cell_grad,
    normaliser_grad,
    hidden_grad,
    steps,
    batch,
    heads,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    head = tl.program_id(0)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    inside = (rows < batch) & (columns < WIDTH)
    whole = heads * WIDTH
    in_state = rows * whole + head * WIDTH + columns
    in_memory = (head * batch + rows) * WIDTH + columns
    in_gates = (head * batch + rows) * 4 * WIDTH + columns
    in_projected = (rows * heads + head) * 4 * WIDTH + columns

    first_c = tl.load(cell + in_state, mask=inside, other=0.0)
    first_n = tl.load(normaliser + in_state, mask=inside, other=1.0)

    outputs = tl.arange(0, BLOCK)[:, None]
    square = (outputs < WIDTH) & (columns < WIDTH)
    in_weight = head * 4 * WIDTH * WIDTH + outputs * WIDTH + columns
    weight_o = tl.load(weight + in_weight, mask=square, other=0.0)
    weight_z = tl.load(weight + WIDTH * WIDTH + in_weight, mask=square, other=0.0)
    weight_i = tl.load(weight + 2 * WIDTH * WIDTH + in_weight, mask=square, other=0.0)
    weight_f = tl.load(weight + 3 * WIDTH * WIDTH + in_weight, mask=square, other=0.0)

    dh = tl.zeros((ROWS, BLOCK), tl.float32)
    dc = tl.zeros((ROWS, BLOCK), tl.float32)
    dn = tl.zeros((ROWS, BLOCK), tl.float32)
    last = (steps - 1).to(tl.int64) * batch * whole
    hidden_grads += last
    projected_grads += 4 * last
    gates += 4 * last
    log_forgets += last
    cells += last
    normalisers += last
    hiddens += last
    for passed in range(steps):
        earlier = inside & (tl.zeros_like(rows) + passed < steps - 1)
        dh += tl.load(hidden_grads + in_state, mask=inside, other=0.0)
        o = tl.load(gates + in_gates, mask=inside, other=0.0)
        z = tl.load(gates + in_gates + WIDTH, mask=inside, other=0.0)
        i = tl.load(gates + in_gates + 2 * WIDTH, mask=inside, other=0.0)
        f = tl.load(gates + in_gates + 3 * WIDTH, mask=inside, other=0.0)
        log_f = tl.load(log_forgets + in_memory, mask=inside, other=0.0)
        n = tl.load(normalisers + in_memory, mask=inside, other=1.0)
        h = tl.load(hiddens + in_state, mask=inside, other=0.0)
        c_before = tl.load(cells - batch * whole + in_memory, mask=earlier, other=0.0)
        n_before = tl.load(normalisers - batch * whole + in_memory, mask=earlier, other=0.0)
        c_before = tl.where(earlier, c_before, first_c)
        n_before = tl.where(earlier, n_before, first_n)

        dc += o / n * dh
        dn -= h / n * dh
        do = (h - h * o) * dh
        dz = dc * (i - i * z * z)
        di = i * (dc * z + dn)
        df = f * _one_minus_exp(log_f) * (dc * c_before + dn * n_before)
        tl.store(projected_grads + in_projected, do, mask=inside)
        tl.store(projected_grads + in_projected + WIDTH, dz, mask=inside)
        tl.store(projected_grads + in_projected + 2 * WIDTH, di, mask=inside)
        tl.store(projected_grads + in_projected + 3 * WIDTH, df, mask=inside)
        dc *= f
        dn *= f
        dh = tl.dot(do, weight_o, input_precision=PRECISION)
        dh = tl.dot(dz, weight_z, dh, input_precision=PRECISION)
        dh = tl.dot(di, weight_i, dh, input_precision=PRECISION)
        dh = tl.dot(df, weight_f, dh, input_precision=PRECISION)
        hidden_grads -= batch * whole
        projected_grads -= batch * 4 * whole
        gates -= batch * 4 * whole
        log_forgets -= batch * whole
        cells -= batch * whole
        normalisers -= batch * whole
        hiddens -= batch * whole
    tl.store(cell_grad + in_state, dc, mask=inside)
    tl.store(normaliser_grad + in_state, dn, mask=inside)
    tl.store(hidden_grad + in_state, dh, mask=inside)


def forward(
    projected_TBG: Tensor, state: LayerState, weight: Tensor, heads: int
) -> tuple[Passed, Tensor]:
    """`SlstmKernel.forward` in one launch, for float32."""
    cell_BH, normaliser_BH, hidden_BH, stabiliser_BH = (part.contiguous() for part in state)
    steps, batch, width = len(projected_TBG), len(cell_BH), cell_BH.shape[1] // heads
    in_memory = steps, heads, batch, width
    passed = Passed(
        gates=cell_BH.new_empty(steps, heads, batch, 4, width),
        log_forget=cell_BH.new_empty(in_memory),
        cells=cell_BH.new_empty(in_memory),
        normalisers=cell_BH.new_empty(in_memory),
        hidden_TBH=cell_BH.new_empty(steps, batch, heads * width),
    )
    last = cell_BH.new_empty(heads, batch, width)
    with torch.cuda.device_of(cell_BH):  # type: ignore[no-untyped-call]
        _forward_kernel[(heads, triton.cdiv(batch, ROWS_AT_ONCE))](
            projected_TBG.contiguous(),
            cell_BH,
            normaliser_BH,
            hidden_BH,
            stabiliser_BH,
            weight.contiguous(),
            passed.gates,
            passed.log_forget,
            passed.cells,
            passed.normalisers,
            passed.hidden_TBH,
            last,
            steps,
            batch,
            heads,
            **settings(width),
        )
    return passed, last


def backward(
    from_hidden_TBH: Tensor, passed: Passed, state: LayerState, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`SlstmKernel.backward` in one launch, for float32."""
    steps, heads, batch, _, width = passed.gates.shape
    cell_BH, normaliser_BH = state[0].contiguous(), state[1].contiguous()
    projected_grad_TBG = cell_BH.new_empty(steps, batch, 4 * heads * width)
    cell_grad, normaliser_grad, hidden_grad = (torch.empty_like(cell_BH) for _ in range(3))
    with torch.cuda.device_of(cell_BH):  # type: ignore[no-untyped-call]
        _backward_kernel[(heads, triton.cdiv(batch, ROWS_AT_ONCE))](
            from_hidden_TBH.contiguous(),
            passed.gates,
            passed.log_forget,
            passed.cells,
            passed.normalisers,
            passed.hidden_TBH,
            cell_BH,
            normaliser_BH,
            weight.contiguous(),
            projected_grad_TBG,
            cell_grad,
            normaliser_grad,
            hidden_grad,
            steps,
            batch,
            heads,
            **settings(width),
        )
    return projected_grad_TBG, cell_grad, normaliser_grad, hidden_grad


def settings(width: int) -> dict[str, int | str]:
    """What the kernels are compiled for.

    Where torch's products may not round, those of narrow heads are three products of TF32, whose
    error is near that of float32. For 64 units these need 136 KiB of shared memory, where consumer
    GPUs have 99, so wide heads multiply in float32, without tensor cores; for up to 16 units that
    makes the compiler of Triton 3.9 end the process, on GPUs from compute capability 9.0 on.
    """
    exact = torch.get_float32_matmul_precision() == "highest"
    narrow = width <= NARROW
    return {
        "WIDTH": width,
        "ROWS": ROWS_AT_ONCE,
        "BLOCK": max(16, triton.next_power_of_2(width)),
        "PRECISION": ("tf32x3" if narrow else "ieee") if exact else "tf32",
        "num_warps": 4 if narrow else 8,
        "num_stages": 3 if narrow else 1,
    }
