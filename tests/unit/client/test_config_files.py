"""Config files: the user's editor."""

from __future__ import annotations

import pytest

from rnnlm_tui.client.config_files import editor_command
from rnnlm_tui.errors import InputError


def test_the_editor_is_the_users() -> None:
    path = {"PATH": "/bin:/usr/bin"}
    assert editor_command({"VISUAL": " ", "EDITOR": "sh -c 'x y'", **path}) == ["sh", "-c", "x y"]
    environments: tuple[dict[str, str], ...] = ({"EDITOR": "'unclosed"}, {})
    for environment in environments:
        with pytest.raises(InputError, match=r"(?i)editor"):
            editor_command({**environment, "PATH": "/nowhere"})
