"""`tests.tools.house`, on a package of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.house import measure

SOURCES = {
    "__init__.py": '"""A package."""\n',
    "low.py": (
        "from rnnlm_tui import high\n\nclass Base:\n    pass\n\nclass Created:\n    pass\n\nclass"
        " Twice:\n    pass\n"
    ),
    "high.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from rnnlm_tui.typed import Hint\n\n"
        "def work(a, b, c, d, e, f, g, h, i):\n    from rnnlm_tui.low import Base, Created\n"
        "    class Only(Base): ...\n    class Another(Created): ...\n    return Created()\n"
    ),
    "typed.py": (
        "from rnnlm_tui.high import work\n\nclass Hint:\n    def __init__(self, a, b, c, d, e, f,"
        " g, h): ...\n"
    ),
    "tui/__init__.py": '"""The app."""\n',
    "tui/app.py": (
        "import os\nfrom textual.app import App\nfrom textual._compositor import"
        " Compositor\n\nclass Mine(App[None]):\n    def __init__(self):\n        self._own ="
        " os._exit\n        self._driver = self._own\n    def look(self, screen, name):\n       "
        " return screen._compositor, getattr(screen, '_bindings'), screen._made_up\nfrom"
        " rnnlm_tui.tui import screen\n"
    ),
    "tui/screen.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rnnlm_tui.tui.app import"
        " Mine\n"
    ),
    "tui/_textual.py": "from textual._compositor import Compositor\n",
}


@pytest.fixture
def house(tmp_path: Path) -> dict[str, list[str]]:
    for name, text in SOURCES.items():
        path = tmp_path / "rnnlm_tui" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return measure(tmp_path)


def test_a_base_with_one_subclass_counts_unless_it_is_used_by_itself(
    house: dict[str, list[str]],
) -> None:
    assert house["bases with one subclass"] == ["rnnlm_tui.low.Base: rnnlm_tui.high.Only"]


def test_cycles_are_found_through_imports_in_functions_and_for_type_checkers(
    house: dict[str, list[str]],
) -> None:
    assert house["import cycles"] == ["rnnlm_tui.high ↔ rnnlm_tui.low"]
    assert house["import cycles through TYPE_CHECKING"] == [
        "rnnlm_tui.high ↔ rnnlm_tui.low ↔ rnnlm_tui.typed"
    ]


def test_uses_of_textuals_private_names_are_found_outside_the_file_for_them(
    house: dict[str, list[str]],
) -> None:
    assert house["uses of Textual's private names outside tui/_textual.py"] == [
        "tui/app.py:3: textual._compositor.Compositor",
        "tui/app.py:8: self._driver",
        "tui/app.py:10: getattr(screen, '_bindings')",
        "tui/app.py:10: screen._compositor",
    ]
