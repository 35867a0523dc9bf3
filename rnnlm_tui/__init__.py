"""rnnlm-tui: train, watch and sample recurrent language models in one terminal."""

__version__ = "0.2.0"
