"""The parts of a report's page: each a function of the content (``report.json``) and of the words of a language."""
