"""Reading of data folders: images, class folders, tables of pairs, groups, and file digests."""
