"""The verbs of the group `config`, and configs built from a verb's options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.options import (
    ConfigOptions,
    JsonOption,
    check_exclusive,
    complete_preset,
    complete_run,
)
from rnnlm_tui.cli.output import line, note, print_json, table

if TYPE_CHECKING:
    from rnnlm_tui.schema.config import CorpusConfig, RunConfig
    from rnnlm_tui.schema.precedence import Origin, ResolvedConfig

NO_VALUE = "(none)"
"""An unset value in a table."""


def config(context: typer.Context, json: JsonOption = False) -> None:
    """Show the demo's config, as `config show` does."""
    if context.invoked_subcommand is None:
        config_show(json=json)


def config_show(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="Show this run's config instead of a preset's.",
            show_default=False,
            autocompletion=complete_run,
        ),
    ] = None,
    options: ConfigOptions = ConfigOptions(),
    explain: Annotated[
        bool, typer.Option("--explain", help="Add each field's description and range as comments.")
    ] = False,
    origin: Annotated[
        bool,
        typer.Option("--origin", help="Show where each value comes from, such as file and line."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show the config of a run or a preset as TOML.

    Later layers override earlier ones: defaults, preset, file, environment, command line. An
    environment variable such as RNNLM_TUI_TRAINING__SEED=3 sets training.seed.
    """
    from rnnlm_tui.schema.toml import explained_toml, toml_text
    from rnnlm_tui.schema.validation import config_to_raw
    from rnnlm_tui.store.runs import find_run

    given = options.given()
    for name in ("preset", "config"):
        check_exclusive("a run has its own config", RUN=run is not None, **{name: given[name]})
    check_exclusive(explain=explain, origin=origin)
    if run is not None:
        directory = find_run(run)
        base = (directory.name, directory.read_config())
        found = resolve(None, None, options.assignments, run=base, environment={})
    else:
        found = resolve(options.preset, options.config, options.assignments)
    if json and origin:
        print_json(_origins_json(found))
    elif json:
        print_json(found.config.model_dump(mode="json"))
    elif origin:
        _print_origins(found)
    else:
        text = explained_toml(found.config) if explain else toml_text(config_to_raw(found.config))
        line(text.rstrip("\n"), wrap=False)


def _origins_json(found: ResolvedConfig) -> dict[str, object]:
    return {
        path: {
            "value": value,
            "layer": origin.layer,
            "name": origin.name or None,
            "line": origin.line,
            "column": origin.column,
        }
        for path, value, origin in _values(found)
    }


def _print_origins(found: ResolvedConfig) -> None:
    table(
        ("key", "value", "origin"),
        [(path, _shown(value), str(origin)) for path, value, origin in _values(found)],
    )


def _values(found: ResolvedConfig) -> list[tuple[str, object, Origin]]:
    from rnnlm_tui.schema.steering import value_of

    return [(path, value_of(found.config, path), origin) for path, origin in found.origins.items()]


def _shown(value: object) -> str:
    """A value as in TOML."""
    from rnnlm_tui.schema.toml import toml_value

    return NO_VALUE if value is None else toml_value(value)


def complete_config(incomplete: str) -> list[str]:
    """Complete a preset's or a run's name for the shell."""
    return [*complete_preset(incomplete), *complete_run(incomplete)]


def config_diff(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A preset, a TOML file (a path, or ending in .toml) or a run.",
            show_default=False,
            autocompletion=complete_config,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="Another; preset:NAME, file:PATH and run:NAME choose between equal names.",
            show_default=False,
            autocompletion=complete_config,
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Show the keys whose values differ between two configs."""
    from rnnlm_tui.client.configs import named_config
    from rnnlm_tui.schema.steering import settings_of
    from rnnlm_tui.schema.validation import field_paths

    one, other = named_config(first), named_config(second)
    differences = settings_of(one.config, other.config, ("preset", *field_paths()))
    if json:
        print_json(
            {
                "a": {"kind": one.kind, "name": one.name},
                "b": {"kind": other.kind, "name": other.name},
                "differences": [
                    {"key": found.path, "a": found.old, "b": found.new} for found in differences
                ],
            }
        )
    elif differences:
        table(
            ("key", str(one), str(other)),
            [(found.path, _shown(found.old), _shown(found.new)) for found in differences],
        )
    else:
        note(f"{one} and {other} have equal configs")


def config_presets(json: JsonOption = False) -> None:
    """List the presets."""
    from rnnlm_tui.schema.presets import PRESET_SUMMARIES, PRESETS

    if json:
        print_json(
            [
                {
                    "preset": name,
                    "summary": PRESET_SUMMARIES[name],
                    "config": PRESETS[name].model_dump(mode="json"),
                }
                for name in PRESETS
            ]
        )
    else:
        table(("preset", "description"), [(name, PRESET_SUMMARIES[name]) for name in PRESETS])


def resolve(
    preset: str | None,
    file: Path | None,
    assignments: Sequence[str] | None,
    *,
    run: tuple[str, RunConfig] | None = None,
    environment: Mapping[str, str] | None = None,
) -> ResolvedConfig:
    """Build a config from its layers: defaults, preset or run, file, environment and `--set`.

    Unknown environment variables that begin like ours are noted.

    Args:
        environment: None: this process's variables.

    Raises:
        InputError: unknown preset, or a file that can't be read or isn't TOML.
        TokenizerError: the tokenizer can't be downloaded to read its size.
        ConfigError: all problems of all layers.
    """
    from rnnlm_tui.client.configs import layered_config
    from rnnlm_tui.schema.toml import read_toml

    found = layered_config(
        preset=preset,
        run=run,
        file=None if file is None else read_toml(file),
        environment=os.environ if environment is None else environment,
        assignments=assignments or (),
    )
    for words in found.notes:
        note(f"warning: {words}")
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
    import sys

    from rnnlm_tui.cli.manage import confirmed
    from rnnlm_tui.client.start import check_datasets, trust_dataset
    from rnnlm_tui.errors import UntrustedDatasetError
    from rnnlm_tui.schema.validation import parse_assignments

    named = parse_assignments(assignments or ())
    for key, source in (("source", corpus.source), ("test_source", corpus.test_source)):
        if source is not None and named.get(f"corpus.{key}") == source:
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
