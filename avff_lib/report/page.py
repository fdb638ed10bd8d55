"""Examined files -> one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from avff_lib import __version__
from avff_lib.examine import Exhibits
from avff_lib.models import Detector
from avff_lib.predict import Examination
from avff_lib.report import charts
from avff_lib.report.evidence import weigh
from avff_lib.verdict import Report

FACES = 4  # lines in one timeline, the decisive face first; more could not be told apart
ROWS = 12  # of the table of faces; after each cut there are others, so a film has hundreds
AGREEMENT_LOW = -0.25  # at the lower edge of the lane for agreement, which is rarely below


class Page:
    """Sections are added one after the other; each keeps its text only, so many files need little memory."""

    def __init__(self, model: Detector) -> None:
        self.model = model
        self._sections: list[str] = []
        self._rows: list[dict[str, Any]] = []
        # Every value is escaped, since names of files are written by strangers.
        folder = FileSystemLoader(Path(__file__).parent)
        environment = Environment(
            loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters.update(time=charts.clock_time, chance=charts.chance, up=charts.up)
        self._page = environment.get_template("page.html.jinja")
        self._section = environment.get_template("section.html.jinja")

    def add(self, examined: Examination) -> None:
        """Write the section of one file."""
        report = examined.report
        name = Path(report.path).name
        # The sentence may name folders of the machine, which are no reader's business.
        error = report.error.replace(report.path, name) if report.error else None
        row = {"report": report, "name": name, "error": error, "anchor": f"file-{len(self._rows) + 1}"}
        drawn = {} if examined.exhibits is None else _drawn(self.model, report, examined.exhibits)
        self._rows.append(row)
        self._sections.append(self._section.render(row=row, drawn=drawn))

    def html(self) -> str:
        """The whole page."""
        return self._page.render(
            rows=self._rows, sections=self._sections, model=self.model, version=__version__
        )


def _drawn(model: Detector, report: Report, exhibits: Exhibits) -> dict[str, Any]:
    """Everything in a section that is a picture, a line, or computed for one."""
    clock = charts.Clock(report.windows[0].start, report.windows[-1].end)
    order = sorted(report.faces, key=lambda face: (face.number != report.face, -face.windows))
    shown = [face.number for face in order if face.windows][:FACES]
    scores = np.array(
        [s.score for w in report.windows for s in w.faces if s.face == report.face and s.speaks]
    )
    suspect = exhibits.suspect
    picture, marks = charts.spectrogram(suspect.waveform, suspect.sample_rate)
    return {
        "clock": clock,
        "shown": shown,
        "listed": sorted(order[:ROWS], key=lambda face: face.number),
        "score_lines": [
            charts.face_line(report.windows, n, clock, lambda said: said.score, 0.0) for n in shown
        ],
        "agreement_lines": [
            charts.face_line(
                report.windows, n, clock, lambda said: max(said.agreement, AGREEMENT_LOW), AGREEMENT_LOW
            )
            for n in shown
        ],
        "agreement_low": AGREEMENT_LOW,
        "waveform": charts.waveform_outline(exhibits.peaks),
        "portraits": {number: charts.png(image) for number, image in exhibits.portraits.items()},
        "scores": {
            "count": len(scores),
            "above": int((scores >= report.threshold).sum()),
            "low": float(scores.min()),
            "high": float(scores.max()),
            "quarter": float(np.quantile(scores, 0.25)),
            "three_quarters": float(np.quantile(scores, 0.75)),
        },
        "suspect": suspect,
        "frames": [
            (charts.png(frame), time) for frame, time in zip(suspect.frames, suspect.times, strict=True)
        ],
        "spectrogram": picture,
        "marks": marks,
        "window_clock": charts.Clock(suspect.start, suspect.end),
        "evidence": weigh(model, exhibits),
    }
