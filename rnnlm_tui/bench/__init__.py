"""`bench`: child processes that take turns at training and sampling, and the report of what they
reached."""
