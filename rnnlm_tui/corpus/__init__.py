"""Prepare text as token ids: sources, tokenizers, corpora and the n-gram baseline. No torch."""
