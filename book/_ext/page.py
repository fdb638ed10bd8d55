"""What pages get around their text: links to the source and for reports, names for the sidebar's arrows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

REPORT = "Report a problem"


def link_to_repository(app: Sphinx, config: Config) -> None:
    """Where ``_config.yml`` names a repository, each page links to its source there, and to a new report."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options.update(use_source_button=True, use_issues_button=True)
    else:  # the theme would look for the address, and launch buttons need it too
        options.update(use_source_button=False, use_issues_button=False, launch_buttons={})


def name_things(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a name to what the theme leaves without one, or calls otherwise."""
    for button in context.get("header_buttons", ()):
        for entry in (button, *button.get("buttons", ())):
            if entry.get("label") == "source-issues-button":
                entry.update(text=REPORT, tooltip=REPORT)
    if draw := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = _with_named_arrows(draw)


def _with_named_arrows(draw: Callable[..., Any]) -> Callable[..., str]:
    """The arrow that opens a list in the sidebar is an icon, which a screen reader cannot read out."""

    def named(*args: Any, **options: Any) -> str:
        return str(draw(*args, **options)).replace("<summary>", '<summary aria-label="its pages">')

    return named


def setup(app: Sphinx) -> dict[str, bool | str]:
    app.connect("config-inited", link_to_repository, priority=400)
    app.connect("html-page-context", name_things, priority=900)  # after the theme
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
