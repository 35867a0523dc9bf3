"""A model as an ONNX graph of one step: token ids and the state in, logits and the new state out.

Built from standard operators for any batch size; `onnx` is an optional dependency. Shape letters:
B texts, V types, E embedding, H hidden, N heads of D units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.engine.cells.mlstm import LARGEST_STABILISER, SMALLEST_STABILISER
from rnnlm_tui.engine.cells.slstm import EMPTY
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import InputError, install_extra

OPSET = 17
"""Understood by onnxruntime from 1.12 on."""
IR_VERSION = 8
"""The file format of that opset's time, so that old runtimes open the file."""
IDS, LOGITS, BATCH = "ids", "logits", "batch"
STATE_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "elman": ("h",),
        "lstm": ("h", "c"),
        "gru": ("h",),
        "mingru": ("h",),
        "minlstm": ("h",),
        "slstm": ("c", "n", "h", "m"),
        "mlstm": ("C", "n", "m"),
    }
)
"""The names of a layer's state tensors, in the order of `initial_state`."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StateTensor:
    """One state tensor of the graph."""

    input: str
    """`layer0.h`."""
    output: str
    """`layer0.h.next`."""
    shape: tuple[int, ...]
    """Without the batch dimension, which comes first."""


def require_onnx() -> None:
    """Refuse if onnx or onnxruntime isn't installed.

    Raises:
        InputError: names the missing packages and the command that installs them.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the format onnx needs {' and '.join(missing)}, which"
            f" {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f"install them, in the clone: {install_extra('export')}",
        )


def state_tensors(model: RecurrentLanguageModel) -> list[StateTensor]:
    """The state of all layers, in the order of the graph's inputs."""
    return [
        StateTensor(f"layer{index}.{name}", f"layer{index}.{name}.next", tuple(part.shape[1:]))
        for index, layer in enumerate(model.initial_state(1))
        for name, part in zip(STATE_NAMES[model.cell_type], layer, strict=True)
    ]


def onnx_model(model: RecurrentLanguageModel, version: str) -> Any:
    """The `onnx.ModelProto` of one step.

    Args:
        version: of rnnlm-tui, for the file.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    weights = {
        name: parameter.detach().cpu().numpy().copy()
        for name, parameter in model.named_parameters()
    }
    states = state_tensors(model)
    kinds = len(STATE_NAMES[model.cell_type])
    x = graph.node("Gather", graph.constant("embedding.weight", weights["embedding.weight"]), IDS)
    for index in range(model.num_layers):
        prefix = f"layers.{index}."
        layer = _Layer(
            graph,
            {
                name.removeprefix(prefix).removesuffix("_l0"): array
                for name, array in weights.items()
                if name.startswith(prefix)
            },
            f"layer{index}",
            model.hidden_size,
            model.num_heads,
        )
        own = states[index * kinds : (index + 1) * kinds]
        x, *after = _CELLS[model.cell_type](layer, x, [state.input for state in own])
        for state, reached in zip(own, after, strict=True):
            graph.name_output(reached, state.output)
    head = weights.get("output.weight", weights["embedding.weight"])
    graph.name_output(
        graph.node(
            "Gemm",
            x,
            "embedding.weight" if model.tie_weights else graph.constant("output.weight", head),
            graph.constant("output.bias", weights["output.bias"]),
            transB=1,
        ),
        LOGITS,
    )

    def value(name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, [BATCH, *shape])

    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "rnnlm_step",
            [value(IDS, (), TensorProto.INT64), *(value(one.input, one.shape) for one in states)],
            [
                value(LOGITS, (model.vocab_size,)),
                *(value(one.output, one.shape) for one in states),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rnnlm-tui",
        producer_version=version,
    )
    onnx.checker.check_model(proto)
    return proto


class _Graph:
    """Nodes and constants in order of creation."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: set[str] = set()

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return its name."""
        return self.nodes_of(operator, 1, *inputs, **attributes)[0]

    def nodes_of(
        self, operator: str, outputs: int, *inputs: str, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs, and return their names."""
        from onnx import helper

        names = tuple(f"v{len(self.nodes)}_{index}" for index in range(outputs))
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def name_output(self, value: str, name: str) -> None:
        """Give a value the name of an output of the graph."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant, once for each name."""
        from onnx import numpy_helper

        if name not in self._known:
            self._known.add(name)
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value: float) -> str:
        """A scalar constant."""
        return self.constant(f"number {value!r}", np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        """A constant list of integers: axes, sizes or a shape."""
        return self.constant(f"integers {values}", np.array(values, np.int64))


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's weights, and operations on values of its graph."""

    graph: _Graph
    weights: Mapping[str, Array]
    """By their names in the model, without `_l0`."""
    name: str
    hidden: int
    heads: int

    @property
    def size(self) -> int:
        """Units of one head."""
        return self.hidden // self.heads

    def weight(self, name: str) -> str:
        return self.graph.constant(f"{self.name}.{name}", self.weights[name])

    def linear(self, value: str, weight: str, bias: str | None = None) -> str:
        """value @ weight.T + bias."""
        inputs = [value, self.weight(weight)] + ([] if bias is None else [self.weight(bias)])
        return self.graph.node("Gemm", *inputs, transB=1)

    def op(self, operator: str, *values: str, **attributes: Any) -> str:
        return self.graph.node(operator, *values, **attributes)

    def split(self, value: str, *sizes: int) -> tuple[str, ...]:
        """Split the last dimension."""
        return self.graph.nodes_of("Split", len(sizes), value, self.graph.whole(*sizes), axis=-1)

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape all but the batch."""
        return self.op("Reshape", value, self.graph.whole(0, *shape))

    def widen(self, value: str, axis: int) -> str:
        return self.op("Unsqueeze", value, self.graph.whole(axis))

    def log_sigmoid(self, value: str) -> str:
        return self.op("Neg", self.op("Softplus", self.op("Neg", value)))

    def mix(self, share: str, candidate: str, before: str) -> str:
        """(1 - share) before + share candidate."""
        rest = self.op("Mul", self.op("Sub", self.graph.number(1.0), share), before)
        return self.op("Add", rest, self.op("Mul", share, candidate))


def _elman(layer: _Layer, x: str, state: list[str]) -> tuple[str, ...]:
    sums = layer.op(
        "Add", layer.linear(x, "weight_ih", "bias_ih"), layer.linear(state[0], "weight_hh")
    )
    h = layer.op("Tanh", sums)
    return h, h


def _lstm(layer: _Layer, x: str, state: list[str]) -> tuple[str, ...]:
    h, c = state
    sums = layer.op("Add", layer.linear(x, "weight_ih", "bias_ih"), layer.linear(h, "weight_hh"))
    i, f, g, o = layer.split(sums, *[layer.hidden] * 4)
    kept = layer.op("Mul", layer.op("Sigmoid", f), c)
    written = layer.op("Mul", layer.op("Sigmoid", i), layer.op("Tanh", g))
    c = layer.op("Add", kept, written)
    h = layer.op("Mul", layer.op("Sigmoid", o), layer.op("Tanh", c))
    return h, h, c


def _gru(layer: _Layer, x: str, state: list[str]) -> tuple[str, ...]:
    sizes = [layer.hidden] * 3
    r, z, n = layer.split(layer.linear(x, "weight_ih", "bias_ih"), *sizes)
    r_h, z_h, n_h = layer.split(layer.linear(state[0], "weight_hh", "bias_hh"), *sizes)
    reset = layer.op("Sigmoid", layer.op("Add", r, r_h))
    new = layer.op("Tanh", layer.op("Add", n, layer.op("Mul", reset, n_h)))
    h = layer.mix(layer.op("Sigmoid", layer.op("Add", z, z_h)), state[0], new)
    return h, h


def _mingru(layer: _Layer, x: str, state: list[str]) -> tuple[str, ...]:
    z, c = layer.split(layer.linear(x, "weight_ih", "bias_ih"), *[layer.hidden] * 2)
    h = layer.mix(layer.op("Sigmoid", z), c, state[0])
    return h, h


def _minlstm(layer: _Layer, x: str, state: list[str]) -> tuple[str, ...]:
    i, c, f = layer.split(layer.linear(x, "weight_ih", "bias_ih"), *[layer.hidden] * 3)
    share = layer.op("Sigmoid", layer.op("Sub", layer.log_sigmoid(i), layer.log_sigmoid(f)))
    h = layer.mix(share, c, state[0])
    return h, h


def _slstm(layer: _Layer, x: str, state: list[str]) -> tuple[str, ...]:
    c, n, h, m = state
    heads, size = layer.heads, layer.size
    empty = layer.op("Equal", n, layer.graph.number(0.0))
    m = layer.op("Where", empty, layer.graph.number(EMPTY), m)
    by_head = layer.weights["weight_hh"].reshape(heads, 4 * size, size).transpose(0, 2, 1)
    from_state = layer.op(
        "MatMul",
        layer.reshape(h, heads, 1, size),
        layer.graph.constant(f"{layer.name}.weight_hh", by_head),
    )  # (B, N, 1, 4 D)
    sums = layer.op(
        "Add",
        layer.linear(x, "weight_ih", "bias_ih"),
        layer.reshape(from_state, 4 * layer.hidden),
    )
    gates = layer.split(layer.reshape(sums, heads, 4 * size), *[size] * 4)
    o, z, i, f = (layer.reshape(gate, layer.hidden) for gate in gates)
    kept = layer.op("Add", layer.log_sigmoid(f), m)
    m = layer.op("Max", i, kept)
    i = layer.op("Exp", layer.op("Sub", i, m))
    f = layer.op("Exp", layer.op("Sub", kept, m))
    c = layer.op("Add", layer.op("Mul", f, c), layer.op("Mul", i, layer.op("Tanh", z)))
    n = layer.op("Add", layer.op("Mul", f, n), i)
    h = layer.op("Div", layer.op("Mul", layer.op("Sigmoid", o), c), n)
    return h, c, n, h, m


def _mlstm(layer: _Layer, x: str, state: list[str]) -> tuple[str, ...]:
    memory, n, m = state
    heads, size = layer.heads, layer.size
    sums = layer.linear(x, "weight_ih", "bias_ih")
    *read_write, o, i, f = layer.split(sums, *[layer.hidden] * 4, heads, heads)
    q, k, v = (layer.reshape(part, heads, size) for part in read_write)
    q = layer.op("Div", q, layer.graph.number(math.sqrt(size)))
    kept = layer.op("Add", layer.log_sigmoid(f), m)
    m = layer.op("Max", i, kept)
    i = layer.widen(layer.op("Exp", layer.op("Sub", i, m)), -1)
    f = layer.widen(layer.op("Exp", layer.op("Sub", kept, m)), -1)
    written = layer.op("Mul", layer.widen(layer.op("Mul", i, v), -1), layer.widen(k, -2))
    memory = layer.op("Add", layer.op("Mul", layer.widen(f, -1), memory), written)
    n = layer.op("Add", layer.op("Mul", f, n), layer.op("Mul", i, k))
    read = layer.op("MatMul", memory, layer.widen(q, -1))
    matched = layer.op("MatMul", layer.widen(n, -2), layer.widen(q, -1))  # (B, N, 1, 1)
    bounded = layer.op(
        "Clip",
        m,
        layer.graph.number(SMALLEST_STABILISER),
        layer.graph.number(LARGEST_STABILISER),
    )
    least = layer.reshape(layer.op("Exp", layer.op("Neg", bounded)), heads, 1, 1)
    divisor = layer.op("Max", layer.op("Abs", matched), least)
    read = layer.reshape(layer.op("Div", read, divisor), layer.hidden)
    h = layer.op("Mul", layer.op("Sigmoid", o), read)
    return h, memory, n, m


_CELLS: Mapping[str, Callable[[_Layer, str, list[str]], tuple[str, ...]]] = MappingProxyType(
    {
        "elman": _elman,
        "lstm": _lstm,
        "gru": _gru,
        "mingru": _mingru,
        "minlstm": _minlstm,
        "slstm": _slstm,
        "mlstm": _mlstm,
    }
)
"""`cell_type` to the function that adds one step of a layer and returns its output and its new
state, as in `engine.cells`."""
