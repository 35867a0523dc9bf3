"""Ask before a dataset of Python runs its code, for the verbs that would run it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.output import note
from rnnlm_tui.errors import UntrustedDatasetError

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import CorpusConfig

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-dataset", help="Run the code of a python: dataset that you didn't name yourself."
    ),
]


def allow_datasets(
    corpus: CorpusConfig, assignments: Sequence[str] | None = None, *, trust: bool
) -> None:
    """Ask about a config's datasets of Python that aren't trusted yet, and say which code runs.

    Args:
        assignments: of `--set`: a dataset that the user names there needs no question.
        trust: whether `--trust-dataset` is given.

    Raises:
        UntrustedDatasetError: the user doesn't trust one, or can't be asked.
        CorpusError: there is no such module.
    """
    from rnnlm_tui.cli.manage import confirmed
    from rnnlm_tui.client.start import check_datasets, trust_dataset
    from rnnlm_tui.schema.validation import parse_assignments

    named = list(parse_assignments(assignments or ()).values())
    for source in (corpus.source, corpus.test_source):
        if source in named:
            trust_dataset(source)
    while True:
        try:
            files = check_datasets(corpus)
        except UntrustedDatasetError as error:
            question = f"{error.source} runs the code in {error.path} as you. Run it?"
            asks = not trust and sys.stdin.isatty()
            if not trust and not (asks and confirmed(question, "dataset")):
                raise
            trust_dataset(error.source)
        else:
            break
    for path in files:
        note(f"the dataset runs the code in {path}")
