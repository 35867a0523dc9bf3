"""A RunConfig as TOML, plain or with each field's help beside it; both can be read back."""

from __future__ import annotations

from rnnlm_tui.contract.config import SECTIONS, RunConfig
from rnnlm_tui.contract.outside_text import UNSAFE
from rnnlm_tui.contract.validation import allowed_range, config_to_raw, section_model


def config_toml(config: RunConfig, *, explain: bool = False) -> str:
    """TOML that `train --config` takes; an optional field without a value stands as a comment where help is asked for."""
    import tomli_w

    raw = config_to_raw(config)
    if not explain:
        return _visible(tomli_w.dumps(raw))
    blocks = [tomli_w.dumps({"preset": config.preset})]
    blocks += [_explained(section, raw.get(section)) for section in SECTIONS]
    return _visible("\n".join(blocks))


def _visible(toml: str) -> str:
    """Characters that act on a terminal or are not seen stand in strings alone: as TOML's escapes they are read back as they were."""
    return UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\U{ord(match[0]):08x}", toml)


def field_help(path: str) -> str:
    """A field's description with its range and unit: `Streams or sentences a step. (1 … 65,536 sequences)`."""
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
