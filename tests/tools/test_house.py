"""`tests.tools.house`, on a package of a few lines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tools.house import House, main, measure

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
    "wide.py": (
        "class Twice:\n    def __init__(self, a, b, c, d, e, f, g, *, h, i): ...\n"
        + "x = 1  # "
        + "x" * 100
        + "\n"
    ),
    "tui/__init__.py": '"""The app."""\n',
    "tui/app.py": (
        "import os\nfrom textual.app import App\nfrom textual._compositor import"
        " Compositor\n\nclass Mine(App[None]):\n    def __init__(self):\n        self._own ="
        " os._exit\n        self._driver = self._own\n    def look(self, screen, name):\n       "
        " return screen._compositor, getattr(screen, '_bindings'), screen._made_up\n"
    ),
    "tui/_textual.py": "from textual._compositor import Compositor\n",
    "cli/__init__.py": '"""The verbs."""\n',
    "cli/verb.py": "import typer\n\ndef verb(a, b, c, d, e, f, g, h, i=typer.Option()): ...\n",
}


@pytest.fixture
def house(tmp_path: Path) -> House:
    for name, text in SOURCES.items():
        path = tmp_path / "rnnlm_tui" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return measure(tmp_path)


def found(house: House, beginning: str) -> list[str]:
    """The places of the figure whose name begins so."""
    (places,) = (places for name, places in house.found.items() if name.startswith(beginning))
    return places


def test_modules_are_counted_and_the_largest_is_named(house: House) -> None:
    assert house.modules == len(SOURCES)
    assert house.largest == (10, "tui/app.py")


def test_short_files_with_one_importer_are_named(house: House) -> None:
    assert found(house, "files under") == [
        "low.py: 10 lines, imported by rnnlm_tui.high",
        "typed.py: 4 lines, imported by rnnlm_tui.high",
    ]


def test_a_base_with_one_subclass_counts_unless_it_is_used_by_itself(house: House) -> None:
    assert found(house, "bases") == ["rnnlm_tui.low.Base: rnnlm_tui.high.Only"]


def test_cycles_are_found_through_imports_in_functions_and_for_type_checkers(house: House) -> None:
    assert house.found["import cycles"] == ["rnnlm_tui.high ↔ rnnlm_tui.low"]
    assert house.found["import cycles through TYPE_CHECKING"] == [
        "rnnlm_tui.high ↔ rnnlm_tui.low ↔ rnnlm_tui.typed"
    ]


def test_uses_of_textuals_private_names_are_found_outside_the_file_for_them(house: House) -> None:
    assert found(house, "uses of Textual") == [
        "tui/app.py:3: textual._compositor.Compositor",
        "tui/app.py:8: self._driver",
        "tui/app.py:10: getattr(screen, '_bindings')",
        "tui/app.py:10: screen._compositor",
    ]


def test_long_lines_repeated_names_and_many_parameters_are_found(house: House) -> None:
    assert found(house, "lines over 100 columns in rnnlm_tui") == [
        "rnnlm_tui/wide.py:3: 109 columns"
    ]
    assert found(house, "class names") == ["Twice: low.py, wide.py"]
    assert found(house, "constructors") == ["wide.py:2: __init__, 9"]
    assert found(house, "functions") == ["high.py:5: work, 9"]


def test_two_checkouts_stand_side_by_side(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tmp_path / "rnnlm_tui", tmp_path / "after" / "rnnlm_tui")
    (tmp_path / "after" / "rnnlm_tui" / "wide.py").unlink()
    assert main([str(tmp_path), str(tmp_path / "after")]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split() == ["modules", "10", "9"]


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
