"""Refusals before a run: settings, data and model that do not fit each other."""
