"""What a run needs from the machine: device, seeds, processes, launchers, log, progress."""
