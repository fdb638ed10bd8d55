"""The book's additions to Sphinx: maths without a network, figures, links to source lines, measurements."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from architecture import ABOUT as ARCHITECTURE
from architecture import draw_architecture
from docutils import nodes
from docutils.parsers.rst.states import Inliner
from laws import draw_laws
from pictures import drawing_of
from proof import proofs
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from avff_lib.notebook import data_uri

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # the scripts run from their folder and are not a package

from tables import cell_text, columns_of  # noqa: E402

# Annotated[type, note]: the type may have brackets, the note parentheses.
NOTE = re.compile(r"~?(?:typing\.)?Annotated\[((?:[^\[\],]|\[[^\[\]]*\])+), [~.\w]*(?:\([^()]*\))?\]")
BENCHMARKS = ROOT / "results" / "benchmarks.json"
Cell = str | nodes.Node | list[nodes.Node]  # text, the contents of a paragraph, or a paragraph for each


def bundle_mathjax(app: Sphinx) -> None:
    """Serve MathJax's single file from the installed package that contains it."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    script = Path(package.origin).parent / "static" / "mathjax" / "tex-svg.js"
    app.config.html_static_path.append(str(script))
    app.config.mathjax_path = script.name


class Architecture(SphinxDirective):
    """``{architecture}``: the drawing of the library's folders."""

    def run(self) -> list[nodes.Node]:
        return [_figure(draw_architecture, ARCHITECTURE)]


class Drawings(SphinxTransform):
    """Replace a picture, which is light and wide, by its drawing for each theme and shape.

    Notebooks name the picture, since JupyterLab can show it but does not know our directives.
    """

    default_priority = 10  # before Sphinx collects the pictures

    def apply(self, **kwargs: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            drawing = drawing_of(image["uri"])
            if drawing is not None:
                image.replace_self(_figure(drawing.draw, drawing.about))


def _figure(draw: Callable[[str, str], str], alt: str) -> nodes.raw:
    """A drawing in light and dark, wide and tall; the stylesheet shows the one that fits."""
    images = []
    for theme in ("light", "dark"):
        for shape in ("wide", "tall"):
            source = data_uri("image/svg+xml", draw(theme, shape).encode())
            images.append(f'<img class="pipeline only-{theme} pipeline-{shape}" alt="{alt}" src="{source}">')
    # In their own block: the theme hides a caption that is a sibling of a hidden picture.
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
    """``{run-times}``: a table of the notebooks, from the data that `make notebooks` stored in them."""

    def run(self) -> list[nodes.Node]:
        head = ["Notebook", "Code cells", "Outputs compared", "Seconds to run", "Peak memory (MB)"]
        rows: list[list[Cell]] = [[*head]]
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
            measured = notebook["metadata"].get("avff", {})
            figures = [str(measured.get(key) or "not measured") for key in ("seconds", "megabytes")]
            rows.append([_link(self.env.docname, document), str(len(cells)), str(len(compared)), *figures])
        return [_table(rows)]


class Versions(SphinxDirective):
    """``{versions} NAME...``: a table of packages and the versions that the book was built with."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        names = " ".join(self.content).split()
        rows: list[list[Cell]] = [["Package", "Version"], ["Python", platform.python_version()]]
        return [_table(rows + [[name, importlib.metadata.version(name)] for name in names])]


class Proof(SphinxDirective):
    """``{proof-table}``: each file of results/, how it was made, and what reads and tests it."""

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
    """A link from the document ``here`` to another; by default its text is the title."""
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
    """The results of ``make bench``; subclasses turn them into nodes."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(BENCHMARKS))
        return self.show(json.loads(BENCHMARKS.read_text(encoding="utf-8")))

    def show(self, results: dict[str, Any]) -> list[nodes.Node]:
        raise NotImplementedError


class BenchmarkMachine(Benchmarks):
    """``{benchmark-machine}``: the machine of the measurements."""

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
    """Rows of cells; the first row is the header."""
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


def without_notes(
    app: Sphinx, what: str, name: str, item: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Types without notes for programs (ranges, parsers' options), which hide a signature's names."""
    return signature and NOTE.sub(r"\1", signature), returns


def setup(app: Sphinx) -> dict[str, bool | str]:
    app.connect("builder-inited", bundle_mathjax, priority=100)
    app.connect("autodoc-process-signature", without_notes)
    app.add_transform(Drawings)
    app.add_directive("architecture", Architecture)
    app.add_directive("run-times", RunTimes)
    app.add_directive("versions", Versions)
    app.add_directive("proof-table", Proof)
    app.add_directive("benchmark-machine", BenchmarkMachine)
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("benchmark-laws", BenchmarkLaws)
    app.add_role("source", source_role)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
