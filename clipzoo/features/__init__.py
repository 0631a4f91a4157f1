"""Features of frozen towers, cached on disk under a digest of everything they depend on."""
