"""Paired comparison of two runs on the same cases."""
