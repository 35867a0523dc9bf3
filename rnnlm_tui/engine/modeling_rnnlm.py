"""Recurrent language models for Hugging Face transformers: all cells in one file, in plain PyTorch.

This file needs only torch and transformers (5 or later). It computes each cell step by step, as
its formula reads, so it is for reading and sampling; rnnlm-tui, which trained and exported the
model, has the fast versions.

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    inputs = tokenizer("Once upon a time", return_tensors="pt")
    print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))

Shapes: B texts, T tokens, E embedding width, H hidden size, N heads of D = H / N units, V types.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

LayerState = tuple[Tensor, ...]
"""What one layer remembers: tensors whose first dimension is B. Zeros before the first token. A
transformer's cache of keys and values is one too."""


class RnnlmConfig(PretrainedConfig):
    """The shape of a model; see config.json."""

    model_type = "rnnlm"
    attribute_map = {"num_hidden_layers": "num_layers"}

    def __init__(
        self,
        vocab_size: int = 256,
        embedding_dim: int = 128,
        hidden_size: int = 128,
        num_layers: int = 2,
        cell_type: str = "elman",
        num_heads: int = 4,
        attention_window: int = 256,
        dropout: float = 0.0,
        tie_word_embeddings: bool = False,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.cell_type = cell_type
        self.num_heads = num_heads
        self.attention_window = attention_window
        self.dropout = dropout
        super().__init__(tie_word_embeddings=tie_word_embeddings, **others)


class Elman(nn.Module):
    """h = tanh(W x + U h + b). The state is (h,)."""

    names = ("h",)

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(hidden, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(hidden))
        self.shapes = ((hidden,),)

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        (h,) = state
        h = torch.tanh(F.linear(x, self.weight_ih_l0, self.bias_ih_l0) + h @ self.weight_hh_l0.T)
        return h, (h,)


class Lstm(nn.Module):
    """i, f, o = sigmoid(W x + U h + b) each, g = tanh(W x + U h + b), c = f c + i g,
    h = o tanh(c). The state is (h, c); the rows of the weights are those of i, f, g, o."""

    names = ("h", "c")

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden))
        self.shapes = ((hidden,), (hidden,))

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        h, c = state
        sums = F.linear(x, self.weight_ih_l0, self.bias_ih_l0) + h @ self.weight_hh_l0.T
        i, f, g, o = sums.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class Gru(nn.Module):
    """r, z = sigmoid(W x + b + U h + c) each, n = tanh(W x + b + r (U h + c)),
    h = (1 - z) n + z h. The state is (h,); the rows of the weights are those of r, z, n."""

    names = ("h",)

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * hidden, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * hidden))
        self.bias_hh_l0 = nn.Parameter(torch.empty(3 * hidden))
        self.shapes = ((hidden,),)

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        (h,) = state
        r, z, n = F.linear(x, self.weight_ih_l0, self.bias_ih_l0).chunk(3, dim=-1)
        r_h, z_h, n_h = F.linear(h, self.weight_hh_l0, self.bias_hh_l0).chunk(3, dim=-1)
        n = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
        z = torch.sigmoid(z + z_h)
        h = (1 - z) * n + z * h
        return h, (h,)


class MinGru(nn.Module):
    """minGRU (arXiv 2410.01201): z = sigmoid(W x + b), c = W x + b, h = (1 - z) h + z c.
    The state is (h,); the rows of the weights are those of z, c."""

    names = ("h",)

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden, inputs))
        self.bias_ih = nn.Parameter(torch.empty(2 * hidden))
        self.shapes = ((hidden,),)

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        (h,) = state
        z, c = F.linear(x, self.weight_ih, self.bias_ih).chunk(2, dim=-1)
        z = torch.sigmoid(z)
        h = (1 - z) * h + z * c
        return h, (h,)


class MinLstm(nn.Module):
    """minLSTM (arXiv 2410.01201): f, i = sigmoid(W x + b) each, c = W x + b,
    h = (f h + i c) / (f + i). The state is (h,); the rows of the weights are those of i, c, f."""

    names = ("h",)

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden, inputs))
        self.bias_ih = nn.Parameter(torch.empty(3 * hidden))
        self.shapes = ((hidden,),)

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        (h,) = state
        i, c, f = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, dim=-1)
        share = torch.sigmoid(F.softplus(-f) - F.softplus(-i))  # i / (f + i), never 0 / 0
        h = (1 - share) * h + share * c
        return h, (h,)


class Slstm(nn.Module):
    """sLSTM (arXiv 2405.04517, equations 8 to 17): z = tanh, i = exp, f and o = sigmoid of
    W x + R h + b, with R for each head; c = f c + i z, n = f n + i, h = o c / n.

    The exponentials are stabilised by m: the state holds c exp(-m) and n exp(-m). The state is
    (c, n, h, m), zeros when empty; the rows of the weights are, head by head, those of o, z, i, f.
    """

    names = ("c", "n", "h", "m")

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden // heads))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden))
        self.shapes = ((hidden,),) * 4

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        c, n, h, m = state
        m = torch.where(n == 0, -1e9, m)  # an empty memory has no scale
        R = self.weight_hh.unflatten(0, (self.heads, -1))  # (N, 4 D, D)
        from_state = torch.einsum("bnd,ngd->bng", h.unflatten(-1, (self.heads, -1)), R)
        sums = F.linear(x, self.weight_ih, self.bias_ih) + from_state.flatten(1)
        gates = sums.unflatten(-1, (self.heads, 4, -1))  # (B, N, 4, D)
        o, z, i, f = (gate.flatten(1) for gate in gates.unbind(2))
        log_f = F.logsigmoid(f)
        m_new = torch.maximum(i, log_f + m)
        i, f = torch.exp(i - m_new), torch.exp(log_f + m - m_new)
        c = f * c + i * torch.tanh(z)
        n = f * n + i
        h = torch.sigmoid(o) * c / n
        return h, (c, n, h, m_new)


class Mlstm(nn.Module):
    """mLSTM (arXiv 2405.04517, equations 19 to 27): for each head C = f C + i v k^T,
    n = f n + i k, h = o C q / max(|n q|, 1), with i = exp and f, o = sigmoid of W x + b.

    Stabilised like sLSTM: the state holds C exp(-m) and n exp(-m), and the 1 becomes exp(-m). The
    state is (C, n, m) of shapes (B, N, D, D), (B, N, D) and (B, N); the rows of the weights are
    those of q, k, v and o, H each, then those of i and f, one for each head.
    """

    names = ("C", "n", "m")

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.hidden, self.heads, self.size = hidden, heads, hidden // heads
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden + 2 * heads, inputs))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden + 2 * heads))
        self.shapes = ((heads, self.size, self.size), (heads, self.size), (heads,))

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        C, n, m = state
        sums = F.linear(x, self.weight_ih, self.bias_ih)
        q, k, v, o, i, f = sums.split([self.hidden] * 4 + [self.heads] * 2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        q = q / math.sqrt(self.size)
        log_f = F.logsigmoid(f)
        m_new = torch.maximum(i, log_f + m)
        i, f = torch.exp(i - m_new).unsqueeze(-1), torch.exp(log_f + m - m_new).unsqueeze(-1)
        C = f.unsqueeze(-1) * C + (i * v).unsqueeze(-1) * k.unsqueeze(-2)
        n = f * n + i * k
        read = (C @ q.unsqueeze(-1)).squeeze(-1)
        least = torch.exp(-m_new.clamp(-80.0, math.log(1e6)))  # within float32
        divisor = torch.maximum((n * q).sum(-1).abs(), least)
        h = torch.sigmoid(o) * (read / divisor.unsqueeze(-1)).flatten(1)
        return h, (C, n, m_new)


class Transformer(nn.Module):
    """A decoder block: x = x + Wo attention(RMSNorm(x)), x = x + W2 relu(W1 RMSNorm(x) + b1) + b2.

    A token attends to itself and the window - 1 tokens before it. The state is (k, v, filled): keys
    and values of these tokens, the latest last, and 1 where there is one; so its size is fixed.
    Keys are kept as they are and rotated (arXiv 2104.09864) by their distance to the token.
    """

    names = ("k", "v", "filled")

    def __init__(
        self, inputs: int, hidden: int, heads: int, window: int = 256, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention = nn.Parameter(torch.empty(hidden))
        self.weight_qkv = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.weight_out = nn.Parameter(torch.empty(hidden, hidden))
        self.norm_mlp = nn.Parameter(torch.empty(hidden))
        self.weight_up = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_up = nn.Parameter(torch.empty(4 * hidden))
        self.weight_down = nn.Parameter(torch.empty(hidden, 4 * hidden))
        self.bias_down = nn.Parameter(torch.empty(hidden))
        self.shapes = ((window - 1, hidden), (window - 1, hidden), (window - 1,))

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        q, k, v = F.linear(self._norm(x, self.norm_attention), self.weight_qkv).chunk(3, dim=-1)
        new = k, v, torch.ones_like(k[:, 0])
        k, v, filled = (torch.cat([a, b.unsqueeze(1)], 1) for a, b in zip(state, new, strict=True))
        after = k[:, 1:], v[:, 1:], filled[:, 1:]
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        scores = torch.einsum("bnd,bsnd->bns", q, self._rotated(k)) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(filled.unsqueeze(1) == 0, -math.inf)
        read = torch.einsum("bns,bsnd->bnd", torch.softmax(scores, dim=-1), v).flatten(1)
        x = x + self._drop(F.linear(read, self.weight_out))
        raised = F.linear(self._norm(x, self.norm_mlp), self.weight_up, self.bias_up)
        x = x + self._drop(F.linear(torch.relu(raised), self.weight_down, self.bias_down))
        return x, after

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight

    def _rotated(self, k: Tensor) -> Tensor:
        """(B, S, N, D): each pair of units (p, D / 2 + p) turned back by the distance."""
        slots, pairs = k.shape[1], k.shape[-1] // 2
        distances = torch.arange(slots - 1, -1, -1, device=k.device, dtype=k.dtype)
        units = torch.arange(pairs, device=k.device, dtype=k.dtype)
        angles = -distances[:, None, None] * 10_000.0 ** (-units / max(1, pairs))
        cos, sin = torch.cos(angles), torch.sin(angles)
        a, b, rest = k[..., :pairs], k[..., pairs : 2 * pairs], k[..., 2 * pairs :]
        return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)

    def _drop(self, branch: Tensor) -> Tensor:
        return F.dropout(branch, self.dropout, self.training)


CELLS: dict[str, Callable[..., Any]] = {
    "elman": Elman,
    "lstm": Lstm,
    "gru": Gru,
    "mingru": MinGru,
    "minlstm": MinLstm,
    "slstm": Slstm,
    "mlstm": Mlstm,
    "transformer": Transformer,
}


@dataclass
class RnnlmState:
    """What the model remembers of the texts it has read: the counterpart of a transformer's cache,
    of the same size however long the texts are."""

    layers: tuple[LayerState, ...]
    length: int
    """Columns of `input_ids` that were read, padding included."""


@dataclass
class RnnlmOutput(ModelOutput):
    """What `forward` returns."""

    loss: Tensor | None = None
    """Mean cross-entropy in nats of `labels`, shifted by one."""
    logits: Tensor | None = None
    """(B, T, V)."""
    state: RnnlmState | None = None
    """After the last token; pass it back to continue the texts."""


class RnnlmForCausalLM(PreTrainedModel, GenerationMixin):
    """Embedding, recurrent layers, linear head."""

    config_class = RnnlmConfig
    main_input_name = "input_ids"
    _is_stateful = True  # a state can't be cut back to fewer tokens
    _no_split_modules = ()
    _tied_weights_keys = {"output.weight": "embedding.weight"}

    def __init__(self, config: RnnlmConfig) -> None:
        super().__init__(config)
        if config.cell_type not in CELLS:
            raise ValueError(f"unknown cell_type {config.cell_type!r}: use one of {list(CELLS)}")
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        build = CELLS[config.cell_type]
        widths = [config.embedding_dim] + [config.hidden_size] * config.num_layers
        transforms = config.cell_type == "transformer"
        more = (config.attention_window, config.dropout) if transforms else ()
        cells = [build(i, o, config.num_heads, *more) for i, o in pairwise(widths)]
        self.layers = nn.ModuleList(cells)
        self.state_shapes = [cell.shapes for cell in cells]
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=not transforms)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        return self.output

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.output = value

    def initial_state(self, batch_size: int) -> RnnlmState:
        """The state before the first token."""
        zeros = self.embedding.weight.new_zeros
        layers = tuple(
            tuple(zeros((batch_size, *shape)) for shape in shapes) for shapes in self.state_shapes
        )
        return RnnlmState(layers, 0)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: RnnlmState | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int = 0,
        **others: Any,
    ) -> RnnlmOutput | tuple[Any, ...]:
        """Read tokens (B, T), from `state` on if it is given.

        Args:
            attention_mask: 0 where a token is padding: it doesn't change the state. (B, T), or
                longer, then the last T columns count.
            labels: (B, T), -100 where a token isn't scored.
            logits_to_keep: compute the logits of this many last tokens only; 0: of all.
        """
        if others.get("inputs_embeds") is not None:
            raise ValueError("inputs_embeds isn't supported: pass input_ids")
        batch, steps = input_ids.shape
        state = self.initial_state(batch) if state is None else state
        if state.layers and len(state.layers[0][0]) != batch:
            raise ValueError(
                f"the state and input_ids differ in their batch: {len(state.layers[0][0])} and"
                f" {batch}"
            )
        mask = None if attention_mask is None else attention_mask[:, -steps:].bool()
        layers = list(state.layers)
        features = self._drop(self.embedding(input_ids))
        outputs = []
        for t in range(steps):
            x = features[:, t]
            for index, layer in enumerate(self.layers):
                x, reached = layer(x, layers[index])
                if mask is not None:
                    reached = tuple(
                        torch.where(mask[:, t].view(-1, *[1] * (new.dim() - 1)), new, old)
                        for new, old in zip(reached, layers[index], strict=True)
                    )
                layers[index] = reached
                if not isinstance(layer, Transformer):  # which drops its branches
                    x = self._drop(x)
            outputs.append(x)
        hidden = torch.stack(outputs, dim=1)
        logits = self.output(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        after = None if use_cache is False else RnnlmState(tuple(layers), state.length + steps)
        result = RnnlmOutput(loss=loss, logits=logits, state=after)
        return result.to_tuple() if return_dict is False else result

    def _drop(self, features: Tensor) -> Tensor:
        return F.dropout(features, self.config.dropout, self.training)

    # What generate() needs.

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is the cache

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        state: RnnlmState | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = True,
        logits_to_keep: int | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        """The tokens that the state hasn't read yet."""
        if attention_mask is not None and not bool(attention_mask[:, -1].all()):
            raise ValueError(
                "a text ends with padding: pad on the left (tokenizer.padding_side = 'left')"
            )
        read = 0 if state is None else state.length
        if read >= input_ids.shape[1]:
            raise ValueError(
                f"the state has read {read} tokens and input_ids holds {input_ids.shape[1]}: pass"
                " the whole text with its continuation"
            )
        return {
            "input_ids": input_ids[:, read:],
            "attention_mask": None if attention_mask is None else attention_mask[:, read:],
            "state": state,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep or 0,
        }

    def _update_model_kwargs_for_generation(
        self, outputs: RnnlmOutput, model_kwargs: dict[str, Any], *rest: Any, **others: Any
    ) -> dict[str, Any]:
        updated: dict[str, Any] = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, *rest, **others
        )
        if outputs.state is not None:
            updated["state"] = outputs.state
        return updated

    @staticmethod
    def _reorder_cache(state: RnnlmState, beams: Tensor) -> RnnlmState:
        """The states of the beams that go on."""
        layers = tuple(
            tuple(part.index_select(0, beams.to(part.device)) for part in layer)
            for layer in state.layers
        )
        return RnnlmState(layers, state.length)
