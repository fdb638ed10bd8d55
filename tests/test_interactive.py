"""The parts of the book that answer the reader: their markup, their data, and a tiny book in a browser."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from nbformat import read
from sklearn.metrics import roc_auc_score
from sphinx.application import Sphinx

from avff_lib import Detector
from avff_lib.evaluation.summary import confusion_counts
from avff_lib.inference import sync
from avff_lib.inference.timeline import aggregate_scores
from avff_lib.nn.masking import complementary_slices
from tests.browser import Browser

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "book/_assets"
sys.path.append(str(ROOT / "book/_ext"))

import interactive  # noqa: E402
from drawing import PALETTES  # noqa: E402

SCRIPTS = sorted(ASSETS.glob("*.js"))
NUMBER = r"-?\d+(?:\.\d+)?"
parts = pytest.mark.parametrize("name", interactive.PARTS)
scripts = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)

QUIZ = """
## Quiz

:::::{admonition} 1. How much is one and one?
:class: note

::::{dropdown} a) One
No. Count again.
::::
::::{dropdown} b) Two
**Right.** By definition.
::::
:::::
"""


def data_of(name: str) -> dict:
    return interactive.PARTS[name].data()


def out(page: BeautifulSoup, name: str) -> str:
    return page.select_one(f'[data-out="{name}"]').text


@pytest.fixture(scope="module")
def pages() -> dict[str, BeautifulSoup]:
    return {name: BeautifulSoup(interactive.page_html(name), "html.parser") for name in interactive.PARTS}


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """A book of a page with all parts and a quiz, and of a page with neither."""
    folder = tmp_path_factory.mktemp("book")
    placed = [
        f":::{{figure}} drawings/interactive-{name}.svg\n:name: interactive-{name}\n\nCaption of {name}.\n:::"
        for name in interactive.PARTS
    ]
    (folder / "index.md").write_text("\n\n".join(["# All", *placed, QUIZ]))
    (folder / "plain.md").write_text("---\norphan: true\n---\n# Nothing here\n")
    settings = {
        "extensions": ["myst_parser", "sphinx_design", "interactive"],
        "html_theme": "basic",
        "html_static_path": [str(ASSETS)],
        "myst_enable_extensions": ["colon_fence"],
    }
    site = folder / "site"
    app = Sphinx(folder, None, site, folder / "trees", "html", settings, status=None, warning=None)
    app.build()
    return site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, book) -> Iterator[Browser]:
    browser.open((book / "index.html").as_uri())
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_every_part_stands_in_one_chapter_with_its_picture_and_a_caption():
    cells = [
        cell.source
        for path in sorted(ROOT.glob("notebooks/*.ipynb"))
        for cell in read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    ]
    placed = re.findall(
        r"^:::\{figure\} drawings/interactive-(\w+)\.svg\n:name: interactive-\1\n:alt: (.+)\n\n(.+)\n:::$",
        "\n\n".join(cells),
        re.MULTILINE,
    )
    assert sorted(name for name, *_ in placed) == sorted(interactive.PARTS)
    for name, alt, caption in placed:
        assert alt == interactive.PARTS[name].about
        assert len(caption.split()) >= 5


def test_every_quiz_has_one_right_choice_a_question():
    # The script takes a question with none, or with several, for something else, and leaves it as it is.
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        quiz = next(
            cell.source for cell in read(path, as_version=4).cells if cell.source.startswith("## Quiz")
        )
        questions = quiz.split(":::::{admonition} ")[1:]
        assert questions, path.stem
        for question in questions:
            choices = re.findall(r"^::::\{dropdown\} .+\n(.+)", question, re.MULTILINE)
            assert len(choices) >= 2, question
            assert sum(choice.startswith("**Right.**") for choice in choices) == 1, question


@parts
def test_committed_picture_is_the_drawn_one(name):
    def split(code: str) -> tuple[list[str], np.ndarray]:
        # Encoded pictures differ from version to version of their encoder.
        code = re.sub(r'base64,[^"]+', "", code)
        return re.split(NUMBER, code), np.array(re.findall(NUMBER, code), float)

    stored = split(interactive.picture_file(name).read_text(encoding="utf-8"))
    drawn = split(interactive.picture(name))
    assert stored[0] == drawn[0]
    np.testing.assert_allclose(stored[1], drawn[1], atol=1)


@parts
def test_drawing_keeps_its_words_inside_and_legible_on_a_phone(name):
    root = ElementTree.fromstring(interactive.picture(name))
    width, height = interactive.PARTS[name].size

    def look(element: ElementTree.Element, x: float, y: float) -> None:
        if moved := re.match(rf"translate\(({NUMBER}) ({NUMBER})\)", element.get("transform", "")):
            x, y = x + float(moved[1]), y + float(moved[2])
        if element.tag.endswith("}text"):
            size = float(element.get("font-size"))
            length = 0.6 * size * len(element.text)
            share = {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor")]
            left = x + float(element.get("x")) - share * length
            assert 0 <= left <= left + length <= width, element.text
            assert size <= y + float(element.get("y")) <= height, element.text
            assert size * 358 / width >= 11, element.text
        for child in element:
            look(child, x, y)

    look(root, 0, 0)


@parts
def test_markup_needs_no_style_or_script_of_its_own(name, pages):
    page = pages[name]
    for element in page.find_all():
        assert not [key for key in element.attrs if key == "style" or key.startswith("on")], element
    assert [script["type"] for script in page.select("script")] == ["application/json"]
    assert json.loads(page.select_one("script").text) == json.loads(json.dumps(data_of(name)))
    assert page.select_one("svg > title").text
    assert page.select_one("svg > desc").text
    assert page.select_one("[aria-live]").text
    assert page.select_one(".avff-controls").has_attr("hidden")  # until the script runs
    for control in page.select("input"):
        assert control.find_parent("label").text.strip()
    assert len(str(page)) < 300_000


@scripts
def test_script_is_plain_and_calls_nobody(path):
    code = path.read_text(encoding="utf-8")
    assert '"use strict";' in code
    assert not re.search(
        r"//\w|https?:|\bfetch\b|\bimport\b|XMLHttp|eval\(|innerHTML|\.style\b|\.on\w+ =", code
    )
    if node := shutil.which("node"):
        subprocess.run([node, "--check", path], check=True, timeout=60)


def test_every_part_has_a_script_and_the_stylesheet_has_the_palette():
    of_every_page, of_the_search = {"print", "reach"}, {"excerpts"}
    assert {path.stem for path in SCRIPTS} == {*interactive.PARTS, "quiz", *of_every_page, *of_the_search}
    light, dark = re.findall(
        r"html(?:\[.+?\])? \{(.+?)\}", (ASSETS / "interactive.css").read_text(), re.DOTALL
    )
    for theme, code in (("light", light), ("dark", dark)):
        assert dict(re.findall(r"--avff-([\w-]+): (#\w+);", code)) == PALETTES[theme]


def test_threshold_counts_are_the_librarys(pages):
    stored = json.loads((ROOT / "results/scores-avff-tiny.json").read_text())["test"]
    config = Detector.from_pretrained("avff-tiny").config
    labels = np.array(stored["label"])
    scores = np.array([aggregate_scores(windows, config.calibration) for windows in stored["windows"]])
    data, page = data_of("threshold"), pages["threshold"]

    assert data["thresholds"] == sorted(data["thresholds"])
    assert data["thresholds"][data["start"]] == round(config.threshold, 3)
    for index in (0, 50, len(data["thresholds"]) - 1):
        counts = confusion_counts(labels, scores, data["thresholds"][index])
        assert data["counts"][index] == list(counts.values())
    shown = [int(out(page, name)) for name in data["names"]]
    counts = confusion_counts(labels, scores, config.threshold)
    assert shown == list(counts.values())
    assert list(counts) == ["true_negatives", "false_positives", "false_negatives", "true_positives"]

    tn, fp, fn, tp = shown
    accused, found = 1000 * 0.99 * fp / (fp + tn), 1000 * 0.01 * tp / (tp + fn)
    assert float(out(page, "accused")) == pytest.approx(accused, abs=0.5)
    assert float(out(page, "found")) == pytest.approx(found, abs=0.05)
    assert float(out(page, "found")) + float(out(page, "missed")) == pytest.approx(10, abs=0.11)
    assert float(out(page, "innocent")) == pytest.approx(100 * accused / (accused + found), abs=0.5)

    fpr, tpr = np.array(data["curve"]).T
    area = np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2)
    assert area == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)


def test_shifted_voice_is_measured_where_it_was_put(pages):
    data, clip = data_of("voice"), interactive.spoken_clip()
    curves, shifts = np.array(data["curves"]), np.array(data["shifts"])
    np.testing.assert_allclose(curves[len(shifts) // 2], sync.measure_sync(clip).curve, atol=6e-4)
    assert np.abs(shifts[curves.argmax(axis=1)] - shifts).max() < 1.01 * sync.CURVE_STEP
    assert (shifts[0], shifts[-1]) == (-0.6, 0.6)
    assert out(pages["voice"], "lag") == out(pages["voice"], "seconds") == "0.24 s"

    with wave.open(io.BytesIO(base64.b64decode(data["wave"]))) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, clip.sample_rate)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert np.corrcoef(samples, clip.waveform)[0, 1] > 0.9999
    assert len(data["wave"]) < 200_000


def test_masks_are_drawn_by_the_library(pages):
    visual, audio = complementary_slices(24, 8, torch.Generator().manual_seed(1))
    data, page = data_of("masks"), pages["masks"]
    assert data["draws"] == (visual + 1).tolist()
    assert out(page, "video") == ", ".join(map(str, (visual[0] + 1).tolist()))
    assert out(page, "audio") == ", ".join(map(str, (audio[0] + 1).tolist()))
    shown = page.select('[data-part="sees-video"]:not([display])')
    assert [int(part.parent["data-slice"]) for part in shown] == data["draws"][0]


def test_pages_load_the_scripts_of_what_is_in_them(book):
    def loaded(name: str) -> set[str]:
        page = BeautifulSoup((book / name).read_text(), "html.parser")
        ours = {*(path.name for path in SCRIPTS), "interactive.css"}
        urls = [element.get("src") or element["href"] for element in page.select("script[src], link[href]")]
        return {Path(url.partition("?")[0]).name for url in urls} & ours

    scripts = {f"{name}.js" for name in (*interactive.PARTS, "quiz")}
    assert loaded("index.html") == {*scripts, "interactive.css"}
    assert loaded("plain.html") == set()
    text = (book / "index.html").read_text()
    assert "Caption of masks." in text
    assert 'id="interactive-masks"' in text
    assert "For JupyterLab" not in text


def test_quiz_is_answered_by_keyboard(opened):
    shown = "[...document.querySelectorAll('.avff-answer > *')].filter(e => !e.hidden).map(e => e.innerText)"
    assert (
        opened.run("document.querySelector('fieldset > legend').innerText") == "1. How much is one and one?"
    )
    assert opened.run(shown) == []
    opened.run("document.querySelector('.avff-quiz input').focus()")
    opened.press(" ")
    assert opened.run(shown) == ["✗ Not this one.\n\nNo. Count again."]
    opened.press("ArrowDown")
    assert opened.run(shown) == ["✓ Right.\n\nBy definition."]
    assert opened.run("document.querySelector('.avff-answer').getAttribute('role')") == "status"
    assert opened.run("document.querySelectorAll('details').length") == 0


def test_threshold_slider_moves_point_and_counts(opened):
    data = data_of("threshold")
    opened.run("document.querySelector('[data-in=threshold]').focus()")
    opened.press("Home")
    opened.press("ArrowRight")
    tn, fp, fn, tp = data["counts"][1]
    numbers = "['tn', 'fp', 'fn', 'tp'].map(n => +document.querySelector(`[data-out=${n}]`).textContent)"
    assert opened.run(numbers) == [tn, fp, fn, tp]
    place = opened.run("document.querySelector('[data-part=point]').getAttribute('transform')")
    expected = interactive.ROC.at(fp / (fp + tn), tp / (tp + fn))
    assert [float(number) for number in re.findall(NUMBER, place)] == pytest.approx(expected)
    opened.run("document.querySelector('[data-in=share]').focus()")
    opened.press("End")
    accused = float(opened.run("document.querySelector('[data-out=accused]').textContent"))
    assert accused == pytest.approx(500 * fp / (fp + tn), abs=0.5)


def test_script_writes_what_the_page_was_built_with(opened, pages):
    for name in (
        "accused",
        "found",
        "missed",
        "innocent",
        "percent",
        "lag",
        "height",
        "at-zero",
        "audio",
        "scores",
    ):
        built = next(out(page, name) for page in pages.values() if page.select_one(f'[data-out="{name}"]'))
        assert opened.run(f"document.querySelector('[data-out={name}]').textContent") == built


def test_voice_slider_moves_the_curve_and_the_clip_plays(opened):
    opened.run("document.querySelector('[data-in=shift]').focus()")
    opened.press("Home")
    assert opened.run("document.querySelector('[data-out=lag]').textContent") == "−0.60 s"
    opened.run("document.querySelector('[data-in=play]').focus()")
    opened.press(" ")
    opened.wait_for("document.querySelector('[data-interactive] video').currentTime > 0.2", 20)
    assert opened.run("document.querySelector('[data-in=play]').textContent") == "Stop"
    opened.press(" ")
    assert opened.run("document.querySelector('[data-interactive] video').paused")


def test_playhead_follows_the_film_and_the_slider(opened):
    data = data_of("playhead")
    inside = [score for start, end, score in data["windows"] if start < 5.5 and end > 4.1]
    assert max(inside) > data["threshold"]
    opened.run("document.querySelector('[data-in=time]').focus()")
    opened.press("ArrowRight")
    opened.wait_for("document.querySelector('[data-out=time]').textContent === '0.1 s'")
    place = opened.run("document.querySelector('[data-part=playhead]').getAttribute('transform')")
    expected = interactive.TIME.at(0.1, 1)
    assert [float(number) for number in re.findall(NUMBER, place)] == pytest.approx(expected, abs=0.5)
    scores = [f"{score:.2f}" for start, end, score in data["windows"] if start <= 0.1 < end]
    assert (
        re.findall(r"\d\.\d\d", opened.run("document.querySelector('[data-out=scores]').textContent"))
        == scores
    )


def test_slices_are_masked_by_keyboard(opened):
    draws = data_of("masks")["draws"]
    sees = "document.querySelector('[data-out=video]').textContent"
    opened.run("document.querySelector('[data-part=slice]').focus()")
    opened.press(" ")
    assert ("1" in opened.run(sees).split(", ")) is (1 not in draws[0])
    assert "not one of its" in opened.run("document.querySelector('[data-out=balance]').textContent")
    opened.press("ArrowRight")
    assert opened.run("document.activeElement.dataset.slice") == "2"
    opened.run("document.querySelector('[data-in=draw]').click()")
    assert opened.run(sees) == ", ".join(map(str, draws[1]))
