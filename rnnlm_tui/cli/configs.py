"""The verbs `config show` and `config presets`, and configs built from options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.arguments import ConfigOption, JsonOption, PresetOption, SetOption, check_exclusive

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.validation import Raw


def config_show(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Show this run's config instead of a preset's.", show_default=False)] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Add each field's description and range as comments.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the config of a run or a preset as TOML."""
    from rnnlm_tui.cli.config_text import config_toml
    from rnnlm_tui.cli.output import line, print_json

    for name, given in (("preset", preset is not None), ("config", config is not None)):
        check_exclusive("a run brings its own config", RUN=run is not None, **{name: given})
    shown = build_config(preset, config, assignments, base=_config_of(run) if run is not None else None)
    if json:
        print_json(shown.model_dump(mode="json"))
    else:
        line(config_toml(shown, explain=explain).rstrip("\n"), wrap=False)


def config_presets(json: JsonOption = False) -> None:
    """List the presets."""
    from rnnlm_tui.cli.output import print_json, table
    from rnnlm_tui.contract.presets import PRESET_SUMMARIES, PRESETS

    if json:
        print_json([{"preset": name, "summary": PRESET_SUMMARIES[name], "config": PRESETS[name].model_dump(mode="json")} for name in PRESETS])
    else:
        table(("preset", "description"), [(name, PRESET_SUMMARIES[name]) for name in PRESETS])


def build_config(preset: str | None, file: Path | None, assignments: Sequence[str] | None, *, base: RunConfig | None = None) -> RunConfig:
    """Build a config from a preset (or `base`), a TOML file and `key=value` assignments.

    Later ones override earlier ones. A pretrained tokenizer sets its own vocabulary size.

    Raises:
        InputError: unknown preset, or a file that can't be read.
        TokenizerError: the tokenizer can't be downloaded to read its size.
        ConfigError: all problems of the file and the assignments.
    """
    from rnnlm_tui.contract.estimates import WARMUP, warmup_problem
    from rnnlm_tui.contract.presets import preset as find_preset
    from rnnlm_tui.contract.validation import merge, overlay, parse_assignments, parse_config
    from rnnlm_tui.errors import ConfigError, Problem
    from rnnlm_tui.supervisor.estimate import planned_steps
    from rnnlm_tui.supervisor.tokenizer_size import with_tokenizer_size

    written = read_config_file(file) if file is not None else {}
    name = preset if preset is not None else written.get("preset", "demo")
    start = base if base is not None else find_preset(name if isinstance(name, str) else "demo")
    raw = overlay(start, written)
    if preset is not None:
        raw["preset"] = preset
    problems: list[Problem] = []
    chosen = {f"{section}.{name}" for section, values in written.items() if isinstance(values, dict) for name in values}
    for assignment in assignments or ():
        try:
            changes = parse_assignments([assignment])
            raw = merge(raw, changes)
            chosen |= changes.keys()
        except ConfigError as error:
            problems.extend(error.problems)
    try:
        config = parse_config(raw)
        steps = planned_steps(config) if WARMUP in chosen else None
        if (
            steps is not None and (problem := warmup_problem(config.schedule.warmup_steps, "", steps)) is not None
        ):  # "": an error even if it equals the preset's
            problems.append(problem)
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return with_tokenizer_size(config, chosen, start)


def runnable_config(preset: str | None, file: Path | None, assignments: Sequence[str] | None) -> RunConfig:
    """Build a config as `build_config` does, with a corpus that is installed.

    If the demo's default text isn't installed, python-docs replaces it, with a note.

    Raises:
        InputError: as `build_config`.
    """
    from rnnlm_tui.cli.output import note
    from rnnlm_tui.supervisor.preflight import with_available_corpus

    asked = build_config(preset, file, assignments)
    chosen = any(assignment.partition("=")[0].strip() == "corpus.source" for assignment in assignments or ())
    wanted = asked if chosen else with_available_corpus(asked)
    if wanted != asked:
        note("using python-docs: the State of the Union addresses need `pip install 'rnnlm-tui[demo]'`")
    return wanted


def read_config_file(path: Path) -> Raw:
    """Read the values of a TOML file.

    Raises:
        InputError: missing, not a file, not UTF-8, or not TOML (with the line).
    """
    import tomllib

    from rnnlm_tui.errors import InputError

    try:
        return dict(tomllib.loads(path.read_bytes().decode("utf-8-sig")))
    except OSError as error:
        raise InputError(f"cannot read the config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"the config file {path} is not UTF-8 (byte {error.start:,})") from None
    except (ValueError, RecursionError) as error:  # ValueError also: an integer with thousands of digits
        raise InputError(f"the config file {path} is not valid TOML: {error}", hint="`rnnlm-tui config show` prints a valid one") from None


def _config_of(run: str) -> RunConfig:
    from rnnlm_tui.store.runs import find_run

    return find_run(run).read_config()
