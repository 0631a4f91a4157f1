"""Intervals, paired tests, calibration and thresholds: pure functions of a prediction table, which need only numpy and scipy."""
