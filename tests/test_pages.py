"""What must hold for the built pages; `make pages` builds them first.

Without built pages or without a browser nothing can be said: that is a failure in CI and a skip elsewhere.
"""

import importlib.util
import io
import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

from tests.browser import Browser, find_chromium, unavailable

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build/html"
sys.path.append(str(ROOT / "book"))
PHONE, DESK = 390, 1280  # widths in CSS pixels
AXE = Path(importlib.util.find_spec("axe_playwright_python").origin).with_name("axe.min.js")
# One of each kind; the chapter has a quiz, exercises and a part that answers the reader.
TYPICAL = (
    "book/intro",
    "notebooks/16_evaluation",
    "book/glossary",
    "book/api/media",
    "search",
)

# What the reader sees of a page's maths, pictures and players, and what is wider than the screen.
INSPECT = """
(async width => {
  const all = what => [...document.querySelectorAll(what)];
  const seen = e => e.getClientRects().length > 0;
  const scrolls = e => /auto|scroll|hidden/.test(getComputedStyle(e).overflowX);
  const inside = e => { for (e = e.parentElement; e && e !== document.body; e = e.parentElement)
                          if (scrolls(e)) return true; return false };
  const name = e => e.outerHTML.slice(0, 120);
  const players = all("video, audio");
  await Promise.all(players.map(p => p.readyState || new Promise(done => {
    p.addEventListener("loadedmetadata", done); p.addEventListener("error", done); p.load() })));
  const pictures = [...document.images].filter(seen);
  await Promise.all(pictures.map(p => { p.loading = "eager"; return p.decode().catch(() => 0) }));
  return {
    maths: all(".math").filter(e => !e.querySelector("mjx-container svg")).map(name),
    errors: all("[data-mml-node=merror]").map(name),
    pictures: pictures.filter(p => !p.naturalWidth).map(name),
    players: players.filter(p => !(p.duration > 0)).map(name),
    wide: all(".bd-article *").filter(
      e => seen(e) && e.getBoundingClientRect().right > width + 1 && !inside(e)).map(name),
    scroll: Math.max(0, document.scrollingElement.scrollWidth - width),
    figures: all("img.pipeline").filter(seen).length - all("img.pipeline").length / 4,
  };
})
"""


@pytest.fixture(scope="module")
def pages() -> dict[Path, BeautifulSoup]:
    if not (SITE / "index.html").exists():
        unavailable("the pages are not built; run: make pages")
    files = [path for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in files}
    # The index only leads on to the intro.
    return {path: page for path, page in pages.items() if not page.select("meta[http-equiv=Refresh]")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_nothing_is_loaded_from_another_host(pages):
    loads = (
        "script[src]",
        "link[href]",
        "img[src]",
        "video[src]",
        "audio[src]",
        "source[src]",
        "iframe[src]",
    )
    found = [
        f"{path.relative_to(SITE)}: {url}"
        for path, page in pages.items()
        for element in page.select(", ".join(loads))
        if urlsplit(url := element.get("src") or element.get("href")).netloc
    ]
    for sheet in SITE.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        found += [str(sheet) for start in ("url(http", "url(//", "url('http", 'url("http') if start in text]
    assert found == []


def test_pages_are_small(pages):
    assert [path for path in pages if path.stat().st_size > 2_000_000] == []


def test_index_leads_to_the_intro(pages):
    target = (SITE / "index.html").read_text().partition("url=")[2].split('"')[0]
    assert SITE / target in pages


def test_every_link_inside_the_book_leads_somewhere(pages):
    anchors = {
        path: {element[key] for key in ("id", "name") for element in page.select(f"[{key}]")}
        for path, page in pages.items()
    }
    broken = []
    for path, page in pages.items():
        for link in page.select("a[href]"):
            url = urlsplit(link["href"])
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            missing = not target.exists() or (
                url.fragment and target in anchors and unquote(url.fragment) not in anchors[target]
            )
            if missing:
                broken.append(f"{path.relative_to(SITE)}: {link['href']}")
    assert broken == []


def test_pages_hold_no_path_of_this_machine(pages):
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    assert [path for path, text in texts.items() if f"{ROOT}/" in text or f"{Path.home()}/" in text] == []


def test_no_option_of_a_directive_is_left_as_text(pages):
    articles = {path: page.select_one("article") for path, page in pages.items()}
    assert [path for path, article in articles.items() if article and ":name: " in article.get_text()] == []


def test_signatures_show_types_and_no_notes_for_programs(pages):
    shown = [sign.get_text() for page in pages.values() for sign in page.select("dt.sig")]
    assert len(shown) > 500
    assert [text for text in shown if "Annotated[" in text] == []


def test_every_picture_says_in_words_what_it_shows(pages):
    found = [
        f"{path.relative_to(SITE)}: {picture.get('alt')!r}"
        for path, page in pages.items()
        for picture in page.select("article img:not(.toggler)")
        if len((picture.get("alt") or "").split()) < 5
    ]
    assert found == []


@pytest.mark.parametrize(("width", "dark"), [(DESK, False), (PHONE, True)], ids=["desk-light", "phone-dark"])
def test_every_page_is_drawn_whole(pages, browser, server, width, dark):
    wrong = {}
    for path in pages:
        name = path.relative_to(SITE).as_posix()
        browser.open(server + name, width=width, dark=dark)
        problems = {what: value for what, value in browser.run(f"({INSPECT})({width})").items() if value}
        outside = [url for url in browser.requests if not url.startswith((server, "data:", "blob:"))]
        if problems or browser.errors or outside:
            wrong[name] = (problems, browser.errors, outside)
    assert wrong == {}


@pytest.mark.parametrize("served", [True, False], ids=["served", "opened as a file"])
def test_search_finds_a_word_and_quotes_it(pages, browser, server, served):
    browser.open(f"{server if served else SITE.as_uri() + '/'}search.html?q=coarticulation")
    browser.wait_for("Search.status?.innerText.startsWith('Search finished')")
    quotes = browser.run(
        "[...document.querySelectorAll('#search-results li .context')].map(e => e.innerText.toLowerCase())"
    )
    assert quotes
    assert all("coarticulat" in quote for quote in quotes)  # any form of the word
    marked = "document.querySelectorAll('#search-results li:has(.context .highlighted)').length"
    assert browser.run(marked) == len(quotes)
    # No file:// page may load a font; the icons are drawn without.
    assert [error for error in browser.errors if ".woff2" not in error] == []


def test_quiz_answers_and_threshold_slider_counts_by_keyboard(pages, browser, server):
    browser.open(f"{server}notebooks/16_evaluation.html")
    browser.run("document.querySelector('.avff-quiz input').focus()")
    shown = "[...document.querySelectorAll('.avff-answer > *')].filter(e => !e.hidden).map(e => e.innerText)"
    assert browser.run(shown) == []
    browser.press(" ")
    answers = browser.run(shown)
    browser.press("ArrowDown")
    answers += browser.run(shown)
    assert len(answers) == 2
    assert all(answer.startswith(("✓ Right.", "✗ Not this one.")) for answer in answers)

    counts = "['fp', 'tp'].map(name => +document.querySelector(`[data-out=${name}]`).textContent)"
    before = browser.run(counts)
    browser.run("document.querySelector('[data-in=threshold]').focus()")
    browser.press("Home")  # the lowest threshold: nearly all are called fake
    assert all(few < many for few, many in zip(before, browser.run(counts), strict=True))
    assert browser.errors == []


def test_every_question_became_a_group_of_choices(pages, browser, server):
    for path, page in pages.items():
        questions = page.select("#quiz .admonition")
        if not questions:
            continue
        browser.open(server + path.relative_to(SITE).as_posix())
        assert browser.run("document.querySelectorAll('#quiz fieldset').length") == len(questions), path


def test_chapters_figures_equations_and_exercises_share_a_number(pages):
    for path, page in pages.items():
        if path.parent.name != "notebooks":
            continue
        number = page.select_one("h1 .section-number").text.strip().removesuffix(".")
        entry = page.select_one("nav.bd-docs-nav li.current > a.current").text
        assert entry.strip().startswith(f"{number}. "), path
        for shown in page.select("article .caption-number"):
            assert shown.text.split()[:1] in (["Figure"], ["Table"], ["Exercise"]), shown.text
            assert shown.text.split()[1].startswith(f"{number}."), shown.text
        for shown in page.select("article .eqno"):
            assert shown.text.startswith(f"({number}."), f"{path.stem}: {shown.text}"


def test_every_chapter_offers_its_notebook(pages):
    for path, page in pages.items():
        if path.parent.name == "notebooks":
            link = page.select_one(".btn-download-source-button")
            stored = (path.parent / link["href"]).resolve()
            assert stored.read_bytes() == (ROOT / f"notebooks/{path.stem}.ipynb").read_bytes()
            assert json.loads(stored.read_text(encoding="utf-8"))["cells"]


def test_figures_stand_on_the_dark_page_itself(pages, browser, server):
    browser.open(f"{server}notebooks/16_evaluation.html", dark=True)
    styles = browser.run(
        "[...document.querySelectorAll('article .cell_output img')].map(e => getComputedStyle(e))"
        ".map(s => [s.backgroundColor, s.filter, s.paddingTop])"
    )
    assert styles
    assert all(style == ["rgba(0, 0, 0, 0)", "none", "0px"] for style in styles)


@pytest.mark.parametrize(("width", "dark"), [(DESK, False), (PHONE, True)], ids=["desk-light", "phone-dark"])
def test_axe_finds_nothing_serious(pages, browser, server, width, dark):
    found = []
    for name in TYPICAL:
        browser.open(f"{server}{name}.html", width=width, dark=dark)
        # Colours that still change from the light theme to the dark one would be measured half-way.
        still = "<style>* { transition: none !important }</style>"
        browser.run(f"document.head.insertAdjacentHTML('beforeend', '{still}')")
        browser.run(f"{AXE.read_text(encoding='utf-8')}; 0")
        found += browser.run(
            "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations"
            ".filter(v => ['serious', 'critical'].includes(v.impact)).flatMap(v => v.nodes.map("
            f"n => `{name}: ${{v.id}}: ${{n.html.slice(0, 150)}} ${{n.failureSummary}}`)))"
        )
    assert found == []


def test_print_opens_what_is_folded_and_leaves_out_what_is_for_the_screen(pages, browser, server):
    browser.open(f"{server}notebooks/18_your_own_data.html", dark=True)
    state = (
        "[document.documentElement.dataset.theme, document.querySelectorAll('details:not([open])').length,"
        " document.querySelector('nav.bd-docs-nav .caption-text').textContent]"
    )
    before = browser.run(state)
    text = " ".join(
        " ".join(sheet.extract_text() for sheet in PdfReader(io.BytesIO(browser.print())).pages).split()
    )
    assert browser.run(state) == before
    page = pages[SITE / "notebooks/18_your_own_data.html"]
    choices = page.select("#quiz .admonition > details")
    assert len(choices) >= 6
    assert text.count("Not this one.") + text.count("Right.") >= len(choices)
    for fold in page.select("article details"):
        words = " ".join(fold.get_text(" ").split()).split()[-1]
        assert words in text
    assert before[0] == "dark"
    assert f"{before[2]} " not in text[:2000]
    assert "Show code cell" not in text


def test_pages_become_one_file_with_an_outline_and_inner_links(pages, monkeypatch, tmp_path, capsys):
    if find_chromium() is None:
        unavailable("no Chromium was found")
    import make_pdf

    every = dict(make_pdf.contents())
    assert [SITE / f"{name}.html" in pages for name in every] == [True] * len(every)
    some = [(name, every[name]) for name in ("book/intro", "book/limits", "book/glossary")]
    monkeypatch.setattr(make_pdf, "contents", lambda: iter(some))
    monkeypatch.setattr(make_pdf, "ROOT", tmp_path)
    monkeypatch.setattr(make_pdf, "OUT", tmp_path / "book.pdf")
    make_pdf.main()
    reader = PdfReader(tmp_path / "book.pdf")
    assert capsys.readouterr().out == f"book.pdf: {len(reader.pages)} pages\n"
    titles = [item.title for item in reader.outline if not isinstance(item, list)]
    assert titles == ["The AVFF book", every["book/limits"].part]
    links = [link.get_object() for sheet in reader.pages[:4] for link in sheet.get("/Annots", ())]
    assert [link for link in links if "file:" in str(link.get("/A", ""))] == []
    limits = every["book/limits"].first
    assert limits > 0
    assert any(link["/Dest"][0].get_object() == reader.pages[limits] for link in links if "/Dest" in link)
    assert f"{limits + 1}" in reader.pages[limits].extract_text()


def test_pdf_without_a_browser_is_one_sentence(monkeypatch):
    import make_pdf

    monkeypatch.setattr(make_pdf, "find_chromium", lambda: None)
    with pytest.raises(SystemExit, match=r"^The PDF is printed by Chromium, and none was found: [^.]+\.$"):
        make_pdf.main()
