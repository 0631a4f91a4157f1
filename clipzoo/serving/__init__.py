"""A page and a JSON interface to try a model in a browser, on this machine."""
