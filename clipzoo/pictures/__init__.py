"""Pictures: fonts, figures and contact sheets."""
