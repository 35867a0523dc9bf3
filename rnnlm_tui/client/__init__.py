"""Handles on the worker and the sampler for the app and the command line."""
