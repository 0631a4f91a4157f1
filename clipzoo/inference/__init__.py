"""Using a trained model: restore, load, predict, search, export, score again."""
