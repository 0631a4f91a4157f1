"""What follows from a table of predictions: metrics with intervals, comparisons, and the summary of an experiment."""
