"""Confidence intervals of metrics over groups."""
