"""A fixture of every test of the app: the style sheets are parsed once for all apps."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import pytest
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet


@pytest.fixture(scope="session", autouse=True)
def parsed_style_sheets() -> Iterator[None]:
    """Let apps share parsed rules: a seventh of a test's time goes into parsing them again."""
    parsed = dict[Hashable, list[RuleSet]]()
    parse = Stylesheet._parse_rules

    def parse_once(self: Stylesheet, css: str, **source: Any) -> list[RuleSet]:
        key = (css, *source.items(), *self._variables.items())
        if key not in parsed:
            parsed[key] = parse(self, css, **source)
        return parsed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", parse_once)
        yield
