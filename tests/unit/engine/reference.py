"""Each cell's equations as its paper has them, one time step after the other, on autograd alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from rnnlm_tui.engine.cells import CELLS, LayerState, RecurrentLayer

INPUTS, HIDDEN, HEADS = 5, 4, 2
"""Widths of a `drawn_layer`."""
Named = dict[str, Tensor]
Step = Callable[[Any, Tensor, LayerState], tuple[Tensor, LayerState, Named]]
"""From a layer, x_t and the state: h_t, the state after it, and the gates by name, with the tanh of
the candidate, or of an Elman layer's state, as `tanh`."""


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same normal numbers for the same shape."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def input_width(cell_type: str) -> int:
    """The width of a `drawn_layer`'s inputs: a transformer adds to them."""
    return HIDDEN if cell_type == "transformer" else INPUTS


def drawn_layer(
    cell_type: str,
    inputs: int = INPUTS,
    hidden: int = HIDDEN,
    heads: int = HEADS,
    *,
    dtype: torch.dtype = torch.float64,
) -> RecurrentLayer:
    """A layer with weights in ±0.7; a transformer's attends to five tokens."""
    layer = CELLS[cell_type](inputs, hidden, heads)
    layer.attention_window = 5
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in cast(nn.Module, layer).to(dtype).parameters():
            parameter.uniform_(-0.7, 0.7, generator=generator)
    return layer


@dataclass(frozen=True, slots=True)
class Expected:
    """What a layer has to compute."""

    outputs: Tensor
    state: LayerState
    """After the last step."""
    gates: Named
    """Of all steps, without the tanh."""
    tanh: Tensor | None


def expected(
    cell_type: str, layer: RecurrentLayer, inputs_TBE: Tensor, state: LayerState
) -> Expected:
    """The equations of a cell with a layer's weights."""
    parts, outputs, inside = len(state), [], list[Named]()
    for x in inputs_TBE:
        h, state, named = EQUATIONS[cell_type](layer, x, state)
        outputs.append(h)
        inside.append(named)
    gates = {name: torch.stack([named[name] for named in inside]) for name in inside[0]}
    tanh = gates.pop("tanh", None)
    return Expected(torch.stack(outputs), state[:parts], gates, tanh)


def elman(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """The textbook's formula."""
    (h,) = state
    h = torch.tanh(x @ layer.weight_ih_l0.t() + h @ layer.weight_hh_l0.t() + layer.bias_ih_l0)
    return h, (h,), {"tanh": h}


def lstm(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000)."""
    h, c = state
    sums = x @ layer.weight_ih_l0.t() + h @ layer.weight_hh_l0.t() + layer.bias_ih_l0
    i, f, g, o = sums.chunk(4, 1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return h, (h, c), {"input": i, "forget": f, "output": o, "tanh": g}


def gru(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """Cho et al. (2014), with the reset after the product."""
    (h,) = state
    from_input = (x @ layer.weight_ih_l0.t() + layer.bias_ih_l0).chunk(3, 1)
    from_state = (h @ layer.weight_hh_l0.t() + layer.bias_hh_l0).chunk(3, 1)
    r = torch.sigmoid(from_input[0] + from_state[0])
    z = torch.sigmoid(from_input[1] + from_state[1])
    n = torch.tanh(from_input[2] + r * from_state[2])
    h = (1 - z) * n + z * h
    return h, (h,), {"reset": r, "update": z, "tanh": n}


def mingru(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """The sequential form of Feng et al. (2024), section 3.1."""
    (h,) = state
    z, candidate = (x @ layer.weight_ih.t() + layer.bias_ih).chunk(2, 1)
    z = 1 / (1 + torch.exp(-z))
    h = (1 - z) * h + z * candidate
    return h, (h,), {"update": z}


def minlstm(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """The sequential form of Feng et al. (2024), section 3.2, the gates divided by their sum."""
    (h,) = state
    i, candidate, f = (x @ layer.weight_ih.t() + layer.bias_ih).chunk(3, 1)
    i, f = torch.sigmoid(i), torch.sigmoid(f)
    i, f = i / (f + i), f / (f + i)
    h = f * h + i * candidate
    return h, (h,), {"input": i, "forget": f}


def slstm(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """Equations 8 to 14 of Beck et al. (2024) as they stand: only the state that is passed on, and
    the input gate, are divided by exp(m) of equation 15."""
    c, n, h, m = state
    heads, (batch, hidden) = layer.num_heads, h.shape
    recurrent = layer.weight_hh.view(heads, 4, hidden // heads, hidden // heads)
    mixed = torch.einsum("bnd,ngcd->bngc", h.view(batch, heads, -1), recurrent)
    sums = (x @ layer.weight_ih.t() + layer.bias_ih).view(batch, heads, 4, -1) + mixed
    o, z, i, f = (part.reshape(batch, hidden) for part in sums.unbind(2))
    o, z, f = torch.sigmoid(o), torch.tanh(z), torch.sigmoid(f)
    reached = torch.where(n == 0, i, torch.maximum(torch.log(f) + m, i))
    c = f * c * torch.exp(m) + torch.exp(i) * z
    n = f * n * torch.exp(m) + torch.exp(i)
    h = o * c / n
    gates = {"input": torch.exp(i - reached), "forget": f, "output": o, "tanh": z}
    return h, (c / torch.exp(reached), n / torch.exp(reached), h, reached), gates


def mlstm(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """Equations 19 to 27 of Beck et al. (2024) as they stand: only the state that is passed on, and
    the input gate, are divided by exp(m) of equation 15. A layer's state lacks the factor of the
    key, since a layer has it at the query."""
    memory, normaliser, m, *own = state
    batch, heads, width = normaliser.shape
    sums = x @ layer.weight_ih.t() + layer.bias_ih
    q, k, v, o = (part.reshape(batch, heads, width) for part in sums[:, : -2 * heads].chunk(4, 1))
    k, o = k / math.sqrt(width), torch.sigmoid(o)
    i, f = sums[:, -2 * heads :].chunk(2, 1)
    f = torch.sigmoid(f)
    reached = torch.maximum(torch.log(f) + m, i)
    # The reported gate is 1 at an empty memory whatever its m is.
    before = own[0] if own else m.masked_fill((normaliser == 0).all(-1), -torch.inf)
    of_gate = torch.maximum(torch.log(f) + before, i)
    scale = (torch.exp(m) / math.sqrt(width))[..., None]
    c, n = memory * scale[..., None], normaliser * scale
    c = f[..., None, None] * c + torch.exp(i)[..., None, None] * v[..., None] * k[..., None, :]
    n = f[..., None] * n + torch.exp(i)[..., None] * k
    divisor = torch.clamp((n * q).sum(-1).abs(), min=1)
    h = (o * (c @ q[..., None])[..., 0] / divisor[..., None]).flatten(1)
    scale = (torch.exp(reached) / math.sqrt(width))[..., None]
    gates = {"input": torch.exp(i - of_gate), "forget": f, "output": o.flatten(1)}
    return h, (c / scale[..., None], n / scale, reached, of_gate), gates


def transformer(layer: Any, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState, Named]:
    """Pre-norm attention over the tokens seen, one head and one token at a time, with the rotation
    of Su et al. (2021) as a complex factor exp(i m theta) of pairs of units."""
    heads = layer.num_heads
    size = x.shape[1] // heads
    pairs = size // 2
    theta = 10_000.0 ** (-torch.arange(pairs, dtype=torch.float64) / max(1, pairs))

    def norm(rows: Tensor, weight: Tensor) -> Tensor:
        return rows / torch.sqrt((rows * rows).mean(1, keepdim=True) + 1e-5) * weight

    def score(query: Tensor, key: Tensor, distance: int) -> Tensor:
        turned = [torch.complex(one[:, :pairs], one[:, pairs : 2 * pairs]) for one in (query, key)]
        factor = torch.exp(1j * distance * theta).to(turned[0].dtype)
        plain = (query * key)[:, 2 * pairs :].sum(1)
        return ((turned[0] * factor * turned[1].conj()).real.sum(1) + plain) / math.sqrt(size)

    normed = norm(x, layer.norm_attention)
    query, key, value = (normed @ part.t() for part in layer.weight_qkv.chunk(3))
    keys, values = ([*seen.unbind(1), new] for seen, new in zip(state, (key, value), strict=True))
    read = []
    for head in range(heads):
        units = slice(head * size, (head + 1) * size)
        scores = [
            score(query[:, units], one[:, units], len(keys) - 1 - place)
            for place, one in enumerate(keys)
        ]
        shares = torch.stack(scores).exp()
        shares = shares / shares.sum(0)
        read.append(
            sum(share[:, None] * one[:, units] for share, one in zip(shares, values, strict=True))
        )
    x = x + torch.cat(read, 1) @ layer.weight_out.t()
    raised = norm(x, layer.norm_mlp) @ layer.weight_up.t() + layer.bias_up
    x = x + torch.clamp(raised, min=0) @ layer.weight_down.t() + layer.bias_down
    after = (torch.stack(rows[-layer.attention_window + 1 :], 1) for rows in (keys, values))
    return x, tuple(after), {}


EQUATIONS: Mapping[str, Step] = {
    "elman": elman,
    "lstm": lstm,
    "gru": gru,
    "mingru": mingru,
    "minlstm": minlstm,
    "slstm": slstm,
    "mlstm": mlstm,
    "transformer": transformer,
}
