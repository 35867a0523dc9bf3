"""What stands in the way of a draft: what is wrong in it, what this machine lacks for it, and the figures that tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rnnlm_tui.contract import figures
from rnnlm_tui.contract.corpora import BUILT_IN_SOURCES, SET_SOURCE
from rnnlm_tui.contract.estimates import WARMUP, planned_warmup, warmup_note
from rnnlm_tui.errors import CorpusError, DeviceError, InputError, Problem, TokenizerError

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.supervisor.estimate import Estimate
    from rnnlm_tui.supervisor.preview import Preview
    from rnnlm_tui.tui.services import Services
    from rnnlm_tui.tui.widgets.form_draft import Draft

REFUSED_AT: tuple[tuple[type[InputError], str], ...] = ((CorpusError, "corpus.source"), (TokenizerError, "tokenizer.name"), (DeviceError, "training.device"))
"""Where it is said that a config can't run on this machine."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at the disk tells of a config."""

    config: RunConfig
    estimate: Estimate
    facts: Mapping[str, str]
    """What is known beside a field, by its path."""
    missing: InputError | None = None
    """Why its text or its tokenizer can't be used; None if both can."""
    missing_at: str = "corpus.source"
    """The field that names it."""
    preview: Preview | None = None
    """The first lines of its text."""
    tokenizer_size: int | None = None
    """Vocabulary size of its pretrained tokenizer; None if unknown."""


def look_up(services: Services, config: RunConfig) -> Findings:
    """Look for a config's text and work out its figures; it blocks as long as the disk needs.

    Raises:
        RnnlmError, OSError: something on the disk can't be read.
    """
    estimate = services.estimate(config)
    corpus = services.corpus(config)
    facts: dict[str, str] = {}
    if corpus is not None:
        size = figures.disk(sum(split.bytes for split in corpus.splits.values()))
        facts["corpus.source"] = "; ".join((f"{corpus.title}, {size}", *corpus.all_notes))
    if estimate.steps is not None and warmup_note(config, estimate.steps):
        facts[WARMUP] = f"shortened to {planned_warmup(config, estimate.steps):,} of {estimate.steps:,}"
    found = Findings(config, estimate, facts, tokenizer_size=services.tokenizer_size(config))
    missing = services.missing_source(config)
    if missing is not None:
        at_test = config.corpus.test_source is not None and services.missing_source(_without_test_source(config)) is None
        return replace(found, missing=missing, missing_at="corpus.test_source" if at_test else "corpus.source")
    try:
        preview = services.preview(config)
    except CorpusError as error:  # training would refuse it too
        return replace(found, missing=error, missing_at="corpus.text_field" if "corpus.text_field" in error.hint else "corpus.source")
    if preview is not None and config.corpus.layout == "auto" and config.corpus.source not in BUILT_IN_SOURCES:
        facts["corpus.layout"] = f"{preview.layout}: {preview.reason}" if preview.reason else preview.layout
    found, refused = replace(found, preview=preview), services.tokenizer_problem(config)
    return found if refused is None else replace(found, missing=refused, missing_at="tokenizer.name")


class DraftCheck:
    """Knows the newest findings, the newest refusal, and the problems that follow from both for the draft that shows."""

    def __init__(self) -> None:
        self.blocking: tuple[Problem, ...] = ()
        """What is wrong in the draft itself: it can't start before that is mended."""
        self.problems: tuple[Problem, ...] = ()
        """The same, and what this machine lacks: it may start at the next try, for what was missing may be there by then."""
        self._asked: RunConfig | None = None
        self._found: Findings | None = None
        self._refused: tuple[RunConfig, Problem] | None = None

    @property
    def estimate(self) -> Estimate | None:
        """The newest figures: those of the config before until the disk was looked at for this one."""
        return self._found.estimate if self._found is not None else None

    @property
    def preview(self) -> Preview | None:
        """The first lines of the text, as old as `estimate`."""
        return self._found.preview if self._found is not None else None

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known beside the fields, as old as `estimate`."""
        return self._found.facts if self._found is not None else {}

    def judge(self, draft: Draft, *, locked: bool) -> None:
        """Find the problems of a draft; the config of a run (`locked`) has none."""
        config, found, refused = draft.nearest_config(), self._found, self._refused
        if locked:
            self.blocking = self.problems = ()
            return
        self.blocking = draft.problems_within(found.estimate.steps if found is not None and found.config == config else None)
        self.problems = (*self.blocking, refused[1]) if refused is not None and refused[0] == config else self.blocking

    def wants(self, config: RunConfig) -> bool:
        """Whether the disk was not looked at for this config; whoever is told so looks, and is not told again."""
        asked, self._asked = self._asked, config
        return asked != config

    def take(self, found: Findings) -> None:
        """New findings; a text that is missing counts as a refusal, unless this config was refused for something else."""
        self._found = found
        if found.missing is not None and (self._refused is None or self._refused[0] != found.config):
            self._refused = found.config, _problem(found.missing_at, found.missing)

    def refuse(self, config: RunConfig, error: InputError) -> str | None:
        """A start of this config failed: the path of the field that it is about; None where it is about none."""
        path = next((path for kind, path in REFUSED_AT if isinstance(error, kind)), None)
        found = self._found
        if found is not None and found.config == config and found.missing is not None and found.missing.message == error.message:
            path = found.missing_at
        if path is not None:
            self._refused = config, _problem(path, error)
        return path

    def forget_refusal(self) -> None:
        """It is tried again."""
        self._refused = None


def _without_test_source(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"test_source": None})})


def _problem(path: str, error: InputError) -> Problem:
    """An error at a field of the form, which takes what a command line would be given."""
    return Problem(path, error.message, error.hint.replace(SET_SOURCE, "put the folder into the field source"))
