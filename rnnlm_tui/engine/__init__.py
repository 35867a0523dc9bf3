"""The torch engine: models, training, generation; nothing of processes or terminals."""
