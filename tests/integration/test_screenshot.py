"""The README's pictures: a terminal's cells in exact colours, with charts drawn as shapes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.terminal import Terminal
from tests.tools.screenshot import DASHBOARD, FOLDER
from tests.tools.svg import DOT, MARGIN, WIDTH, picture_of

SVG = "{http://www.w3.org/2000/svg}"
WORDS = "val 58.1 <&>"
PROGRAM = (
    f"print('\\x1b[38;5;215m\\x1b[1m{WORDS}\\x1b[0m  \\u28ff\\u2801 \\x1b[48;5;236m"
    " \\u256d\\u2500\\u2501\\u2584\\x1b[0m', end='', flush=True); input()"
)
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def drawn() -> ElementTree.Element:
    """A line of coloured words, dots, lines and blocks."""
    with Terminal([sys.executable, "-c", PROGRAM], columns=40, rows=4) as terminal:
        terminal.wait_for("▄")
        return ElementTree.fromstring(picture_of(terminal))


def test_words_are_in_their_cells_in_their_colour(drawn: ElementTree.Element) -> None:
    text = next(iter(drawn.iter(f"{SVG}text")))
    assert text.text == WORDS
    assert (text.get("fill"), text.get("font-weight")) == ("#ffaf5f", "bold")
    assert (text.get("x"), text.get("textLength")) == (str(MARGIN), str(len(WORDS) * WIDTH))


def test_dots_lines_and_blocks_are_drawn_as_shapes(drawn: ElementTree.Element) -> None:
    dots = [path for path in drawn.iter(f"{SVG}path") if path.get("stroke-width") == str(DOT)]
    assert sum(path.get("d", "").count("M") for path in dots) == 9
    assert not re.search(
        "[\u2800-\u28ff─━╭▄]", "".join(text.text or "" for text in drawn.iter(f"{SVG}text"))
    )
    assert any(path.get("fill") == "#303030" for path in drawn.iter(f"{SVG}path"))


def test_readme_links_the_pictures_of_dashboard_comparison_and_prompt() -> None:
    pictures = re.findall(r"\]\(\.github/(\w+\.svg)\)", README.read_text(encoding="utf-8"))
    assert set(pictures) == {"train.svg", "compare.svg", "prompt.svg"}
    for name in pictures:
        root = ElementTree.parse(FOLDER / name).getroot()
        assert root.tag == f"{SVG}svg"
        assert (FOLDER / name).stat().st_size < 100_000


def test_readme_shows_the_dashboard_of_a_running_run_at_80x24() -> None:
    found = DASHBOARD.search(README.read_text(encoding="utf-8"))
    assert found is not None
    lines = found[0].splitlines()
    assert "plain-otter ● running" in lines[0]
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
