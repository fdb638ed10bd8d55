"""What must hold for the book's sources; nothing is built or run here but one tiny notebook."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import av
import nbformat
import numpy as np
import pytest
import torch
import yaml

import avff_lib
from avff_lib.media.clip import Clip
from avff_lib.notebook import setup, show_clips

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
SECTIONS = ("At a glance", "Set-up", "Quiz", "Exercises", "Summary")
FORBIDDEN = {
    "a download": r"https?://|urlopen|requests\.get|hf_hub_download",
    "an installation": r"^\s*[%!]\s*(pip|uv|conda|apt)",
    "an absolute path": r"""["'](/|~/|[A-Z]:\\)\w""",
}

chapters = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def text_of(path: Path) -> str:
    return "\n".join(cell.source for cell in cells(path, "markdown"))


def test_every_page_stands_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    entries += [page for entry in entries for page in entry.get("sections", [])]
    listed = {toc["root"]} | {entry["file"] for entry in entries}
    pages = [path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.glob("book/**/*.md")]
    pages += [f"notebooks/{path.stem}" for path in NOTEBOOKS]
    assert listed == set(pages)


def test_chapters_are_numbered_as_their_files():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    numbered = [part for part in toc["parts"] if part.get("numbered") == 1]
    chapters = [entry["file"] for part in numbered for entry in part["chapters"]]
    assert len(chapters) == len(NOTEBOOKS)
    # Sphinx counts on from part to part, so the place in the list is the number on the page.
    for number, chapter in enumerate(chapters, start=1):
        assert chapter.startswith(f"notebooks/{number:02}_"), f"{chapter} is chapter {number} of the pages"


@chapters
def test_cells_ran_in_order_and_only_tagged_ones_failed(path):
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == ("raises-exception" in tags(cell)), cell.source
        assert "nbval-skip" not in tags(cell), "a cell that is never run proves nothing"


@chapters
def test_chapter_follows_the_template(path):
    text = text_of(path)
    headings = re.findall(r"^(?:## |:::+\{admonition\} )(.+)$", text, re.MULTILINE)
    assert [section for section in SECTIONS if section not in headings] == []
    assert headings[0] == SECTIONS[0]
    assert "{image} drawings/pipeline-" in text
    assert "-start}" not in text, "JupyterLab renders {exercise} and {solution}, not the gated ones"


@chapters
def test_every_exercise_has_a_starter_that_fails_nobody_and_a_solution_that_is_right(path):
    notebook = nbformat.read(path, as_version=4).cells
    exercises = re.findall(r"\{exercise\}.*?:label: (\S+)", text_of(path), re.DOTALL)
    assert len(exercises) >= 3
    assert re.findall(r"\{solution\} (\S+)", text_of(path)) == exercises
    outputs = {label: [] for label in exercises}
    for cell in notebook:
        for label in re.findall(r"^check\(\"(ex-[\w-]+)\"", cell.source, re.MULTILINE):
            outputs[label].append("".join(output.get("text", "") for output in cell.outputs))
    for label, (starter, solution) in outputs.items():
        assert starter.startswith("Not answered yet"), label
        assert "Right." in solution.splitlines(), label
    first = next(i for i, cell in enumerate(notebook) if cell.source.startswith("## Solutions"))
    for cell in notebook[first:]:
        assert cell.cell_type == "markdown" or folded(cell) == "hide-cell", cell.source


def folded(cell) -> str | None:
    """How a cell is folded; on the page and in JupyterLab alike."""
    tag = next((tag for tag in tags(cell) if tag in ("hide-input", "hide-cell")), None)
    hidden = cell.metadata.get("jupyter", {})
    expected = {"hide-input": {"source_hidden"}, "hide-cell": {"source_hidden", "outputs_hidden"}}
    assert {key for key, value in hidden.items() if value} == expected.get(tag, set()), cell.source
    return tag


@chapters
def test_code_fits_the_column_and_the_wall_of_imports_is_folded(path):
    for cell in cells(path, "code"):
        assert max(map(len, cell.source.splitlines())) <= 80, cell.source
        if len(re.findall(r"^(?:from|import) ", cell.source, re.MULTILINE)) > 3:
            assert folded(cell) == "hide-input", cell.source


@chapters
def test_printed_lines_are_measurements_not_truths(path):
    printed = [output.text for cell in cells(path, "code") for output in cell.outputs if "text" in output]
    lines = "\n".join(printed).splitlines()
    truths = [line for line in lines if re.search(r": (True|False)$", line)]
    assert len(truths) <= max(1, len(lines) // 40), truths


@chapters
def test_figures_are_drawn_for_a_phone(path):
    """At most six inches wide: with the book's 11 points, 9 pixels of type remain on a screen of 390."""
    for cell in cells(path, "code"):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                header = base64.b64decode(output.data["image/png"][:64])
                assert int.from_bytes(header[16:20], "big") <= 930, cell.source


@chapters
def test_every_figure_says_in_words_what_it_shows(path):
    for cell in cells(path, "code"):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 5, f"no alt text:\n{cell.source}"
    for alt in re.findall(r"!\[(.*?)\]\(", text_of(path)):
        assert len(alt.split()) >= 5


@chapters
def test_every_table_has_a_name_and_a_caption(path):
    rule = r"^\|[-: |]+\|$"
    captioned = rf"^```\{{table\}} \w[^`\n]*\n:name: tab-[\w-]+\n\n\|.*\|\n{rule[1:]}"
    found, named = (re.findall(pattern, text_of(path), re.MULTILINE) for pattern in (rule, captioned))
    assert len(found) == len(named)


@chapters
def test_code_stays_on_this_machine_and_in_this_folder(path):
    for cell in cells(path, "code"):
        for what, pattern in FORBIDDEN.items():
            assert not re.search(pattern, cell.source, re.MULTILINE), f"{what}:\n{cell.source}"


@chapters
def test_stored_notebook_holds_nothing_of_the_machine_that_ran_it(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.language_info == {"name": "python"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.avff.seconds >= 0
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    stored = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert str(ROOT) not in stored
    assert str(Path.home()) + "/" not in stored
    assert sys.prefix not in stored


def minutes_to_read(path: Path) -> float:
    """200 words a minute, and 20 seconds for each visible code cell and each figure."""
    visible = [cell for cell in cells(path, "code") if not {"hide-input", "hide-cell"} & set(tags(cell))]
    figures = [
        output
        for cell in cells(path, "code")
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    return len(text_of(path).split()) / 200 + 0.3 * (len(visible) + len(figures))


def stated_minutes(path: Path) -> int:
    return int(
        re.search(r"^\*\*Time\*\*: (\d+) minutes to read, .+ to run on two cores\.$", text_of(path), re.M)[1]
    )


@chapters
def test_stated_time_to_read_is_that_of_the_words_cells_and_figures(path):
    assert abs(stated_minutes(path) - minutes_to_read(path)) <= 5


def test_front_page_repeats_the_chapters_times_and_adds_them_up():
    page = (ROOT / "book/intro.md").read_text()
    times = re.findall(r"notebooks/(\w+)>`, (\d+)\smin", page)
    assert {path for path, _ in times} >= {"01_quickstart", "19_from_drawings_to_people"}
    for path, minutes in times:
        assert int(minutes) == stated_minutes(ROOT / f"notebooks/{path}.ipynb"), path
    sums = re.findall(r"grid-item-card\} \w+: (\d+)\sh(?: (\d+)\smin)?\n(.*?)\n:::", page, re.DOTALL)
    assert len(sums) == 2
    for hours, minutes, card in sums:
        total = sum(map(int, re.findall(r"`, (\d+)\smin", card)))
        assert 60 * int(hours) + int(minutes or 0) == total


def test_api_pages_list_every_public_module():
    pages = {path.stem: path.read_text() for path in ROOT.glob("book/api/*.md")}
    listed = {name: re.findall(r"automodule:: (\S+)", text) for name, text in pages.items()}
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in ROOT.glob("avff_lib/**/*.py")
        if not path.name.startswith("_")
    ]
    assert sorted(name for names in listed.values() for name in names) == sorted(modules)
    for page, names in listed.items():  # a folder has a page; modules of no folder may stand on any
        assert {name.split(".")[1] for name in names if name.count(".") == 2} <= {page}


def test_lock_pins_everything_and_names_no_host():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert [line for line in pins if not re.match(r"[\w.-]+(\[[\w,]+\])?==[\w.+!]+( ; .+)?$", line)] == []
    assert [line for line in lines if "//" in line or "index" in line.split("#")[0]] == []
    pinned = {line.split("==")[0].split("[")[0] for line in pins}
    wanted = [re.split(r"[=<>;\[ ]", line)[0] for line in (ROOT / "requirements.in").read_text().splitlines()]
    assert [name for name in wanted if name and name != "#" and name not in pinned] == []


def test_documented_commands_exist():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in ("README.md", "CONTRIBUTING.md", "book/setup.md", "book/status.md"):
        # In a line of its own or in backticks; "make sure" in a sentence is English.
        named = re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE)
        assert named
        assert set(named) <= set(targets), page


def test_citation_and_changelog_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == avff_lib.__version__
    assert f"## {avff_lib.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_committed_pipeline_figures_are_the_drawn_ones(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    from pipeline import draw

    for theme in ("light", "dark"):
        assert (ROOT / f"book/_assets/pipeline-{theme}.svg").read_text() == draw(theme, "wide")


def drawings() -> dict[str, str]:
    """Every diagram and the pipeline at each stage, by name, theme and shape."""
    from diagrams import DIAGRAMS, draw_diagram
    from pipeline import STAGES, draw

    variants = [(theme, shape) for theme in ("light", "dark") for shape in ("wide", "tall")]
    found = {f"{name} {theme} {shape}": draw_diagram(name, theme, shape) for name in DIAGRAMS
             for theme, shape in variants}  # fmt: skip
    return found | {
        f"pipeline {here} {theme} {shape}": draw(theme, shape, here)
        for here in (None, *STAGES)
        for theme, shape in variants
    }


def test_pictures_for_jupyterlab_are_the_drawn_ones_and_each_is_shown(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    from pictures import DRAWINGS, FOLDER, picture

    files = {path.stem for path in FOLDER.glob("*.svg") if not path.stem.startswith("interactive-")}
    assert files == set(DRAWINGS)
    for name in DRAWINGS:
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == picture(name)
    texts = [text_of(path) for path in NOTEBOOKS] + [path.read_text() for path in ROOT.glob("book/*.md")]
    shown = re.findall(
        r"^`{3}\{figure\} drawings/(diagram-[\w-]+)\.svg\n:name: \1\n:alt: [^\n]+\n\n(.+?)\n`{3}$",
        "\n".join(texts),
        re.MULTILINE | re.DOTALL,
    )
    assert sorted(name for name, _ in shown) == sorted(n for n in DRAWINGS if n.startswith("diagram-"))
    assert all(len(caption.split()) >= 5 for _, caption in shown)
    linked = set(re.findall(r"drawings/((?:diagram|pipeline)[\w-]*)\.svg", "\n".join(texts)))
    assert linked <= set(DRAWINGS)


def test_drawings_say_what_they_show_and_keep_their_words_inside(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    shown = {"wide": 720, "tall": 358}  # pixels that a drawing gets on a desk and on a phone
    svg = "{http://www.w3.org/2000/svg}"
    for name, code in drawings().items():
        root = ElementTree.fromstring(code)
        assert root.get("role") == "img"
        assert len(root.findtext(f"{svg}title").split()) >= 3, name
        assert len(root.findtext(f"{svg}desc").split()) >= 5, name
        _, _, width, height = map(float, root.get("viewBox").split())
        for text in root.iter(f"{svg}text"):
            x, y, size = (float(text.get(key)) for key in ("x", "y", "font-size"))
            length = 0.6 * size * len(text.text)
            left = x - length * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
            assert left >= 0, f"{name}: {text.text}"
            assert left + length <= width, f"{name}: {text.text}"
            assert size <= y <= height - 0.25 * size, f"{name}: {text.text}"
            assert size * shown[name.split()[-1]] / width >= 11, f"{name}: {text.text}"
        for rect in root.iter(f"{svg}rect"):
            x, y, wide, high = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
            assert x >= 0, name
            assert y >= 0, name
            assert x + wide < width, name
            assert y + high < height, name


def test_setup_repeats_itself():
    def numbers() -> tuple[float, float]:
        setup(seed=3)
        return float(np.random.rand()), float(torch.rand(()))

    threads = torch.get_num_threads()
    try:
        assert numbers() == numbers()
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)


def test_shown_clip_is_a_video_with_sound_and_its_caption_is_text():
    frames = np.full((10, 32, 32, 3), 128, np.uint8)
    sound = np.sin(np.arange(6400) / 5).astype(np.float32)
    clip = Clip(frames, np.arange(10) / 25, sound, 16_000, 0.0, 0.4)
    page = show_clips({"real <b>": clip, "fake": clip}).data
    assert 'aria-label="real &lt;b&gt;"' in page
    videos = re.findall(r"data:video/mp4;base64,([\w+/=]+)", page)
    assert len(videos) == 2
    with av.open(io.BytesIO(base64.b64decode(videos[0]))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10
        assert container.streams.audio[0].codec_context.sample_rate == 16_000


def test_nbval_catches_a_changed_number_and_lets_addresses_pass(tmp_path):
    def cell(source: str, stored: str):
        output = nbformat.v4.new_output("stream", text=stored)
        return nbformat.v4.new_code_cell(source, execution_count=1, outputs=[output])

    notebook = nbformat.v4.new_notebook(
        cells=[cell("print(1 + 1)", "2\n"), cell("print(object())", "<object object at 0x7f0123456789>\n"),
               cell("print(1 + 1)", "3\n")]
    )  # fmt: skip
    nbformat.write(notebook, tmp_path / "small.ipynb")
    shutil.copy(ROOT / "notebooks/conftest.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert "1 failed, 2 passed" in result.stdout, result.stdout
