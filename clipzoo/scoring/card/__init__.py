"""The model card: what a model is, what it is for, and what is on record about it."""
