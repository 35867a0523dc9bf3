"""`rnnlm-tui docs`: the list of guides, one guide in a pager or as Markdown, unknown topics."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rnnlm_tui.cli.docs import rendered
from rnnlm_tui.docs import GUIDES, Guide, find_guide
from tests.terminal import Terminal
from tests.unit.cli.calls import Verbs

DOCS = [sys.executable, "-m", "rnnlm_tui", "docs"]


def test_docs_lists_every_guide_with_its_summary(verb: Verbs) -> None:
    out, err = verb("docs")
    rows = [line.split(maxsplit=1) for line in out.splitlines()]
    assert all([guide.topic, guide.summary] in rows for guide in GUIDES)
    assert "rnnlm-tui docs TOPIC" in err


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.topic)
def test_a_pipe_gets_the_markdown_without_the_marks_of_generated_tables(
    guide: Guide, verb: Verbs
) -> None:
    out, _ = verb(f"docs {guide.topic}")
    assert out.startswith(f"# {guide.title}\n")
    for mark in ("<!--", "\x1b", "\n\n\n"):
        assert mark not in out


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("relability", ('no guide "relability"', 'did you mean "reliability"?')),
        ("xyz", ('no guide "xyz"', "quick-start")),
        ("r", ('"r" matches 2 guides',)),
    ],
)
def test_an_unknown_topic_is_invalid_input_with_similar_names(
    topic: str, words: tuple[str, ...], verb: Verbs
) -> None:
    err = verb(f"docs {topic}", code=2)[1]
    assert all(one in err for one in words)
    assert find_guide("rel").topic == "reliability", "the first characters are enough"


def test_a_reader_that_stops_early_is_not_an_error() -> None:
    pipe = subprocess.Popen(
        [*DOCS, "configuration"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    pipe.stdout.close()
    assert pipe.stderr.read() == b""
    assert pipe.wait(timeout=60) == 0


def test_characters_missing_from_the_locale_are_replaced() -> None:
    environment = {
        **os.environ,
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    shown = subprocess.run(
        [*DOCS, "dashboard"], capture_output=True, env=environment, timeout=60, check=True
    )
    assert shown.stdout.isascii()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_guide_is_rendered_within_the_width_of_the_terminal(width: int) -> None:
    text = rendered(find_guide("performance"), width)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "**" not in text
    assert "…" not in text, "nothing is cut"


def test_links_to_guides_show_how_to_open_them() -> None:
    assert "Text and tokenizers (docs text)" in " ".join(
        rendered(find_guide("quick-start"), 80).split()
    )


def test_a_terminal_gets_a_pager_that_quits_with_q() -> None:
    with Terminal(
        [*DOCS, "reliability"], columns=80, rows=24, environment={"PAGER": "less", "LESS": "R"}
    ) as terminal:
        terminal.wait_for("What a run guarantees")
        assert "##" not in terminal.text
        terminal.send("G")
        terminal.wait_for("How this is tested")
        terminal.send("q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("pager", ["no-such-pager", "a 'quote without end"])
def test_a_terminal_without_a_pager_gets_the_whole_guide(pager: str) -> None:
    with Terminal([*DOCS, "book"], columns=80, rows=24, environment={"PAGER": pager}) as terminal:
        terminal.wait_for("tokenizer.name=PATH")
        assert terminal.wait() == 0
