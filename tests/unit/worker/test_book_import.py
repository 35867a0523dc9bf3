"""The tokenizer of an imported model, from a folder of any content."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.errors import TokenizerError
from rnnlm_tui.worker.book_import import _tokenizer_files


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"rnnlm_kind"', b"\xff", b"[" * 100_000])
def test_a_tokenizer_config_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json is not a JSON object: ."):
        _tokenizer_files(str(tmp_path), 300, tmp_path)
