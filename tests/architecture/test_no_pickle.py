"""No pickle, reading or writing: opening one can run any program."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rnnlm_tui

PACKAGE = Path(rnnlm_tui.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = frozenset({"_pickle", "cPickle", "cloudpickle", "copyreg", "dill", "joblib", "marshal", "multiprocessing", "pickle", "pickletools", "shelve"})
"""Modules that read or write pickles, or code (multiprocessing sends everything as one)."""
READERS = {"torch": {"load", "save"}, "numpy": {"load", "save", "savez"}, "np": {"load", "save", "savez"}, "pandas": {"read_pickle"}}


def pickling(tree: ast.AST) -> Iterator[str]:
    """What a source imports or calls that opens or makes pickles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {name.name}" for name in node.names if name.name.partition(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            root = node.module.partition(".")[0]
            if root in MODULES or any(name.name in READERS.get(root, ()) for name in node.names):
                yield f"from {node.module} import {', '.join(name.name for name in node.names)}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in READERS.get(node.value.id, ()):
            yield f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.Call):
            yield from (f"{keyword.arg}=…" for keyword in node.keywords if keyword.arg in ("allow_pickle", "weights_only", "pickle_module"))
            yield from (
                "trust_remote_code"
                for keyword in node.keywords
                if keyword.arg == "trust_remote_code" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_source_opens_or_makes_a_pickle(path: Path) -> None:
    assert list(pickling(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "from torch import load",
        "torch.load('x')",
        "x = np.load",
        "np.memmap('x', allow_pickle=True)",
        "import multiprocessing.pool",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_every_way_to_a_pickle_is_seen(source: str) -> None:
    assert list(pickling(ast.parse(source)))
