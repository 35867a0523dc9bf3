"""From text to token ids on disk: sources, tokenizers, token store, n-gram baseline; no torch."""
