"""The machine: device, seeds, processes, launchers, log, progress."""
