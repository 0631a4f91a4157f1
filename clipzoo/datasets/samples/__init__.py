"""Sample data, drawn by a program."""
