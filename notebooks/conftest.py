"""How nbval compares outputs, also when called bare: `pytest --nbval DIR`."""

import pytest

OUTPUT_TIMEOUT = 120  # seconds of silence after a cell; nbval's own are 5
# Stored for the page but not compared: warnings of libraries, and the HTML of
# tables and players, whose content is compared as text/plain.
SKIP = ("stderr", "text/html", "image/svg+xml")
SANITIZE = {
    r"0x[0-9a-f]{6,}": "ADDRESS",
    r"/tmp/[\w./-]+": "TEMPORARY",
}


def pytest_collectstart(collector: pytest.Collector) -> None:
    if collector.path.suffix == ".ipynb":
        collector.skip_compare += SKIP
        collector.sanitize_patterns.update(SANITIZE)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.suffix == ".ipynb":
        item.output_timeout = OUTPUT_TIMEOUT
