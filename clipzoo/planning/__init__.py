"""A first config for the user's own data: look at the data, apply a table of rules, write the config with its reasons."""
