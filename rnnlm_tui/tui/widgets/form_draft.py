"""The draft edited by the config form: a base config, changes to it, and their problems."""

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
    """A config being edited; its values may be invalid. Immutable: an edit returns a new draft."""

    base: RunConfig
    """The config it started from; changed fields show its value."""
    base_name: str
    """Shown to the user: `preset demo`, `plain-otter`."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Raw values by dotted path that differ from the base; None clears an optional field."""

    def value(self, path: str) -> object:
        """Return a field's current raw value."""
        return self.changes[path] if path in self.changes else value_at(self.base, path)

    def with_text(self, form_field: FormField, text: str) -> Draft:
        """Return the draft with the text that the user typed into a field."""
        return self.with_value(form_field.path, read_value(form_field, text))

    def with_value(self, path: str, value: object) -> Draft:
        """Return the draft with one field set; the base's own value is no change."""
        changes = {key: kept for key, kept in self.changes.items() if key != path}
        if not _same(value, value_at(self.base, path)):
            changes[path] = value
        return replace(self, changes=changes)

    def without(self, path: str) -> Draft:
        """Return the draft with one field reset to the base's value."""
        return replace(self, changes={key: kept for key, kept in self.changes.items() if key != path})

    def config(self) -> RunConfig:
        """Return the config.

        Raises:
            ConfigError: with every problem.
        """
        return parse_config(merge(self.base, self.changes))

    def problems(self) -> tuple[Problem, ...]:
        """Return all problems, in the order of the form."""
        try:
            self.config()
        except ConfigError as error:
            order = {form_field.path: index for index, form_field in enumerate(FORM_FIELDS)}
            return tuple(sorted(error.problems, key=lambda problem: order.get(field_of(problem), len(order))))
        return ()

    def problems_within(self, steps: int | None) -> tuple[Problem, ...]:
        """Return all problems, including a warm-up as long as the run, which needs the number of
        steps.
        """
        problems, config = self.problems(), self.nearest_config()
        found = None if steps is None or WARMUP in by_field(problems) else warmup_problem(config.schedule.warmup_steps, config.preset, steps)
        return problems if found is None else (*problems, found)

    def nearest_config(self) -> RunConfig:
        """Return the config without its invalid changes, so that the estimate stays up to date."""
        draft = self
        for problem in self.problems():
            draft = draft.without(field_of(problem))
        if not draft.problems():
            return draft.config()
        kept = replace(self, changes={})  # the fields contradict each other: keep the changes that are valid together
        for path, value in draft.changes.items():
            more = kept.with_value(path, value)
            kept = kept if more.problems() else more
        return kept.config()


def followed_tokenizer(draft: Draft, size: int | None, before: int | None) -> Draft:
    """Return the draft with its pretrained tokenizer's vocabulary size, or the draft itself.

    Args:
        size: the tokenizer's vocabulary; None without such a tokenizer, or if unknown.
        before: the size that was filled in last, so that a value set by the user is kept.
    """
    path = "tokenizer.vocab_size"
    if path in draft.changes and draft.changes[path] != before:
        return draft
    if size is None:
        return draft.without(path) if path in draft.changes else draft
    kept_base = draft.base.tokenizer.kind == "pretrained" and draft.value("tokenizer.name") == draft.base.tokenizer.name
    return draft if draft.value(path) == size or kept_base else draft.with_value(path, size)


def field_of(problem: Problem) -> str:
    """Return a problem's field: `evaluation.prompts` for `evaluation.prompts.3`."""
    return ".".join(problem.path.split(".")[:2])


def by_field(problems: Iterable[Problem]) -> dict[str, Problem]:
    """Return the first problem of each field."""
    found: dict[str, Problem] = {}
    for problem in problems:
        found.setdefault(field_of(problem), problem)
    return found


def short_message(problem: Problem) -> str:
    """Return what is allowed, without the value shown beside it: `must be below 4,754 steps`."""
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
    """Return a draft and its run's name as JSON values for the next start; None without changes."""
    if not draft.changes:
        return None
    return {"name": name, "base_name": draft.base_name, "base": config_to_raw(draft.base), "changes": dict(draft.changes)}


def draft_from_json(kept: object) -> tuple[Draft, str] | None:
    """Return the saved draft and name; None if damaged or made for another version's fields."""
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
    """Whether a field could hold this value, valid or not."""
    return value is None or isinstance(value, (bool, int, float, str)) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def draft_of(config: RunConfig) -> Draft:
    """Return a config as changes to its preset, or as its own base if there is no such preset."""
    base = PRESETS.get(config.preset)
    if base is None:
        return Draft(config, config.preset or "a config")
    draft = Draft(base, f"preset {config.preset}")
    for form_field in FORM_FIELDS:
        draft = draft.with_value(form_field.path, value_at(config, form_field.path))
    return draft
