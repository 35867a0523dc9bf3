"""The run store: the only code that knows paths and file formats."""
