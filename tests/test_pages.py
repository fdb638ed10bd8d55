"""What must hold for the built pages; `make pages` builds them first.

Without built pages or without a browser nothing can be said: that is a failure in CI and a skip elsewhere.
"""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tests.browser import Browser, unavailable

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build/html"
PHONE, DESK = 390, 1280  # widths in CSS pixels

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
    # But for the reference of all modules, which is searched and not read through.
    assert [path for path in pages if path.stat().st_size > 2_000_000 and path.stem != "api"] == []


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


def test_search_finds_a_word(pages, browser, server):
    browser.open(f"{server}search.html?q=coarticulation")
    found = browser.run(
        "new Promise(done => setInterval(() => {"
        "  const count = document.querySelectorAll('#search-results li a').length;"
        "  if (count) done(count) }, 50))"
    )
    assert found >= 1


def test_quiz_answers_and_threshold_slider_counts_by_keyboard(pages, browser, server):
    browser.open(f"{server}notebooks/13_evaluation.html")
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
