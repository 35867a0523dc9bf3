"""Prepare text as token ids on disk: sources, tokenizers, corpora and the n-gram baseline. No
torch."""
