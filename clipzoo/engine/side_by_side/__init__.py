"""The runs of a cross-validation side by side, each in a process of its own: the parent, the process, and what is shown of them."""
