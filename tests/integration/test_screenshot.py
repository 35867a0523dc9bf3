"""The README's pictures are there, and its dashboard is one of a running run."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from tests.tools.screenshot import DASHBOARD, FOLDER

README = Path(__file__).parents[2] / "README.md"


def test_readme_links_the_pictures_of_dashboard_comparison_and_prompt() -> None:
    pictures = re.findall(r"\]\(\.github/(\w+\.svg)\)", README.read_text(encoding="utf-8"))
    assert set(pictures) == {"train.svg", "compare.svg", "prompt.svg"}
    for name in pictures:
        root = ElementTree.parse(FOLDER / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_readme_shows_the_dashboard_of_a_running_run_at_80x24() -> None:
    found = DASHBOARD.search(README.read_text(encoding="utf-8"))
    assert found is not None
    lines = found[0].splitlines()
    assert "plain-otter ● running" in lines[0]
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
