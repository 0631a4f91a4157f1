"""The config language, and everything that checks a config before it is built: signatures, sections, registries, plugins."""

from clipzoo.config.config import SECTIONS, Config, differences
from clipzoo.config.foreign_names import foreign_name

__all__ = ["SECTIONS", "Config", "differences", "foreign_name"]
