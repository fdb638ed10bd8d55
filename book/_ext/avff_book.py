"""What the book adds to Sphinx: maths without a network, figures, links to source lines, measurements."""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from architecture import ABOUT as ARCHITECTURE
from architecture import draw_architecture
from diagrams import DIAGRAMS, draw_diagram
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.parsers.rst.states import Inliner
from laws import draw_laws
from pipeline import ABOUT as PIPELINE
from pipeline import STAGES, draw
from proof import proofs
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # the scripts are run from their folder, and are no package

from tables import cell_text, columns_of  # noqa: E402

BENCHMARKS = ROOT / "results" / "benchmarks.json"
Cell = str | nodes.Node | list[nodes.Node]  # text, what a paragraph can hold, or a paragraph for each


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
        alt = f"{PIPELINE} You are here: {STAGES[here]}." if here else PIPELINE
        return [_figure(lambda theme, shape: draw(theme, shape, here), alt)]


class Architecture(SphinxDirective):
    """``{architecture}``: the drawing of the library's folders."""

    def run(self) -> list[nodes.Node]:
        return [_figure(draw_architecture, ARCHITECTURE)]


class Diagram(SphinxDirective):
    """``{diagram} NAME``: a drawing of `DIAGRAMS`, captioned by the content and labelled ``diagram-NAME``."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = directives.choice(self.arguments[0], DIAGRAMS)
        drawing = _figure(lambda theme, shape: draw_diagram(name, theme, shape), DIAGRAMS[name].about)
        words, messages = self.state.inline_text("\n".join(self.content), self.lineno)
        figure = nodes.figure("", drawing, nodes.caption("", "", *words))
        self.set_source_info(figure)
        figure["names"].append(f"diagram-{name}")
        self.state.document.note_explicit_target(figure, figure)
        return [figure, *messages]


def _figure(draw: Callable[[str, str], str], alt: str) -> nodes.raw:
    """A drawing in light and dark, lying and standing; the stylesheet shows the one that fits."""
    images = []
    for theme in ("light", "dark"):
        for shape in ("wide", "tall"):
            code = base64.b64encode(draw(theme, shape).encode()).decode()
            images.append(
                f'<img class="pipeline only-{theme} pipeline-{shape}" alt="{alt}" '
                f'src="data:image/svg+xml;base64,{code}">'
            )
    # In a block of their own: the theme hides the caption that is a sibling of a hidden picture.
    return nodes.raw("", "\n".join(["<div>", *images, "</div>"]), format="html")


def source_role(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: Any = None,
    content: Any = None,
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """``{source}`avff_lib.media.decode.iter_clips` ``: a link to the lines of a function, class or method."""
    parts = text.split(".")
    for length in range(len(parts), 0, -1):
        if (ROOT / "/".join(parts[:length])).with_suffix(".py").exists():
            module, member = parts[:length], ".".join(parts[length:])
            break
    else:
        message = inliner.reporter.error(f"{text} is in no module of the library", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    up = "../" * inliner.document.settings.env.docname.count("/")
    target = f"{up}_modules/{'/'.join(module)}.html#{member}"
    return [nodes.reference("", "", nodes.literal("", member), refuri=target)], []


class RunTimes(SphinxDirective):
    """``{run-times}``: a table of the notebooks, from what `make notebooks` stored in them."""

    def run(self) -> list[nodes.Node]:
        rows: list[list[Cell]] = [["Notebook", "Code cells", "Outputs compared", "Seconds to run"]]
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
            link = _link(self.env.docname, document)
            rows.append([link, str(len(cells)), str(len(compared)), str(seconds)])
        return [_table(rows)]


class Proof(SphinxDirective):
    """``{proof-table}``: each file of results/, how it was made, and what reads and holds it."""

    def run(self) -> list[nodes.Node]:
        rows: list[list[Cell]] = [["File", "Made by", "Data and seeds", "Read by", "Held by"]]
        for path in (*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("book/*.md"), *ROOT.glob("tests/test_*.py")):
            self.env.note_dependency(str(path))
        for proof in proofs():
            self.env.note_dependency(str(proof.path))
            readers: list[nodes.Node] = [
                _link(self.env.docname, name, _short(name))
                for name in proof.readers
                if name in self.env.found_docs
            ]
            readers += [nodes.Text(f"card of {name}") for name in proof.cards]
            data = [
                nodes.literal("", part) if part.startswith(("avff ", "data/", "FOLDER")) else nodes.Text(part)
                for part in proof.data
            ]
            if proof.seeds:
                data.append(nodes.Text(f"trained with seeds {', '.join(map(str, proof.seeds))}"))
            row: list[Cell] = [
                nodes.literal("", proof.path.stem),
                [nodes.literal("", command) for command in proof.commands],
                data,
                readers,
                [nodes.literal("", name) for name in proof.tests],
            ]
            rows.append([cell or "–" for cell in row])
        return [_table(rows)]


def _short(document: str) -> str:
    """``chapter 5``, or the name of a page."""
    name = document.rpartition("/")[2]
    return f"chapter {int(name[:2])}" if name[:2].isdigit() else name.replace("_", " ")


def _link(here: str, document: str, text: str | None = None) -> pending_xref:
    """A link from the document ``here`` to another; its text is the title, unless one is given."""
    return pending_xref(
        "",
        nodes.inline("", text or document.rpartition("/")[2]),
        reftype="doc",
        refdomain="std",
        reftarget=f"/{document}",
        refexplicit=text is not None,
        refdoc=here,
    )


class Benchmarks(SphinxDirective):
    """What ``make bench`` stored; a subclass makes nodes of it."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(BENCHMARKS))
        return self.show(json.loads(BENCHMARKS.read_text(encoding="utf-8")))

    def show(self, results: dict[str, Any]) -> list[nodes.Node]:
        raise NotImplementedError


class BenchmarkMachine(Benchmarks):
    """``{benchmark-machine}``: what it was measured on."""

    def show(self, results: dict[str, Any]) -> list[nodes.Node]:
        rows = [["", "Measured on"], *([name, str(value)] for name, value in results["machine"].items())]
        dates = sorted(entry["date"] for entry in results["benchmarks"].values())
        rows.append(["date", " to ".join(sorted({dates[0], dates[-1]}))])
        if quick := [name for name, entry in results["benchmarks"].items() if entry.get("quick")]:
            rows.append(["with reduced settings", ", ".join(quick)])
        return [_table(rows)]


class BenchmarkTable(Benchmarks):
    """``{benchmark-table} NAME: TITLE``: a table of one benchmark."""

    required_arguments = 1
    final_argument_whitespace = True

    def show(self, results: dict[str, Any]) -> list[nodes.Node]:
        name, title = self.arguments[0].split(": ")
        table = results["benchmarks"][name]["tables"][title]
        columns = columns_of(table)
        rows = [["", *columns]]
        for label, row in table.items():
            rows.append([label, *(cell_text(row.get(column, "")) for column in columns)])
        return [_table(rows)]


class BenchmarkLaws(Benchmarks):
    """``{benchmark-laws}``: the drawing of how costs grow."""

    def show(self, results: dict[str, Any]) -> list[nodes.Node]:
        tables = results["benchmarks"]["cost"]["tables"]
        laws = "; ".join(
            f"{law}, from {row['from']} to {row['to']}: {row['exponent']['median']:.2f}"
            for law, row in tables["exponents"].items()
        )
        alt = f"Seconds against size in logarithms, with a straight line each. The exponents: {laws}."
        return [_figure(lambda theme, shape: draw_laws(theme, shape, tables, alt), alt)]


def _table(rows: Sequence[Sequence[Cell]]) -> nodes.table:
    """Rows of cells; the first one is the head."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in rows[0]), cols=len(rows[0]))
    head, body = nodes.thead(), nodes.tbody()
    for number, row in enumerate(rows):
        entries = []
        for cell in row:
            if isinstance(cell, str):
                cell = nodes.Text(cell)
            parts = cell if isinstance(cell, list) else [cell]
            entries.append(nodes.entry("", *(nodes.paragraph("", "", part) for part in parts)))
        (body if number else head).append(nodes.row("", *entries))
    group.extend([head, body])
    return nodes.table("", group)


def setup(app: Sphinx) -> dict[str, bool | str]:
    app.connect("builder-inited", bundle_mathjax, priority=100)
    app.add_directive("pipeline", Pipeline)
    app.add_directive("diagram", Diagram)
    app.add_directive("architecture", Architecture)
    app.add_directive("run-times", RunTimes)
    app.add_directive("proof-table", Proof)
    app.add_directive("benchmark-machine", BenchmarkMachine)
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("benchmark-laws", BenchmarkLaws)
    app.add_role("source", source_role)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
