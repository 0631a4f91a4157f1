"""Seed, device, precision, what is measured, and who watches."""

evaluation = dict(metrics=["Accuracy", "BalancedAccuracy", "MacroF1", "AUROC", "LogLoss"], select="balanced_accuracy")
hooks = [dict(type="ConsoleHook"), dict(type="HistoryHook"), dict(type="TensorBoardHook")]
runtime = dict(seed=42, device="auto", precision="auto")
