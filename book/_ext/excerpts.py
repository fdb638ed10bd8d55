"""Excerpts in the search results, without a server.

Sphinx's own search fetches every page that it found, to quote from it. Browsers do not allow that to pages
opened as ``file://``, and with a server it loads megabytes of figures and players. So the text of all pages
is written into one script, ``_static/page-texts.js``, which the search page alone loads, and
``excerpts.js`` quotes from there.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

FILE = "page-texts.js"
BEFORE = "window.avffPageTexts="
SKIPPED = (
    nodes.raw, nodes.comment, nodes.math, nodes.math_block, nodes.image, nodes.system_message,
    addnodes.index, addnodes.toctree,
)  # fmt: skip


def page_text(node: nodes.Node) -> str:
    """The words of a page or of a part of it, as HTML of nothing but sections and their anchors."""
    if isinstance(node, nodes.Text):
        return html.escape(node.astext(), quote=False)
    if isinstance(node, SKIPPED):
        return ""
    inner = "".join(map(page_text, node.children))
    if isinstance(node, nodes.Inline):
        return inner
    if isinstance(node, nodes.section) and node["ids"]:
        # Results lead to the first anchor of a section; the others are those of labels before it.
        return f'<section id="{node["ids"][0]}">{inner}</section>\n'
    return f"{inner}\n"


def collect_text(app: Sphinx, tree: nodes.document, name: str) -> None:
    """Note the words of a page that is about to be written, with all references resolved."""
    texts_of(app)[name] = " ".join(page_text(tree).split())


def texts_of(app: Sphinx) -> dict[str, str]:
    """The words of the pages, by document: those of an earlier build, replaced by what this one writes."""
    if not hasattr(app, "avff_page_texts"):
        path = Path(app.outdir) / "_static" / FILE
        code = path.read_text(encoding="utf-8") if path.exists() else f"{BEFORE}{{}}"
        app.avff_page_texts = json.loads(code.removeprefix(BEFORE).strip().removesuffix(";"))
    return app.avff_page_texts


def write_texts(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    texts = {name: text for name, text in sorted(texts_of(app).items()) if name in app.env.found_docs}
    code = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    path = Path(app.outdir) / "_static" / FILE
    path.write_text(f"{BEFORE}{code};\n", encoding="utf-8")


def load_excerpts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if page == "search":
        app.add_js_file(FILE)
        app.add_js_file("excerpts.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool | str]:
    app.connect("html-page-context", load_excerpts)
    app.connect("doctree-resolved", collect_text)
    app.connect("build-finished", write_texts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
