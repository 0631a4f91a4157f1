"""What is decided with probabilities: calibration, prediction sets, thresholds; fitted on val, applied to test."""
