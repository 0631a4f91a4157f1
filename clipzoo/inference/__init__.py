"""A trained model in use: restored, loaded, asked, searched, exported, scored again."""
