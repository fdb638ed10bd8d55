"""The built pages as one PDF, in the order of the table of contents; `make pdf` builds them and runs this.

Chromium prints each page with the book's print stylesheet, and pypdf joins them: links between pages become
links inside the file, and parts, chapters and sections its outline.
"""

from __future__ import annotations

import html
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import yaml
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, FloatObject, NameObject, NullObject

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "pdf" / "avff-book.pdf"
sys.path.append(str(ROOT))

from tests.browser import Browser, find_chromium  # noqa: E402

HEADINGS = """[...document.querySelectorAll(".bd-article section")].flatMap(section => {
  const heading = section.querySelector(":scope > h1, :scope > h2");
  return heading ? [[heading.tagName, section.id, heading.textContent.replace(/#$/, "").trim()]] : [];
})"""


@dataclass
class Printed:
    """A printed page of the book.

    Attributes:
        part: caption of its part, or None for the front page.
        depth: 0 for a page of the contents, 1 for a page below another.
        title: its heading, with the chapter's number.
        sections: anchor and heading of each.
        first: number of its first sheet in the book, from 0.
        places: anchor -> sheet of the book, and the offsets from its left and lower edges.
    """

    part: str | None
    depth: int
    title: str = ""
    sections: list[tuple[str, str]] = field(default_factory=list)
    first: int = 0
    places: dict[str, tuple[int, float, float]] = field(default_factory=dict)


def contents() -> Iterator[tuple[str, Printed]]:
    """Every page of the book by its document, in order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    yield toc["root"], Printed(None, 0)
    for part in toc["parts"]:
        for entry in part["chapters"]:
            yield entry["file"], Printed(part["caption"], 0)
            for page in entry.get("sections", []):
                yield page["file"], Printed(part["caption"], 1)


def linked_anchors(documents: list[str]) -> dict[str, set[str]]:
    """For each document, the anchors that any page of the book links to."""
    anchors: dict[str, set[str]] = {document: set() for document in documents}
    for document in documents:
        path = SITE / f"{document}.html"
        for address in re.findall(r'<a [^>]*href="([^"]+)"', path.read_text(encoding="utf-8")):
            target, _, anchor = html.unescape(address).partition("#")
            if anchor and "://" not in target:
                aim = (path.parent / target).resolve() if target else path
                name = aim.with_suffix("").relative_to(SITE).as_posix() if SITE in aim.parents else ""
                if name in anchors:
                    anchors[name].add(unquote(anchor))
    return anchors


def print_page(browser: Browser, document: str, page: Printed, anchors: set[str], sheets: int) -> bytes:
    """Print a page whose first sheet follows ``sheets`` others; fills in its title and sections."""
    browser.open((SITE / f"{document}.html").as_uri())
    (_, _, page.title), *rest = browser.run(HEADINGS)
    page.sections = [(anchor, title) for tag, anchor, title in rest if tag == "H2"]
    # Chromium writes down the places of those anchors alone that the page itself links to.
    wanted = sorted(anchors | {anchor for anchor, _ in page.sections})
    links = "".join(f'<a href="#{html.escape(anchor)}">.</a>' for anchor in wanted)
    extra = (
        f"<style>html {{ counter-reset: page {sheets} }}</style>"
        f'<div style="position: absolute; top: 0; font-size: 1px; opacity: 0.01">{links}</div>'
    )
    browser.run(f"document.querySelector('.bd-article').insertAdjacentHTML('beforeend', {extra!r})")
    return browser.print()


def go_to(writer: PdfWriter, place: tuple[int, float, float]) -> ArrayObject:
    sheet, left, top = place
    return ArrayObject([writer.pages[sheet].indirect_reference, NameObject("/XYZ"),
                        FloatObject(left), FloatObject(top), NullObject()])  # fmt: skip


def places_of(reader: PdfReader, first: int) -> dict[str, tuple[int, float, float]]:
    """Where the anchors of one printed page are, in a book that has ``first`` sheets before it."""
    return {
        unquote(name.lstrip("/")): (first + number, float(place.left or 0), float(place.top or 842))
        for name, place in reader.named_destinations.items()
        if (number := reader.get_destination_page_number(place)) is not None
    }


def join_links(writer: PdfWriter, pages: dict[str, Printed]) -> None:
    """Make links that lead to another page of the book lead to its place in the file."""
    starts = [(page.first, document) for document, page in pages.items()]
    for number, sheet in enumerate(writer.pages):
        here = max(start for start in starts if start[0] <= number)[1]
        kept = ArrayObject()
        for reference in sheet.get("/Annots", ()):
            link = reference.get_object()
            address = str(link.get("/A", {}).get("/URI", "")) if "/A" in link else ""
            document, anchor = here, unquote(str(link.get("/Dest", "")).lstrip("/"))
            if address.startswith(SITE.as_uri()):
                target, _, anchor = unquote(address.removeprefix(SITE.as_uri() + "/")).partition("#")
                document = target.removesuffix(".html")
                if document not in pages:
                    continue  # a page that is not printed, such as the source code
            elif address or not anchor:
                kept.append(reference)
                continue
            page = pages[document]
            link.pop("/A", None)
            link[NameObject("/Dest")] = go_to(writer, page.places.get(anchor, (page.first, 0, 842)))
            kept.append(reference)
        sheet[NameObject("/Annots")] = kept


def outline(writer: PdfWriter, pages: dict[str, Printed]) -> None:
    parts: dict[str, object] = {}
    above = None
    for page in pages.values():
        parent = None
        if page.part is not None:
            if page.part not in parts:
                parts[page.part] = writer.add_outline_item(title=page.part, page_number=page.first)
            parent = above if page.depth else parts[page.part]
        item = writer.add_outline_item(title=page.title, page_number=page.first, parent=parent, is_open=False)
        above = above if page.depth else item
        for anchor, title in page.sections:
            if anchor in page.places:
                writer.add_outline_item(title=title, page_number=page.places[anchor][0], parent=item)


def main() -> None:
    if find_chromium() is None:
        sys.exit("The PDF is printed by Chromium, and none was found: install it, or name one in CHROMIUM.")
    pages = dict(contents())
    if missing := [document for document in pages if not (SITE / f"{document}.html").exists()]:
        sys.exit(f"{missing[0]} is not built, so no PDF can be made of the pages; run: make book")
    anchors = linked_anchors(list(pages))
    writer = PdfWriter()
    browser = Browser("--allow-file-access-from-files")
    try:
        for document, page in pages.items():
            page.first = len(writer.pages)
            reader = PdfReader(io.BytesIO(print_page(browser, document, page, anchors[document], page.first)))
            page.places = places_of(reader, page.first)
            for sheet in reader.pages:
                writer.add_page(sheet)
    finally:
        browser.close()
    join_links(writer, pages)
    outline(writer, pages)
    writer.add_metadata({"/Title": "The AVFF book", "/Author": "The AVFF contributors"})
    writer.root_object[NameObject("/PageMode")] = NameObject("/UseOutlines")
    writer.root_object[NameObject("/ViewerPreferences")] = DictionaryObject()
    writer.compress_identical_objects()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    writer.write(OUT)
    print(f"{OUT.relative_to(ROOT)}: {len(writer.pages)} pages")


if __name__ == "__main__":
    main()
