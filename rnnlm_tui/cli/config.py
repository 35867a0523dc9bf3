"""The verbs of the group `config`, and configs built from a verb's options."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rnnlm_tui import client
from rnnlm_tui.cli.options import (
    ConfigOptions,
    arg,
    check_exclusive,
    complete_preset,
    complete_run,
    flag,
)
from rnnlm_tui.cli.output import Answer, confirmed, line, note, table, warn
from rnnlm_tui.errors import UntrustedDatasetError
from rnnlm_tui.store.runs import find_run

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import CorpusConfig, RunConfig
    from rnnlm_tui.schema.precedence import ResolvedConfig


def config() -> Answer:
    """Show the demo's config, as `config show` does."""
    return config_show(None, ConfigOptions(), explain=False, origin=False)


def config_show(
    run: str | None = arg(
        "[RUN]", "Show this run's config instead of a preset's.", None, complete_run
    ),
    options: ConfigOptions = ConfigOptions(),
    explain: bool = flag("--explain", "Add each field's description and range as comments."),
    origin: bool = flag("--origin", "Show where each value comes from, such as file and line."),
) -> Answer:
    """Show the config of a run or a preset as TOML.

    Later layers override earlier ones: defaults, preset, file, environment, command line. An
    environment variable such as RNNLM_TUI_TRAINING__SEED=3 sets training.seed.
    """
    from rnnlm_tui.schema.config import value_of
    from rnnlm_tui.schema.toml import explained_toml, toml_text
    from rnnlm_tui.schema.validation import config_to_raw

    for name in ("preset", "config"):
        check_exclusive("a run has its own config", RUN=run, **{name: getattr(options, name)})
    check_exclusive(explain=explain, origin=origin)
    if run is not None:
        directory = find_run(run)
        base = (directory.name, directory.read_config())
        found = resolve(options, run=base, environment={})
    else:
        found = resolve(options)
    if not origin:
        text = explained_toml(found.config) if explain else toml_text(config_to_raw(found.config))
        return Answer(found.config, lambda: line(text.rstrip("\n"), wrap=False))
    values = [(key, value_of(found.config, key), one) for key, one in found.origins.items()]
    value = {
        key: {
            "value": value,
            "layer": one.layer,
            "name": one.place.source or None,
            "line": one.place.line,
            "column": one.place.column,
        }
        for key, value, one in values
    }
    rows = [(key, _shown(value), str(one)) for key, value, one in values]
    return Answer(value, lambda: table(("key", "value", "origin"), rows))


def _shown(value: object) -> str:
    """A value as in TOML."""
    from rnnlm_tui.schema.toml import toml_value

    return "(none)" if value is None else toml_value(value)


def complete_config() -> list[str]:
    """List presets and runs, for the shell."""
    return [*complete_preset(), *complete_run()]


def config_diff(
    first: str = arg(
        "A",
        "A preset, a TOML file (a path, or ending in .toml) or a run.",
        complete=complete_config,
    ),
    second: str = arg(
        "B",
        "Another; preset:NAME, file:PATH and run:NAME choose between equal names.",
        complete=complete_config,
    ),
) -> Answer:
    """Show the keys whose values differ between two configs."""
    from rnnlm_tui.schema.steering import settings_of
    from rnnlm_tui.schema.validation import fields

    one, other = client.configs.named_config(first), client.configs.named_config(second)
    found = settings_of(one.config, other.config, ("preset", *fields()))
    value = {
        "a": {"kind": one.kind, "name": one.name},
        "b": {"kind": other.kind, "name": other.name},
        "differences": [{"key": it.path, "a": it.old, "b": it.new} for it in found],
    }
    if not found:
        return Answer(value, lambda: note(f"{one} and {other} have equal configs"))
    rows = [(it.path, _shown(it.old), _shown(it.new)) for it in found]
    return Answer(value, lambda: table(("key", str(one), str(other)), rows))


def config_presets() -> Answer:
    """List the presets."""
    from rnnlm_tui.schema.presets import PRESET_SUMMARIES, PRESETS

    summaries = [(name, PRESET_SUMMARIES[name]) for name in PRESETS]
    value = [
        {"preset": name, "summary": summary, "config": PRESETS[name]} for name, summary in summaries
    ]
    return Answer(value, lambda: table(("preset", "description"), summaries))


def resolve(
    options: ConfigOptions,
    *,
    run: tuple[str, RunConfig] | None = None,
    environment: Mapping[str, str] | None = None,
) -> ResolvedConfig:
    """Build a config from its layers: defaults, the preset or run, file, environment and `--set`.

    Unknown environment variables that begin like ours are noted.

    Args:
        environment: None: this process's variables.

    Raises:
        InputError: unknown preset, or a file that can't be read or isn't TOML.
        TokenizerError: the tokenizer can't be downloaded to read its size.
        ConfigError: all problems of all layers.
    """
    from rnnlm_tui.schema.precedence import resolve_config
    from rnnlm_tui.schema.toml import read_toml

    found = client.pretrained.with_tokenizer_size(
        resolve_config(
            preset=options.preset,
            run=run,
            file=None if options.config is None else read_toml(options.config),
            environment=os.environ if environment is None else environment,
            assignments=options.set_ or (),
        )
    )
    for words in found.notes:
        warn(words)
    return found


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
    from rnnlm_tui.schema.validation import parse_assignments

    named = parse_assignments(assignments or ())
    for key, source in (("source", corpus.source), ("test_source", corpus.test_source)):
        if source is not None and named.get(f"corpus.{key}") == source:
            client.start.trust_dataset(source)
    while True:
        try:
            files = client.start.check_datasets(corpus)
            break
        except UntrustedDatasetError as error:
            question = f"{error.source} runs the code in {error.path} as you. Run it?"
            if not trust and not (sys.stdin.isatty() and confirmed(question, "dataset")):
                raise
            client.start.trust_dataset(error.source)
    for path in files:
        note(f"the dataset runs the code in {path}")
