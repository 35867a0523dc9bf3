"""rnnlm-tui: train, watch and sample recurrent language models in one terminal.

From Python, `rnnlm_tui.runs()`, `rnnlm_tui.run("name")` and `rnnlm_tui.load("name@best")` read runs
and use their models; see `rnnlm-tui docs python`. They are in `rnnlm_tui.api`, which is imported
when one of them is first used: importing this package imports nothing else.
"""

__version__ = "0.2.0"

_INTERFACE = ("Model", "Run", "load", "run", "runs")


def __getattr__(name: str) -> object:
    if name in _INTERFACE:
        from importlib import import_module  # by name: no other module depends on the interface

        return getattr(import_module("rnnlm_tui.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_INTERFACE])
