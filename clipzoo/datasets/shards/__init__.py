"""Image–text pairs in WebDataset shards (tar files): found, indexed once, read by random access, and written."""
