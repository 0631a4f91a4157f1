"""Pictures: fonts, figures, contact sheets."""
