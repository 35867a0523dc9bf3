"""No pickles: reading one can run arbitrary code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rnnlm_tui

PACKAGE = Path(rnnlm_tui.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = frozenset(
    {
        "_pickle",
        "cPickle",
        "cloudpickle",
        "copyreg",
        "dill",
        "joblib",
        "marshal",
        "multiprocessing",
        "pickle",
        "pickletools",
        "shelve",
    }
)
"""Modules that read or write pickles or code (multiprocessing pickles whatever it sends)."""
ALLOWED = {
    "bench/children.py": [
        "from multiprocessing import Pipe",
        "from multiprocessing.connection import Connection",
    ],
    "engine/book.py": ["torch.load", "torch.save", "weights_only=…"],
    "worker/check_transformers.py": ["trust_remote_code"],
}
"""The book's own file is a pickle of tensors, read with `weights_only=True` in a process of its
own; an exported folder brings our own code; the pipe joins `bench` with its own children."""
READERS = {
    "torch": {"load", "save"},
    "numpy": {"load", "save", "savez"},
    "np": {"load", "save", "savez"},
    "pandas": {"read_pickle"},
}


def pickling(tree: ast.AST) -> Iterator[str]:
    """Imports and calls that read or write pickles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                f"import {name.name}"
                for name in node.names
                if name.name.partition(".")[0] in MODULES
            )
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            root = node.module.partition(".")[0]
            if root in MODULES or any(name.name in READERS.get(root, ()) for name in node.names):
                yield f"from {node.module} import {', '.join(name.name for name in node.names)}"
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in READERS.get(node.value.id, ())
        ):
            yield f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.Call):
            yield from (
                f"{keyword.arg}=…"
                for keyword in node.keywords
                if keyword.arg in ("allow_pickle", "weights_only", "pickle_module")
            )
            yield from (
                "trust_remote_code"
                for keyword in node.keywords
                if keyword.arg == "trust_remote_code"
                and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            )


def test_no_source_reads_or_writes_a_pickle() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {place}"
        for path in SOURCES
        for place in pickling(ast.parse(path.read_text()))
        if place not in ALLOWED.get(path.relative_to(PACKAGE).as_posix(), ())
    ]
    assert not found


def test_every_file_that_torch_loads_is_read_as_tensors_alone() -> None:
    loading = [
        call
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "torch.load"
    ]
    assert len(loading) == 1
    assert "weights_only=True" in ast.unparse(loading[0])


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
def test_every_way_to_read_or_write_a_pickle_is_found(source: str) -> None:
    assert list(pickling(ast.parse(source)))
