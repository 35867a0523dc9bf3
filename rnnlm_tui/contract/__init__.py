"""What all processes agree on: pydantic models and arithmetic, no I/O and no torch."""
