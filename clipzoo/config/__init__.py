"""The config language, and what checks a config before anything is built: signatures, sections, registries, plugins."""

from clipzoo.config.config import SECTIONS, Config, differences, foreign_name

__all__ = ["SECTIONS", "Config", "differences", "foreign_name"]
