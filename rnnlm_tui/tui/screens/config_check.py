"""The problems of the shown draft: invalid values, and what this machine lacks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rnnlm_tui import client, store
from rnnlm_tui.errors import (
    ConfigError,
    CorpusError,
    DeviceError,
    InputError,
    Problem,
    TokenizerError,
)
from rnnlm_tui.schema import formatting
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.corpora import BUILT_IN_SOURCES, SET_SOURCE
from rnnlm_tui.schema.estimates import WARMUP, planned_warmup, warmup_note
from rnnlm_tui.schema.presets import has_prompts_of_another_text
from rnnlm_tui.tui.views.form import Draft, by_field, field_of

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import Preview
    from rnnlm_tui.client.estimate import Estimate


ERROR_FIELDS: tuple[tuple[type[InputError], str], ...] = (
    (CorpusError, "corpus.source"),
    (TokenizerError, "tokenizer.name"),
    (DeviceError, "training.device"),
)
"""The fields beside which errors about this machine are shown."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the disk says about a config."""

    config: RunConfig | None = None
    """None: the disk hasn't been read yet."""
    estimate: Estimate | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts to show beside fields, by path."""
    missing: Problem | None = None
    """Why its text or tokenizer can't be used, at the field that names it; None if both can."""
    preview: Preview | None = None
    """The first lines of its text."""
    tokenizer_size: int | None = None
    """Vocabulary size of its pretrained tokenizer; None if unknown."""


def look_up(config: RunConfig) -> Findings:
    """Look for a config's text and estimate it; blocks while the disk is read.

    Raises:
        RnnlmError, OSError: something on the disk can't be read.
    """
    estimate = client.estimate.estimate(config)
    corpus = store.corpora.find_corpus(config.corpus, config.tokenizer)
    facts: dict[str, str] = {}
    if corpus is not None:
        size = formatting.disk(sum(split.bytes for split in corpus.splits.values()))
        facts["corpus.source"] = "; ".join((f"{corpus.title}, {size}", *corpus.all_notes))
    if estimate.steps is not None and warmup_note(config, estimate.steps):
        planned = planned_warmup(config, estimate.steps)
        facts[WARMUP] = f"shortened to {planned:,} of {estimate.steps:,}"
    if has_prompts_of_another_text(config):
        facts["evaluation.prompts"] = "this text's own beginnings instead"
    missing, preview, at = None, None, "corpus.source"
    try:
        client.start.check_source(config.corpus.model_copy(update={"test_source": None}))
        if config.corpus.test_source is not None:
            at = "corpus.test_source"
            client.start.check_source(config.corpus)
            at = "corpus.source"
        preview = client.corpora.preview(config)
        own_text = config.corpus.source not in BUILT_IN_SOURCES
        if preview is not None and config.corpus.layout == "auto" and own_text:
            layout = (preview.layout, preview.reason)
            facts["corpus.layout"] = ": ".join(filter(None, layout))
        at = "tokenizer.name"
        client.pretrained.check_tokenizer(config.tokenizer)
    except (CorpusError, TokenizerError) as error:  # training would fail too
        missing = _problem("corpus.text_field" if "corpus.text_field" in error.hint else at, error)
    vocabulary = client.pretrained.tokenizer_size(config.tokenizer)
    return Findings(config, estimate, facts, missing, preview, vocabulary)


class DraftCheck:
    """The problems of the shown draft, from the newest findings and the last failed start."""

    def __init__(self) -> None:
        self.blocking: tuple[Problem, ...] = ()
        """Problems of the draft itself, to fix before it can start."""
        self.problems: tuple[Problem, ...] = ()
        """The same with what this machine lacks: a start may be tried again, because that may have
        been fixed."""
        self.found = Findings()
        """The newest findings; until the disk has been read, those of the config before."""
        self._asked: RunConfig | None = None
        self._failure: tuple[RunConfig, Problem] | None = None

    def check(self, draft: Draft, config: RunConfig, *, locked: bool) -> None:
        """Find the problems of a draft with this config; a run's config (`locked`) has none."""
        self.blocking = self.problems = ()
        if locked:
            return
        found = self.found if self.found.config == config else Findings()
        self.blocking, missing = draft.problems(), found.missing
        if found.estimate is not None:
            wrong = by_field(self.blocking)
            self.blocking += tuple(
                problem for problem in found.estimate.problems if field_of(problem) not in wrong
            )
        if self._failure is not None and self._failure[0] == config:
            missing = self._failure[1]
        self.problems = (*self.blocking, missing) if missing is not None else self.blocking

    def needs_estimate(self, config: RunConfig) -> bool:
        """Whether the disk has to be read for this config; asks only once."""
        asked, self._asked = self._asked, config
        return asked != config

    def start_failed(self, config: RunConfig, error: InputError) -> str | None:
        """Note that a start of this config failed.

        Return the path of the field that caused it, None if none did.
        """
        found = self.found.missing if self.found.config == config else None
        path = next((path for kind, path in ERROR_FIELDS if isinstance(error, kind)), None)
        if isinstance(error, ConfigError):  # the fields that don't fit the parent's weights
            problem = error.problems[0]
        elif found is not None and found.message == error.message:
            problem = found
        elif path is not None:
            problem = _problem(path, error)
        else:
            return None
        self._failure = config, problem
        return problem.path

    def forget(self) -> None:
        """Forget the failed start and what was missing: it is tried again."""
        self.found, self._failure = replace(self.found, missing=None), None


def _problem(path: str, error: InputError) -> Problem:
    """Return an error as a problem of a field."""
    return Problem(
        path, error.message, error.hint.replace(SET_SOURCE, "set the field source to the folder")
    )
