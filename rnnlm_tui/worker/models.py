"""Models that a sampler keeps loaded, with their tokenizers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch

from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
from rnnlm_tui.engine.checkpoint import GENERATION_NAME, load_model, read_json
from rnnlm_tui.engine.device import use_device
from rnnlm_tui.engine.generation import lay_out_weights
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import CheckpointError, DeviceError
from rnnlm_tui.schema.config import DataMode
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, verify_checkpoint
from rnnlm_tui.store.paths import SNAPSHOTS_NAME
from rnnlm_tui.store.states import state_shape
from rnnlm_tui.system.files import Stamp, stamp
from rnnlm_tui.worker.checkpointing import CONTEXT_LENGTH_KEY, DATA_MODE_KEY

KEPT_MODELS = 4
"""Checkpoints that stay loaded: as many as can be compared side by side."""

ModelKey = tuple[str, Stamp]
"""Path of a checkpoint and its manifest's stamp: two checkpoints may have the same path in turn."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint that is ready to be asked."""

    key: ModelKey
    model: RecurrentLanguageModel
    codec: TextCodec
    step: int
    tokenizer: str
    """SHA-256 of tokenizer.json."""
    data_mode: DataMode
    """What the model was trained on: a stream, or separate sentences."""
    context_length: int | None
    """Tokens of a sentence that it reads, in the data mode sentences; None: all."""

    @property
    def path(self) -> Path:
        """The checkpoint's directory."""
        return Path(self.key[0])

    @property
    def after_end(self) -> bool:
        """Prompts follow an end token, as sentences do in a stream."""
        return self.data_mode == "stream"

    @property
    def shape(self) -> str:
        """`elman, 2 x 192`."""
        return state_shape(self.model.cell_type, self.model.num_layers, self.model.hidden_size)


class ModelCache:
    """The last few checkpoints that were used.

    Args:
        device: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._name = device
        self._device: torch.device | None = None
        self._loaded: OrderedDict[ModelKey, LoadedModel] = OrderedDict()

    @property
    def device(self) -> torch.device:
        """
        Raises:
            DeviceError: this machine has no such device.
        """
        if self._device is None:
            try:
                self._device = use_device(self._name)
            except DeviceError as error:
                raise DeviceError(error.message, hint="sample on the CPU: --device cpu") from None
        return self._device

    def get(self, checkpoint: str) -> LoadedModel:
        """The checkpoint in this directory, loaded if it isn't yet. A snapshot that is loaded stays
        usable after its files were removed, as those of all but the newest snapshots are.

        Raises:
            CheckpointError: it is damaged, missing or of the wrong kind.
            DeviceError: this machine has no such device.
        """
        path = Path(checkpoint)
        key = (checkpoint, stamp(path / MANIFEST_NAME))
        is_snapshot = path.parent.name == SNAPSHOTS_NAME
        if is_snapshot and key[1] == stamp(""):
            key = next((other for other in self._loaded if other[0] == checkpoint), key)
            if key not in self._loaded:
                raise CheckpointError(
                    f"snapshot not found: {path}",
                    hint="only a run's newest snapshots are kept: sample from RUN@now again",
                )
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        while len(self._loaded) >= KEPT_MODELS:
            self._loaded.popitem(last=False)
        manifest, model, codec = load_verified(path, self.device)
        lay_out_weights(model)
        data_mode, context_length = read_data_mode(path)
        loaded = LoadedModel(
            key=key,
            model=model,
            codec=codec,
            step=manifest.step,
            tokenizer=manifest.files[TOKENIZER_NAME].sha256,
            data_mode=data_mode,
            context_length=context_length,
        )
        self._loaded[key] = loaded
        return loaded

    def clear(self) -> None:
        """Free all models."""
        self._loaded.clear()
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.empty_cache()


def load_verified(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[Manifest, RecurrentLanguageModel, TextCodec]:
    """Verify a checkpoint, and load it.

    Raises:
        CheckpointError: it is damaged, missing or of the wrong kind.
    """
    manifest = verify_checkpoint(path)
    model, codec = load_model(path, device), TextCodec(path)
    if codec.vocab_size != model.vocab_size:
        raise CheckpointError(
            f"{path} has a tokenizer with {counted(codec.vocab_size, 'type')} for a model with"
            f" {model.vocab_size:,}"
        )
    return manifest, model, codec


def load_export(path: Path, device: torch.device | str) -> LoadedModel:
    """Load an exported checkpoint, or a copied one, without its manifest.

    Raises:
        CheckpointError: a file is damaged, missing or of the wrong kind.
        TokenizerError: the tokenizer is missing, or none of ours.
    """
    model, codec = load_model(path, device), TextCodec(path)
    lay_out_weights(model)
    key = str(path), stamp(path / "config.json")
    return LoadedModel(key, model, codec, 0, "", *read_data_mode(path))


def read_data_mode(path: Path) -> tuple[DataMode, int | None]:
    """The data mode and, for sentences, their longest length."""
    values = read_json(path, GENERATION_NAME)
    if values.get(DATA_MODE_KEY, "stream") != "sentences":
        return "stream", None
    length = values.get(CONTEXT_LENGTH_KEY)
    return "sentences", length if isinstance(length, int) and length > 0 else None
