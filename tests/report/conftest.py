"""Contents of reports, made once."""

import pytest
from report_pages import contents_of


@pytest.fixture(scope="session")
def contents(tmp_path_factory) -> dict[str, dict]:
    """See ``contents_of``."""
    return contents_of(tmp_path_factory.mktemp("runs"))
