"""Steps on sentences of ever new lengths: `python -m tests.fakes.varied_shapes STEPS` writes how
many bytes the process grew by, from the tenth step on."""

from __future__ import annotations

import sys

import torch

from rnnlm_tui.engine.memory import held_bytes
from rnnlm_tui.engine.optim import build_optimizer
from rnnlm_tui.schema.config import OptimizerConfig
from tests.unit.engine.builders import built_model

VOCABULARY, SENTENCES, LONGEST = 2_000, 16, 30
FIRST_STEPS = 10


def main() -> None:
    torch.set_num_threads(1)
    model = built_model(
        vocab_size=VOCABULARY,
        embedding_dim=32,
        hidden_size=32,
        num_layers=1,
        cell_type="elman",
        tie_weights=False,
        pad_id=0,
        seed=1,
    )
    optimizer = build_optimizer(model.parameters(), OptimizerConfig(), 1e-3)
    draw = torch.Generator().manual_seed(1)
    before = 0
    for step in range(int(sys.argv[1])):
        lengths_B1 = torch.randint(6, LONGEST, (SENTENCES, 1), generator=draw)
        longest = int(lengths_B1.max())
        tokens_BT = torch.randint(1, VOCABULARY, (SENTENCES, longest), generator=draw)
        kept_BT = torch.arange(longest) < lengths_B1
        loss, _ = model(
            tokens_BT,
            model.initial_state(SENTENCES),
            tokens_BT.where(kept_BT, -100),
            kept_BT.flatten().nonzero().squeeze(1),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == FIRST_STEPS:
            before = held_bytes(torch.device("cpu"))
    sys.stdout.write(f"{held_bytes(torch.device('cpu')) - before}\n")


if __name__ == "__main__":
    main()
