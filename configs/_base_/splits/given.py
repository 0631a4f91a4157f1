"""The parts as the data's own files give them; a tenth of the training part chooses the epoch where there is no file for that."""

splits = dict(type="AsGiven", seed=42, val_fraction=0.1)
