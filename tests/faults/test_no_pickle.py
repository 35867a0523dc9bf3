"""A pickle in place of a checkpoint, one of its files or a tokenizer is refused by its kind and
never opened."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.corpus.tokenizers import load_pretrained
from rnnlm_tui.engine.checkpoint import load_model
from rnnlm_tui.errors import CheckpointError, InputError, TokenizerError
from rnnlm_tui.schema.config import TokenizerConfig
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, verify_checkpoint
from tests.unit.store.rows import new_run, write_model

pytestmark = pytest.mark.fault("a pickle or `.pt` file is offered as checkpoint or tokenizer")


class Trap:
    """Creates a folder when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.mkdir.__globals__["os"].mkdir, (str(self.sprung),)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that records being opened; at the end nothing has opened it."""
    sprung = tmp_path / "sprung"
    content = pickle.dumps(Trap(sprung))
    pickle.loads(content)
    assert sprung.is_dir(), "the trap works"
    sprung.rmdir()
    yield content
    assert not sprung.exists(), "a pickle was opened"


def archive(path: Path, trap: bytes) -> None:
    """A `.pt` file as torch.save writes one since 1.6: a zip with the pickle inside."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", trap)
        file.writestr("archive/version", "3\n")


@pytest.fixture
def checkpoint() -> Path:
    """A checkpoint of a run."""
    return write_checkpoint(new_run(), 100, write_model, None, {})


def list_in_manifest(checkpoint: Path, name: str) -> None:
    """Correct the manifest for a replaced file, as an attacker could."""
    manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
    content = (checkpoint / name).read_bytes()
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / MANIFEST_NAME).write_text(Manifest.model_validate(manifest).text())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "scheduler.PT", "data.npy"])
def test_a_pickle_in_a_checkpoint_is_refused_unopened(
    checkpoint: Path, trap: bytes, name: str
) -> None:
    (checkpoint / name).write_bytes(trap)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="refused to open") as caught:
            verify_checkpoint(checkpoint)
        assert str(checkpoint / name) in caught.value.message
        list_in_manifest(checkpoint, name)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_pickle_under_the_name_of_a_checkpoints_file_is_never_opened(
    checkpoint: Path, trap: bytes, name: str
) -> None:
    shape = {"vocab_size": 9, "embedding_dim": 2, "hidden_size": 2, "num_layers": 1}
    (checkpoint / "config.json").write_text(
        json.dumps({"model_type": "rnnlm", "cell_type": "elman", **shape})
    )
    for write in (archive, Path.write_bytes):
        write(checkpoint / name, trap)
        for file in ("model.safetensors", "config.json"):
            list_in_manifest(checkpoint, file)
        verify_checkpoint(checkpoint)
        with pytest.raises(CheckpointError, match=name):
            load_model(checkpoint)


def test_a_pt_file_in_place_of_a_checkpoint_or_a_tokenizer_is_refused_by_its_kind(
    checkpoint: Path, trap: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, offered = checkpoint.parents[1].name, checkpoint.parent / "step-000000200.pt"
    archive(offered, trap)
    with pytest.raises(CheckpointError, match=r"step-000000200\.pt"):
        verify_checkpoint(offered)
    (tmp_path / "text.txt").write_text("The cat sat on the mat.\n" * 400)
    settings = (
        f"corpus.source={tmp_path / 'text.txt'}",
        "tokenizer.kind=pretrained",
        f"tokenizer.name={offered}",
        "tokenizer.vocab_size=100",
    )
    given = [part for field in settings for part in ("--set", field)]
    for verb, words in (
        (["sample", f"{run}@{offered}", "The"], "no checkpoint"),
        (["train", "--from", f"{run}@{offered}"], "no checkpoint"),
        (["train", "--detach", *given], "never opened"),
    ):
        assert command(verb) == InputError.exit_code
        said = capsys.readouterr().err
        assert words in said
        assert "Traceback" not in said


def test_code_beside_a_tokenizer_is_never_run(trap: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(trap)
    (folder / "vocab.pkl").write_bytes(trap)
    own = {"tokenizer_class": "TransfoXLTokenizer", "auto_map": {"AutoTokenizer": ["evil.A", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    (folder / "evil.py").write_text("class A: pass\n")
    with pytest.raises(TokenizerError):
        load_pretrained(TokenizerConfig(kind="pretrained", name=str(folder), vocab_size=100))
    assert "evil" not in sys.modules
