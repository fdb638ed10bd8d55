"""What the book adds to Sphinx: maths without a network, the pipeline figure, the table of run times."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from pipeline import STAGES, draw
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ALT = (
    "The pipeline. A media file is read into frames and a waveform on one clock; each is prepared and "
    "encoded by its own network; the two sequences are fused; from the fused features a decoder rebuilds "
    "what the encoders said, and a classifier gives the verdict."
)


def bundle_mathjax(app: Sphinx) -> None:
    """Serve MathJax's single file from the installed package that carries it."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    script = Path(package.origin).parent / "static" / "mathjax" / "tex-svg.js"
    app.config.html_static_path.append(str(script))
    app.config.mathjax_path = script.name


class Pipeline(SphinxDirective):
    """``{pipeline} STAGE``: the pipeline figure, with "you are here" at STAGE if one is named."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        here = self.arguments[0] if self.arguments else None
        if here is not None:
            directives.choice(here, STAGES)
        alt = f"{ALT} You are here: {STAGES[here]}." if here else ALT
        images = []
        for theme in ("light", "dark"):
            for shape in ("wide", "tall"):
                code = base64.b64encode(draw(theme, shape, here).encode()).decode()
                images.append(
                    f'<img class="pipeline only-{theme} pipeline-{shape}" alt="{alt}" '
                    f'src="data:image/svg+xml;base64,{code}">'
                )
        return [nodes.raw("", "\n".join(images), format="html")]


class RunTimes(SphinxDirective):
    """``{run-times}``: a table of the notebooks, from what `make notebooks` stored in them."""

    def run(self) -> list[nodes.Node]:
        rows = [["Notebook", "Code cells", "Outputs compared", "Seconds to run"]]
        folder = Path(self.env.srcdir) / "notebooks"
        for path in sorted(folder.glob("*.ipynb")):
            document = f"notebooks/{path.stem}"
            if document not in self.env.found_docs:
                continue
            self.env.note_dependency(str(path))
            notebook = json.loads(path.read_text(encoding="utf-8"))
            cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
            compared = [
                cell
                for cell in cells
                if cell["outputs"] and "nbval-ignore-output" not in cell["metadata"].get("tags", [])
            ]
            seconds = notebook["metadata"].get("avff", {}).get("seconds", "not measured")
            rows.append([document, str(len(cells)), str(len(compared)), str(seconds)])
        return [self._table(rows)]

    def _table(self, rows: list[list[str]]) -> nodes.table:
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in rows[0]), cols=len(rows[0]))
        head, body = nodes.thead(), nodes.tbody()
        for number, row in enumerate(rows):
            entries = [nodes.entry("", nodes.paragraph("", "", self._text(number, text))) for text in row]
            (body if number else head).append(nodes.row("", *entries))
        group.extend([head, body])
        return nodes.table("", group)

    def _text(self, number: int, text: str) -> nodes.Node:
        if number == 0 or not text.startswith("notebooks/"):
            return nodes.Text(text)
        return pending_xref(
            "",
            nodes.inline("", text.removeprefix("notebooks/")),
            reftype="doc",
            refdomain="std",
            reftarget=f"/{text}",
            refexplicit=False,
            refdoc=self.env.docname,
        )


def setup(app: Sphinx) -> dict[str, bool | str]:
    app.connect("builder-inited", bundle_mathjax, priority=100)
    app.add_directive("pipeline", Pipeline)
    app.add_directive("run-times", RunTimes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
