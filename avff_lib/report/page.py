"""Analyses of files -> one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from avff_lib import __version__
from avff_lib.inference.evidence import FileEvidence
from avff_lib.inference.facts import tabulate_facts
from avff_lib.inference.prediction import REASON_NOTES, FilePrediction, Reason
from avff_lib.inference.predictor import MIN_COVERAGE, MIN_SCORED_WINDOWS, FileAnalysis
from avff_lib.models import Detector
from avff_lib.report import charts
from avff_lib.report.patching import patch_activations

MAX_FACE_LINES = 4  # in one timeline, the selected face first; more lines are indistinguishable
MAX_FACE_ROWS = 12  # in the table of faces; each cut starts new ones, so a film has hundreds
AGREEMENT_LOW = -0.25  # lower end of the lane for agreement, which is rarely below
MEANINGLESS: set[Reason] = {"out_of_distribution", "uncalibrated"}  # for these, scores are not probabilities


class Page:
    """A report on several files. Sections are stored as text, so many files need little memory."""

    def __init__(self, model: Detector) -> None:
        self.model = model
        self._sections: list[str] = []
        self._rows: list[dict[str, Any]] = []
        # Every value is escaped, since file names may come from strangers.
        folder = FileSystemLoader(Path(__file__).parent)
        environment = Environment(
            loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters.update(
            time=charts.clock_time,
            chance=charts.chance,
            up=charts.up,
            words=lambda name: name.replace("_", " "),
        )
        environment.globals.update(
            notes=REASON_NOTES,
            min_coverage=MIN_COVERAGE,
            min_windows=MIN_SCORED_WINDOWS,
            tabulate_facts=tabulate_facts,
            labels=model.labels,
        )
        self._page = environment.get_template("page.html.jinja")
        self._section = environment.get_template("section.html.jinja")

    def add(self, analysis: FileAnalysis) -> None:
        """Write the section of one file."""
        file = analysis.prediction
        name = Path(file.path).name
        # The sentence may name folders of this machine, which do not belong on the page.
        error = file.error.replace(file.path, name) if file.error else None
        row = {"file": file, "name": name, "error": error, "anchor": f"file-{len(self._rows) + 1}"}
        evidence = analysis.evidence
        drawn = {} if evidence is None else _draw(self.model, file, evidence)
        self._rows.append(row)
        self._sections.append(self._section.render(row=row, drawn=drawn))

    def html(self) -> str:
        """The whole page."""
        return self._page.render(
            rows=self._rows, sections=self._sections, model=self.model, version=__version__
        )


def _draw(model: Detector, file: FilePrediction, evidence: FileEvidence) -> dict[str, Any]:
    """The images and lines of a section, and everything computed for them."""
    clock = charts.Clock(file.windows[0].start, file.windows[-1].end)
    order = sorted(file.faces, key=lambda face: (face.number != file.face, -face.windows))
    shown = [face.number for face in order if face.windows][:MAX_FACE_LINES]
    scores = np.array([s.score for w in file.windows for s in w.faces if s.face == file.face and s.speaks])
    suspect = evidence.most_suspicious
    assert suspect is not None  # at least one window was scored
    assert file.calibration is not None  # for the same reason
    image, marks = charts.spectrogram(suspect.waveform, suspect.sample_rate)
    return {
        "meaningless": not MEANINGLESS.isdisjoint(file.reasons),
        "clock": clock,
        "shown": shown,
        "listed": sorted(order[:MAX_FACE_ROWS], key=lambda face: face.number),
        "score_lines": [
            charts.face_line(file.windows, n, clock, lambda face: face.score, 0.0) for n in shown
        ],
        "agreement_lines": [
            charts.face_line(
                file.windows, n, clock, lambda face: max(face.agreement, AGREEMENT_LOW), AGREEMENT_LOW
            )
            for n in shown
        ],
        "agreement_low": AGREEMENT_LOW,
        "waveform": charts.waveform_outline(evidence.audio_peaks),
        "thumbnails": {number: charts.png(image) for number, image in evidence.thumbnails.items()},
        "scores": {
            "count": len(scores),
            "above": int((scores >= file.calibration.window_threshold).sum()),
            "low": float(scores.min()),
            "high": float(scores.max()),
            "quarter": float(np.quantile(scores, 0.25)),
            "three_quarters": float(np.quantile(scores, 0.75)),
        },
        "suspect": suspect,
        "frames": [
            (charts.png(frame), time) for frame, time in zip(suspect.frames, suspect.times, strict=True)
        ],
        "spectrogram": image,
        "marks": marks,
        "window_clock": charts.Clock(suspect.start, suspect.end),
        "patching": patch_activations(model, evidence),
    }
