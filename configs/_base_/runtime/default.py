"""Seed, device, precision, and who watches. What is measured follows from the data: classes, or captions to be retrieved."""

hooks = [
    dict(type="ConsoleHook"),
    dict(type="HistoryHook"),
    dict(type="TensorBoardHook"),
    dict(type="MetricsCSVHook"),
    dict(type="ResultsHook"),
]
runtime = dict(seed=42, device="auto", precision="auto")
