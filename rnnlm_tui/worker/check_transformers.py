"""Load exported folders as any program with torch and transformers would, and report what they
compute: `python -I check_transformers.py`, with a JSON request on standard input.

This file is run by its path, in a process in which rnnlm_tui can't be imported.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any


class NoRnnlm(MetaPathFinder):
    """Refuses to import rnnlm_tui: an exported folder must do without."""

    def find_spec(self, name: str, *_: object) -> None:
        """Raise ImportError for rnnlm_tui; other finders look for everything else."""
        if name.partition(".")[0] == "rnnlm_tui":
            raise ImportError(f"an exported folder imports {name}")


def examine(folder: str, request: dict[str, Any], out: Path) -> list[int]:
    """Load one folder, its tokenizer too.

    Args:
        request: `ids`, whose logits are written to `out`; `prompt`, ids to continue greedily by
            `tokens` tokens.
        out: a safetensors file that is written.

    Returns:
        The greedy ids.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    prompt = torch.tensor([request["prompt"]])
    with torch.no_grad():
        logits = model(torch.tensor([request["ids"]])).logits[0]
        greedy: list[int] = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            repetition_penalty=1.0,
            max_new_tokens=request["tokens"],
        )[0, prompt.shape[1] :].tolist()
    save_file({"logits": logits.contiguous()}, out)
    return greedy


def end_with_parent() -> None:
    """Let Linux kill this process with its parent: `rnnlm_tui.system.processes` has more, but can't
    be imported here."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != int(os.environ["RNNLM_TUI_PARENT"]):
            sys.exit(128 + signal.SIGKILL)


def main() -> int:
    """Examine the requested folders; print one JSON line with their results at the end."""
    end_with_parent()
    sys.meta_path.insert(0, NoRnnlm())
    requests = json.loads(sys.stdin.buffer.read())
    found = [examine(one["folder"], one, Path(one["out"])) for one in requests]
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
