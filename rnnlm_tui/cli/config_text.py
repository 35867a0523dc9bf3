"""Write a RunConfig as TOML, optionally with each field's help as comments."""

from __future__ import annotations

from rnnlm_tui.contract.config import SECTIONS, RunConfig
from rnnlm_tui.contract.outside_text import UNSAFE
from rnnlm_tui.contract.validation import allowed_range, config_to_raw, section_model


def config_toml(config: RunConfig, *, explain: bool = False) -> str:
    """Return TOML that `train --config` accepts; with `explain`, unset fields are commented out."""
    import tomli_w

    raw = config_to_raw(config)
    if not explain:
        return _visible(tomli_w.dumps(raw))
    blocks = [tomli_w.dumps({"preset": config.preset})]
    blocks += [_explained(section, raw.get(section)) for section in SECTIONS]
    return _visible("\n".join(blocks))


def _visible(toml: str) -> str:
    """Escape control and invisible characters, which occur in strings only."""
    return UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\U{ord(match[0]):08x}", toml)


def field_help(path: str) -> str:
    """Return a field's description, range and unit: `Sequences per step. (1 … 65,536 sequences)`."""
    section, _, name = path.partition(".")
    field = section_model(section).model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    limits = " ".join(part for part in (allowed_range(path), str(extra.get("unit", ""))) if part)
    return f"{field.description or ''} ({limits})" if limits else field.description or ""


def _explained(section: str, values: object) -> str:
    import tomli_w

    known = values if isinstance(values, dict) else {}
    lines = [f"[{section}]  # {(section_model(section).__doc__ or '').partition(chr(10))[0]}"]
    for name in section_model(section).model_fields:
        lines.append(f"# {field_help(f'{section}.{name}')}")
        lines.append(tomli_w.dumps({name: known[name]}).rstrip("\n") if name in known else f"# {name} =")
    return "\n".join(lines) + "\n"
