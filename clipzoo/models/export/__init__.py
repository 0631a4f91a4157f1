"""A CLIP of this project in other libraries' formats: written, never read."""
