"""The config that a form edits: a base, the changes laid over it, and everything that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.estimates import WARMUP, warmup_problem
from rnnlm_tui.contract.presets import PRESETS
from rnnlm_tui.contract.validation import config_to_raw, merge, parse_config
from rnnlm_tui.errors import ConfigError, Problem
from rnnlm_tui.tui.widgets.form_fields import FORM_FIELDS, FormField, read_value, value_at


@dataclass(frozen=True, slots=True)
class Draft:
    """A config on its way: values may be wrong until it starts. Immutable, an edit gives a new one."""

    base: RunConfig
    """What it started from; a changed field says what it was here."""
    base_name: str
    """For people: `preset demo`, `plain-otter`."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Raw values by dotted path, only those that differ from the base; None clears an optional field."""

    def value(self, path: str) -> object:
        """The raw value that a field has now."""
        return self.changes[path] if path in self.changes else value_at(self.base, path)

    def with_text(self, form_field: FormField, text: str) -> Draft:
        """The draft after a person wrote `text` into a field."""
        return self.with_value(form_field.path, read_value(form_field, text))

    def with_value(self, path: str, value: object) -> Draft:
        """The draft with one field set; the base's own value is no change."""
        changes = {key: kept for key, kept in self.changes.items() if key != path}
        if not _same(value, value_at(self.base, path)):
            changes[path] = value
        return replace(self, changes=changes)

    def without(self, path: str) -> Draft:
        """The draft with one field back at the base's value."""
        return replace(self, changes={key: kept for key, kept in self.changes.items() if key != path})

    def config(self) -> RunConfig:
        """The config as it would run.

        Raises:
            ConfigError: with every problem.
        """
        return parse_config(merge(self.base, self.changes))

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong, in the order of the form."""
        try:
            self.config()
        except ConfigError as error:
            order = {form_field.path: index for index, form_field in enumerate(FORM_FIELDS)}
            return tuple(sorted(error.problems, key=lambda problem: order.get(field_of(problem), len(order))))
        return ()

    def problems_within(self, steps: int | None) -> tuple[Problem, ...]:
        """The same, and a chosen warm-up that is as long as the run, whose steps are known only with the corpus."""
        problems, config = self.problems(), self.nearest_config()
        found = None if steps is None or WARMUP in by_field(problems) else warmup_problem(config.schedule.warmup_steps, config.preset, steps)
        return problems if found is None else (*problems, found)

    def nearest_config(self) -> RunConfig:
        """The config with the wrong fields put back, so that the figures stay alive while one field is being mended."""
        draft = self
        for problem in self.problems():
            draft = draft.without(field_of(problem))
        if not draft.problems():
            return draft.config()
        kept = replace(self, changes={})  # wrong between fields: take one change after the other, as far as they go together
        for path, value in draft.changes.items():
            more = kept.with_value(path, value)
            kept = kept if more.problems() else more
        return kept.config()


def followed_tokenizer(draft: Draft, size: int | None, before: int | None) -> Draft:
    """The draft with the vocabulary size of its pretrained tokenizer; the same draft if nothing changes.

    Args:
        size: the tokenizer's vocabulary; None if there is no such tokenizer, or its size is unknown.
        before: the size taken over last: the user did not set this value.
    """
    path = "tokenizer.vocab_size"
    if path in draft.changes and draft.changes[path] != before:
        return draft
    if size is None:
        return draft.without(path) if path in draft.changes else draft
    kept_base = draft.base.tokenizer.kind == "pretrained" and draft.value("tokenizer.name") == draft.base.tokenizer.name
    return draft if draft.value(path) == size or kept_base else draft.with_value(path, size)


def field_of(problem: Problem) -> str:
    """The field that a problem belongs to: `evaluation.prompts` for `evaluation.prompts.3`."""
    return ".".join(problem.path.split(".")[:2])


def by_field(problems: Iterable[Problem]) -> dict[str, Problem]:
    """The first problem of each field."""
    found: dict[str, Problem] = {}
    for problem in problems:
        found.setdefault(field_of(problem), problem)
    return found


def short_message(problem: Problem) -> str:
    """What is allowed, without the value that stands beside it: `must be below 4,754 steps`."""
    if problem.message.startswith("needs embedding_dim = hidden_size"):
        return "needs embedding = hidden"
    match = re.match(r"is .*?,? (must .*)$", problem.message, re.DOTALL)
    return match[1] if match else problem.message


def _same(value: object, base: object) -> bool:
    if isinstance(base, tuple) and isinstance(value, list):
        return list(base) == value
    if isinstance(value, bool) != isinstance(base, bool):
        return False
    return value == base


def draft_to_json(draft: Draft, name: str) -> dict[str, object] | None:
    """A draft and the name that its run is to have, as JSON values for the next start; None where nothing was changed in it."""
    if not draft.changes:
        return None
    return {"name": name, "base_name": draft.base_name, "base": config_to_raw(draft.base), "changes": dict(draft.changes)}


def draft_from_json(kept: object) -> tuple[Draft, str] | None:
    """The draft and its name from what was kept; None where that is damaged, or of another version's fields."""
    match kept:
        case {"name": str() as name, "base_name": str() as base_name, "base": dict() as base, "changes": dict() as changes}:
            paths = {form_field.path for form_field in FORM_FIELDS}
            try:
                draft = Draft(parse_config(base), base_name, {path: value for path, value in changes.items() if path in paths and _is_raw(value)})
                draft.nearest_config()
            except ConfigError:
                return None
            return (draft, name) if draft.changes else None
    return None


def _is_raw(value: object) -> bool:
    """Whether a field's value can be this, right or wrong."""
    return value is None or isinstance(value, (bool, int, float, str)) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def draft_of(config: RunConfig) -> Draft:
    """A config as changes to the preset that it names; to itself where there is no such preset."""
    base = PRESETS.get(config.preset)
    if base is None:
        return Draft(config, config.preset or "a config")
    draft = Draft(base, f"preset {config.preset}")
    for form_field in FORM_FIELDS:
        draft = draft.with_value(form_field.path, value_at(config, form_field.path))
    return draft
