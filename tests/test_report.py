"""``avff predict`` over folders and patterns, and the page that it writes: self-contained, safe, legible."""

from __future__ import annotations

import csv
import json
import os
import re
from copy import copy
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from bs4 import BeautifulSoup

from avff_lib import cli, synth
from avff_lib.cli import common
from avff_lib.cli.predict import CSV_COLUMNS, media_files
from avff_lib.errors import AVFFError
from avff_lib.inference import predictor
from avff_lib.inference.prediction import FacePrediction, FaceScore, FilePrediction, WindowPrediction
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.models import Detector
from avff_lib.models.calibration import Calibration
from avff_lib.report import Page
from avff_lib.report.charts import Clock, chance, clock_time, face_line, up, waveform_outline
from avff_lib.report.patching import patch_activations
from avff_lib.synth.recording import DURATION

HOSTILE = "<script>alert('x')</script> & \"y\".mp4"  # a name that a file can have

FITTED = Calibration(
    temperature=1.5, bias=0.2, window_threshold=0.4, unsure=(0.3, 0.7), error_rate=0.05,
    fpr=0.125, fnr=0.05, clips=120, identities=24,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return Detector.from_pretrained("avff-tiny")


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Fake from 1.0 to 2.2 s."""
    plans = synth.plan_corpus(clips=300, identities=30, seed=7)
    plan = next(p for p in plans if p.method == "other_lips_revoiced" and p.segment == (0.0, DURATION))
    return synth.make_clip(replace(plan, segment=(1.0, 2.2)))


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory) -> Path:
    """Two videos, two files that are none, and a page and a table about them."""
    folder = tmp_path_factory.mktemp("machine-secret")
    videos = folder / "videos"
    (videos / "inner").mkdir(parents=True)
    # Two people, the one on the left listens; the end is silent.
    waveform = np.where(np.arange(len(clip.waveform)) < 2.4 * clip.sample_rate, clip.waveform, 0)
    pair = np.concatenate([np.repeat(clip.frames[:1, :, ::-1], len(clip.frames), 0), clip.frames], axis=2)
    write_clip(clip, videos / "b.mp4")
    write_clip(replace(clip, frames=pair, waveform=waveform.astype(np.float32)), videos / "inner" / "a.MP4")
    (videos / "notes.txt").write_text("no video")
    (videos / ".hidden.mp4").write_text("no video")
    (folder / HOSTILE.replace("/", "_")).write_text("no video")
    return folder


@pytest.fixture(scope="module")
def written(folder) -> dict[str, str]:
    names = [str(folder / "videos"), str(folder / HOSTILE.replace("/", "_"))]
    page, table = folder / "page.html", folder / "table.csv"
    options = ["--report", str(page), "--csv", str(table), "--workers", "2", "--checkpoint", "avff-tiny"]
    assert cli.main(["predict", *names, *options]) == 2
    assert sorted(path.name for path in folder.iterdir() if path.is_file())[1:] == ["page.html", "table.csv"]
    return {"page": page.read_text(), "table": table.read_text()}


@pytest.fixture(scope="module")
def soup(written) -> BeautifulSoup:
    return BeautifulSoup(written["page"], "html.parser")


# -- which files --


def test_folders_are_walked_and_patterns_expanded(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert media_files(["videos"]) == [Path("videos/b.mp4"), Path("videos/inner/a.MP4")]
    assert media_files(["videos/*.mp4"]) == [Path("videos/b.mp4")]
    assert media_files(["videos/**/a.*", "videos"]) == [Path("videos/inner/a.MP4"), Path("videos/b.mp4")]
    assert media_files(["videos/notes.txt", "gone.mp4"]) == [Path("videos/notes.txt"), Path("gone.mp4")]
    Path("literal[1].mp4").touch()
    assert media_files(["literal[1].mp4"]) == [Path("literal[1].mp4")]
    Path("literal[1].mp4").unlink()


@pytest.mark.parametrize(("name", "message"), [("empty", "holds no video"), ("*.mkv", "no file matches")])
def test_a_folder_or_pattern_without_videos_is_refused(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(AVFFError, match=message):
        media_files([name])


@pytest.mark.parametrize("out", ["nowhere/page.html", "videos", "videos/b.mp4"])
def test_an_output_that_cannot_be_is_refused_before_any_work(out, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = Path("videos/b.mp4").read_bytes()
    assert cli.main(["predict", "videos", "--report", out]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert Path("videos/b.mp4").read_bytes() == before


def test_one_file_cannot_be_table_and_page(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert cli.main(["predict", "videos", "--report", "both", "--csv", "both"]) == 2
    assert "cannot be a table and a page" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_in_is_refused_before_any_work(folder, monkeypatch, capsys):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    predict_module = import_module("avff_lib.cli.predict")  # `avff_lib.cli.predict` is the function
    monkeypatch.setattr(predict_module, "TemporaryFile", refuse)
    assert cli.main(["predict", str(folder / "videos"), "--csv", str(folder / "t.csv")]) == 2
    assert "t.csv cannot be written (Permission denied)" in capsys.readouterr().err
    monkeypatch.setattr(common, "TemporaryFile", refuse)
    with pytest.raises(AVFFError, match=r"cannot be used \(Permission denied\)"):
        common.make_folder(folder)


def test_names_that_a_system_refuses_are_answered_in_a_sentence(capsys):
    assert cli.main(["predict", "x" * 300 + ".mp4"]) == 2
    assert "does not exist, or cannot be reached" in capsys.readouterr().err


# -- the table --


def test_the_table_has_a_row_for_each_file(written):
    rows = list(csv.DictReader(written["table"].splitlines()))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [Path(row["path"]).name for row in rows] == ["b.mp4", "a.MP4", HOSTILE.replace("/", "_")]
    fake, pair, none = rows
    assert fake["label"] == "fake"
    assert float(fake["threshold"]) < float(fake["score"]) == float(fake["prediction"])
    assert fake["reasons"] == ""
    start, end = map(float, fake["segments"].split(";")[0].split("-"))
    assert start < 1.6 < end
    assert pair["faces"] == "2"
    assert re.fullmatch(r"sound 2\.\d+-3\.2", pair["gaps"])
    assert none["label"] == none["score"] == none["prediction"] == ""
    assert "cannot be read" in none["error"]


def test_what_was_scored_before_an_interruption_is_not_lost(folder, monkeypatch, capsys):
    analyzed = []

    def interrupted(path, model, **_):
        if analyzed:
            raise KeyboardInterrupt
        analyzed.append(path)
        return predictor.FileAnalysis(
            FilePrediction(str(path), model={"family": "AVFF", "trained_on": "x"}, error="e")
        )

    monkeypatch.setattr(predictor, "analyze_file", interrupted)
    table = folder / "half.csv"
    command = ["predict", str(folder / "videos"), "--csv", str(table), "--json", "--workers", "1"]
    assert cli.main(command) == 130
    assert len(table.read_text().splitlines()) == 2
    assert len(json.loads(capsys.readouterr().out)) == 1
    table.unlink()


def test_processes_change_nothing(folder, written, tmp_path):
    names = [str(folder / "videos"), str(folder / HOSTILE.replace("/", "_"))]
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    options = ["--report", str(page), "--csv", str(table), "--workers", "1", "--checkpoint", "avff-tiny"]
    assert cli.main(["predict", *names, *options]) == 2
    assert table.read_text() == written["table"]
    assert page.read_text() == written["page"]


def test_a_file_that_crashes_its_process_takes_no_other_with_it():
    def analyze(path):
        if path.name == "bad":
            os._exit(1)
        return path.name

    paths = [Path(name) for name in ("a", "bad", "b", "c")]
    in_parallel = import_module("avff_lib.cli.predict")._in_parallel
    found = list(in_parallel(analyze, paths, 2, lambda path, error: f"{path} crashed: {error}"))
    assert [found[0], *found[2:]] == ["a", "b", "c"]
    assert found[1].startswith("bad crashed: a worker process crashed")


@pytest.mark.parametrize("option", ["--workers", "--batch-size"])
def test_less_than_one_is_refused(option, capsys):
    assert cli.main(["predict", "x.mp4", option, "0"]) == 2
    assert "is 0; expected 1 or more" in capsys.readouterr().err


def test_lines_for_people_put_the_label_first(analysis, capsys):
    print_prediction = import_module("avff_lib.cli.predict")._print_prediction
    file = replace(analysis.prediction, path="clip.mp4", score=0.99, threshold=0.53)
    print_prediction(replace(file, label="fake", prediction=0.99))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "clip.mp4: fake: score 0.99, threshold 0.53, 6 of 6 windows scored"
    assert any("above their threshold from" in line for line in rest)
    print_prediction(replace(file, label="undetermined", reasons=("out_of_distribution", "unsure")))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "clip.mp4: undetermined (out of distribution, unsure): score 0.99, threshold 0.53, "
    )
    assert (
        rest[0] == "  out of distribution: the file is unlike the clips that the detector was calibrated on"
    )
    assert not any("threshold" in line for line in rest)


def test_error_rates_say_whom_they_were_measured_on():
    text = common.error_rates(FITTED)
    assert text.startswith(
        "12.5% false positives and 5.0% false negatives on 120 validation clips of 24 people"
    )
    assert "left out of the fit" in text
    alone = replace(FITTED, fpr=None, fnr=None, clips=3, identities=1)
    assert (
        common.error_rates(alone) == "error rates that 3 validation clips of 1 people are too few to measure"
    )


# -- the page --


def test_the_page_loads_nothing_and_runs_nothing(written, soup):
    text = written["page"]
    for forbidden in ("http://", "https://", "<script", "@import", "url(", "javascript:", "srcset"):
        assert forbidden not in text.lower()
    for tag in soup.find_all(True):
        assert not any(name.startswith("on") for name in tag.attrs)
        assert tag.get("src", "data:").startswith("data:image/png;base64,"[:5])
        assert tag.get("href", "#").startswith("#")
    assert {tag.name for tag in soup.find_all(["link", "iframe", "object", "embed", "form"])} == set()


def test_names_are_escaped_and_folders_not_told(written, soup):
    assert HOSTILE.replace("/", "_") in [heading.get_text() for heading in soup.find_all("h2")]
    assert "machine-secret" not in written["page"]


def test_the_page_says_what_the_prediction_says(soup, written):
    fake, pair, none = soup.find_all("section")
    assert fake.find(class_="word").get_text() == "fake"
    assert "Predicted fake" in fake.get_text()
    assert "no sound from" in pair.get_text()
    assert len(pair.find_all("img", class_="thumbnail")) == 2
    assert "Not scored" in none.get_text()
    text = soup.get_text()
    for words in ("threshold", "means nothing", "What it cannot know", "How sure is that?", "does not prove"):
        assert words in text
    assert all(mark not in text for mark in ("nan", "None", "undefined", "Undefined"))


def test_the_page_can_be_read_without_eyes(soup):
    assert soup.html["lang"] == "en"
    assert all(image.get("alt") for image in soup.find_all("img"))
    for picture in soup.find_all(attrs={"role": "img"}):
        label = picture.get("aria-label") or soup.find(id=picture["aria-labelledby"]).get_text()
        assert len(label) > 20
    levels = [int(heading.name[1]) for heading in soup.find_all(re.compile("^h[1-6]$"))]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len({tag["id"] for tag in soup.find_all(id=True)}) == len(soup.find_all(id=True))


def test_words_stand_out_from_the_page_by_day_and_by_night(written):
    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
        parts = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    schemes = re.findall(r":root \{([^}]*)\}", written["page"])
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        for ground in ("page", "panel"):
            for ink in ("text", "soft", "fake", "real"):
                light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)  # WCAG 2, level AA


def test_the_page_fits_a_telephone(folder, written):
    browser = Browser()
    try:
        for width in (390, 1200):
            browser.open((folder / "page.html").as_uri(), width=width, dark=width == 390)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.errors == []
            assert {address.split(":")[0] for address in browser.requests} <= {"file", "data"}
    finally:
        browser.close()


# -- evidence and lines --


@pytest.fixture(scope="module")
def analysis(model, folder) -> predictor.FileAnalysis:
    return predictor.analyze_file(folder / "videos" / "b.mp4", model)


def test_patching_starts_from_the_two_extreme_windows(model, analysis):
    result = patch_activations(model, analysis.evidence)
    assert [patch.part for patch in result.patches] == [
        "lips and voice", "fine detail of the audio", "fine detail of the video"
    ]  # fmt: skip
    high = analysis.evidence.most_suspicious.face.score
    assert high == pytest.approx(max(w.score for w in analysis.prediction.windows))
    assert result.reference_score == pytest.approx(min(w.score for w in analysis.prediction.windows))
    # It was made with other lips and a vocoder, so the video's detail is not what gave it away.
    assert min(patch.score for patch in result.patches) < high - 0.1
    assert result.patches[2].score > min(patch.score for patch in result.patches)


def section(model, analysis, **changes) -> BeautifulSoup:
    """The section of an analysis in which some of the prediction is another."""
    page = Page(model)
    page.add(replace(analysis, prediction=replace(analysis.prediction, calibration=FITTED, **changes)))
    return BeautifulSoup(page.html(), "html.parser").section


def words(tag) -> str:
    return " ".join(tag.get_text().split())


def test_the_label_stands_first_and_how_often_it_is_wrong_below(model, analysis):
    shown = section(model, analysis, label="fake", score=0.9, prediction=0.9)
    assert shown["class"] == ["fake"]
    text = words(shown)
    assert text.index("fake") < text.index("Score 0.90, threshold") < text.index("How sure is that?")
    assert "120 validation clips of 24 people" in text
    assert "12.5 % of the real clips were above the threshold, and 5.0 % of the fake ones below" in text
    above = sum(window.score >= FITTED.window_threshold for window in analysis.prediction.windows)
    assert f"{above} of {len(analysis.prediction.windows)} lie at or above their own threshold, 0.40" in text
    line = shown.find("path", class_="limit")["d"]
    assert line == f"M0 {100 - up(0.4)}H100"


def test_an_undetermined_file_is_called_neither_real_nor_fake(model, analysis):
    changes = {"label": "undetermined", "score": 0.99, "prediction": None}
    sure = {"audio": 0.9, "visual": 0.5}
    cases = (
        (("unsure",), sure, "Unsure: the score is too common"),
        (("low_coverage",), sure, "a label needs 50 % of its windows, and 3 or more"),
        (("out_of_distribution",), {"audio": 1.7, "visual": 0.5}, "its audio features lie 1.70 times as far"),
        (("uncalibrated",), {}, "Uncalibrated: the detector was never"),
    )
    for reasons, ood_scores, sentence in cases:
        shown = section(model, analysis, reasons=reasons, ood_scores=ood_scores, **changes)
        assert shown["class"] == ["undetermined"]
        assert shown.find(class_="word").get_text() == "undetermined"
        assert sentence in words(shown.find(class_="label"))
        assert "Predicted fake" not in words(shown)
        # Where scores are no probabilities nothing is concluded from them.
        concludes = not {"out_of_distribution", "uncalibrated"} & {*reasons}
        assert bool(shown.find(class_="scale")) == bool(shown.find(class_="part")) == concludes
        assert ("What raised the score there" in words(shown)) == concludes
    only_below = words(section(model, analysis, reasons=("unsure",), ood_scores=sure, **changes))
    assert "only below 0.30 and above 0.70 are errors limited to 5 %" in only_below


def test_several_files_are_listed_by_their_labels(model, analysis):
    page = Page(model)
    for changes in (
        {"label": "real"},
        {"label": "undetermined", "reasons": ("out_of_distribution", "unsure")},
    ):
        page.add(replace(analysis, prediction=replace(analysis.prediction, **changes)))
    cells = [
        words(row.find_all("td")[0])
        for row in BeautifulSoup(page.html(), "html.parser").select("tbody")[0]("tr")
    ]
    assert cells == ["real", "undetermined (out of distribution, unsure)"]


def test_of_many_faces_those_that_speak_most_are_listed(model, analysis):
    evidence = copy(analysis.evidence)
    evidence.thumbnails = dict.fromkeys(range(1, 21), evidence.thumbnails[1])
    faces = tuple(FacePrediction(number, 0.0, 3.2, number, 0.1) for number in range(1, 21))
    page = Page(model)
    page.add(replace(analysis, prediction=replace(analysis.prediction, faces=faces), evidence=evidence))
    soup = BeautifulSoup(page.html(), "html.parser")
    listed = [image["alt"] for image in soup.find_all("img", class_="thumbnail")]
    assert listed == [f"Face {number}" for number in (1, *range(10, 21))]  # the first one is selected
    assert "And 8 more" in soup.get_text()


def test_a_page_of_a_file_that_was_not_scored(model, tmp_path):
    page = Page(model)
    page.add(predictor.analyze_file(tmp_path / "gone.mp4", model))
    html = page.html()
    assert "gone.mp4 does not exist" in html
    assert str(tmp_path) not in html


def test_times_and_probabilities_in_words():
    assert [clock_time(t) for t in (0, 0.5, 59, 60, 3725)] == ["0 s", "0.5 s", "59 s", "1:00", "1:02:05"]
    assert [chance(p) for p in (0.0001, 0.5, 0.9999)] == ["below 0.01", "0.50", "above 0.99"]
    clock = Clock(0.0, 1800.0)
    assert [label for _, label in clock.ticks] == ["0 s", "5:00", "10:00", "15:00", "20:00", "25:00", "30:00"]
    assert clock.span(450, 900) == (25.0, 25.0)


def test_long_files_are_drawn_with_few_points():
    def window(k):
        score = 0.9 if k == 3001 else 0.1
        return WindowPrediction(
            k / 2, k / 2 + 1, score, None, (FaceScore(1, score, score, 0.0, True, (0, 0, 1, 1)),)
        )

    windows = [window(k) for k in range(7200)]
    line = face_line(windows, 1, Clock(0, 3601), lambda face: face.score, 0.0)
    heights = [float(y) for y in re.findall(r" ([\d.]+)H", line)]
    assert len(heights) <= 600
    assert min(heights) == pytest.approx(100 - 4 - 92 * 0.9)  # the one high window is not averaged away
    assert waveform_outline(np.ones(72_000)).count("L") < 1300


def test_json_and_csv_agree(folder, written, capsys):
    assert cli.main(["predict", str(folder / "videos" / "b.mp4"), "--json", "--checkpoint", "avff-tiny"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    row = next(csv.DictReader(written["table"].splitlines()))
    assert float(row["score"]) == pytest.approx(found["score"])
    assert row["label"] == found["label"]
    assert float(row["ood_audio"]) == pytest.approx(found["ood_scores"]["audio"])
    assert row["segments"] == ";".join(f"{part['start']}-{part['end']}" for part in found["segments"])
