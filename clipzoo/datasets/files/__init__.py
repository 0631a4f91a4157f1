"""What is read from a data folder: images, class folders, tables of pairs, groups, and the digests of their bytes."""
