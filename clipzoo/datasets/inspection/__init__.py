"""A look at every image file: what it is, whether it can be decoded, and which images are nearly equal."""
