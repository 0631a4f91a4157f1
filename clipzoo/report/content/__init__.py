"""The numbers of a report: pure functions of the records of a run."""
