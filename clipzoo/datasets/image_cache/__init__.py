"""The image cache: every image is decoded and scaled once for all epochs, folds, processes and runs."""
