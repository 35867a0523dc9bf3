"""Write a model as a folder that transformers loads: weights, config and the code of its cells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from rnnlm_tui.engine.checkpoint import MODEL_TYPE, WEIGHTS_NAME
from rnnlm_tui.schema.config import FILTERS

CODE = Path(__file__).with_name("modeling_rnnlm.py")
"""The code that the folder brings along."""


def write_transformers_files(
    folder: Path,
    checkpoint: Path,
    *,
    start_id: int | None,
    excluded: tuple[int, ...],
    pad_id: int,
    generation: Mapping[str, object],
) -> None:
    """Write config.json, generation_config.json, the weights and `modeling_rnnlm.py`.

    Args:
        checkpoint: the checkpoint's folder, verified.
        start_id: the token that an empty prompt consists of.
        excluded: tokens that are never generated.
        generation: the checkpoint's generation_config.json.

    Raises:
        OSError: a file can't be read or written.
    """
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config |= {
        "architectures": ["RnnlmForCausalLM"],
        "model_type": MODEL_TYPE,
        "auto_map": {
            "AutoConfig": f"{CODE.stem}.RnnlmConfig",
            "AutoModelForCausalLM": f"{CODE.stem}.RnnlmForCausalLM",
        },
        "bos_token_id": start_id,
        "eos_token_id": None,  # sampling goes on after the end of a sentence, as in rnnlm-tui
        "pad_token_id": pad_id,
        "dtype": "float32",
    }
    shutil.copyfile(checkpoint / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    shutil.copyfile(CODE, folder / CODE.name)
    ids = {"bos_token_id": start_id, "pad_token_id": pad_id}
    chosen = {
        **{name: index for name, index in ids.items() if index is not None},
        **_settings(generation),
        **{name: value for name, value in generation.items() if name.startswith("rnnlm_")},
        **({"suppress_tokens": list(excluded)} if excluded else {}),
    }
    for name, values in (("config.json", config), ("generation_config.json", chosen)):
        text = json.dumps(values, indent=2, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _settings(generation: Mapping[str, object]) -> dict[str, object]:
    """Our sampling settings as transformers' own: without those that need a tokenizer (stop
    strings), and for greedy text without those that only sampling has."""
    names = ["max_new_tokens", "repetition_penalty", "do_sample"]
    if generation.get("do_sample"):
        names += ["temperature", *FILTERS]
    off = {"min_p": 0.0}
    return {
        name: generation[name]
        for name in names
        if generation.get(name) is not None and generation[name] != off.get(name)
    }
