"""Links of a page to the repository: shown where `_config.yml` names one, and else left out."""

import re
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from jupyter_book.config import get_final_config
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "book/_ext"))

CONFIG = (ROOT / "_config.yml").read_text()
NAMED = CONFIG.replace('{url: ""', '{url: "https://github.com/someone/avff-book"')
LAUNCHED = re.sub(r"^# launch_buttons:", "launch_buttons:", NAMED, flags=re.MULTILINE)


def addresses(folder: Path, config: str) -> dict[str, str]:
    """Address of each button of a notebook's page, by its words, for a text of `_config.yml`."""
    (folder / "_config.yml").write_text(config)
    options, _ = get_final_config(
        user_yaml=folder / "_config.yml", cli_config={"latex_individualpages": False}
    )
    settings = {
        "extensions": ["myst_nb", "page"],
        # Other books of the same process leave their suffixes behind in Sphinx's defaults.
        "source_suffix": {".md": "myst-nb", ".ipynb": "myst-nb"},
        "html_theme": "sphinx_book_theme",
        "html_theme_options": options["html_theme_options"],
        "nb_execution_mode": "off",
        "html_copy_source": True,
    }
    (folder / "index.md").write_text("# Index\n\n```{toctree}\nchapter\n```\n")
    (folder / "chapter.ipynb").write_text(
        '{"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# Chapter"]}], "metadata": '
        '{"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}, '
        '"nbformat": 4, "nbformat_minor": 4}'
    )
    site = folder / "site"
    Sphinx(folder, None, site, folder / "trees", "html", settings, status=None, warning=None).build()
    page = BeautifulSoup((site / "chapter.html").read_text(), "html.parser")
    return {link.text.strip(): link["href"] for link in page.select(".article-header-buttons a[href]")}


@pytest.mark.parametrize(("config", "expected"), [
    (CONFIG, {}),
    (NAMED, {
        "Show source": "https://github.com/someone/avff-book/blob/main/chapter.ipynb?plain=1",
        "Report a problem": "https://github.com/someone/avff-book/issues/new?title=",
    }),
    (LAUNCHED, {
        "Colab": "https://colab.research.google.com/github/someone/avff-book/blob/main/chapter.ipynb",
        "Binder": "https://mybinder.org/v2/gh/someone/avff-book/main?urlpath=",
    }),
], ids=["as shipped", "with a repository", "with launch buttons"])  # fmt: skip
def test_buttons_follow_the_config(tmp_path, config, expected):
    shown = addresses(tmp_path, config)
    assert shown[".ipynb"] == "_sources/chapter.ipynb"
    outside = {words: url for words, url in shown.items() if "://" in url}
    assert expected.keys() <= outside.keys()
    assert bool(outside) == bool(expected)
    for words, start in expected.items():
        assert outside[words].startswith(start)
