"""Interactive drawings: plain JavaScript on data computed when the pages are built.

A figure of ``interactive-NAME.svg`` becomes a part of `PARTS`: a drawing inside the page, controls that a
script in ``_assets/NAME.js`` activates, and the data as JSON. Without scripts and in print, the drawing
stays in its initial state. JupyterLab shows the picture; run this file to redraw those pictures.
"""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from docutils import nodes
from drawing import PALETTES, Point, Sheet
from sklearn.metrics import roc_curve
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from avff_lib import Detector, synth
from avff_lib.evaluation.summary import confusion_counts
from avff_lib.faces.crop import crop_face
from avff_lib.faces.mouth import speaker_face
from avff_lib.inference import sync
from avff_lib.inference.timeline import aggregate_scores
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.nn.masking import complementary_slices
from avff_lib.notebook import data_uri, voice_captions
from avff_lib.preprocess.audio import log_mel
from avff_lib.preprocess.spec import MelSpec

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "notebooks" / "drawings"
SCORES = ROOT / "results" / "scores-avff-tiny.json"
Data = dict[str, Any]


class PageSheet(Sheet):
    """A drawing that is part of a page; its colours are those of the page's theme (``interactive.css``)."""

    def __init__(self, title: str, about: str, size: Point) -> None:
        super().__init__("light", title, about, size)
        self.colour = {name: f"var(--avff-{name})" for name in PALETTES["light"]}
        self.parts.pop()  # the arrowhead, since its name would not be unique in the page


@contextmanager
def group(sheet: Sheet, name: str, at: Point = (0, 0), **attributes: str) -> Iterator[None]:
    """A group that the part's script finds by its name, drawn around its own origin."""
    further = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    sheet.parts.append(f'<g data-part="{name}" transform="translate({at[0]:.1f} {at[1]:.1f})"{further}>')
    yield
    sheet.parts.append("</g>")


@dataclass(frozen=True)
class Frame:
    """The axes of a plot: their position on the sheet, and the values at their ends."""

    left: float
    top: float
    width: float
    height: float
    x: Point
    y: Point

    def at(self, x: float, y: float) -> Point:
        return (
            self.left + self.width * (x - self.x[0]) / (self.x[1] - self.x[0]),
            self.top + self.height * (self.y[1] - y) / (self.y[1] - self.y[0]),
        )

    def to_json(self) -> Data:
        """The data that a script needs to place points like `at`."""
        return {"left": self.left, "top": self.top, "width": self.width, "height": self.height,
                "x": self.x, "y": self.y}  # fmt: skip

    def draw(self, sheet: Sheet, xticks: dict[float, str], yticks: dict[float, str]) -> None:
        sheet.rect((self.left, self.top), (self.width, self.height), "plain", "line", thick=1, share=0)
        for value, words in xticks.items():
            x, y = self.at(value, self.y[0])
            sheet.path(f"M{x:.1f} {y:.1f}v4", thick=1)
            sheet.text(x, y + 17, words, size=12)
        for value, words in yticks.items():
            x, y = self.at(self.x[0], value)
            sheet.path(f"M{x:.1f} {y:.1f}h-4", thick=1)
            sheet.text(x - 7, y + 4, words, size=12, anchor="end")


@dataclass(frozen=True)
class Part:
    """Description of a part, the size of its drawing, and the functions that make it.

    Attributes:
        data: for the script, as JSON.
        paint: the drawing in its initial state.
        panel: HTML beside the drawing; controls that need a script are ``hidden``.
        broad: the drawing takes the whole width, with the panel below it.
    """

    title: str
    about: str
    size: Point
    data: Callable[[], Data]
    paint: Callable[[Sheet, Data], None]
    panel: Callable[[Data], str]
    broad: bool = False


# Chapter 16: the threshold.

ROC = Frame(44, 30, 296, 262, (0, 1), (0, 1))
# Finer at both ends, where most scores lie.
THRESHOLDS = sorted(
    {*(round(0.01 * step, 2) for step in range(1, 100)), 0.001, 0.002, 0.005, 0.995, 0.998, 0.999}
)
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of fakes among uploads
UPLOADS = 1000


@cache
def threshold_data() -> Data:
    """Counts of the corpus's test clips at each threshold, by the scores that chapter 16 computes."""
    stored = json.loads(SCORES.read_text(encoding="utf-8"))["test"]
    config = Detector.from_pretrained("avff-tiny").config
    labels = np.array(stored["label"])
    scores = np.array([aggregate_scores(windows, config.calibration) for windows in stored["windows"]])
    # The shipped threshold replaces its neighbour, so that the slider can select it.
    shipped = int(np.abs(np.array(THRESHOLDS) - config.threshold).argmin())
    thresholds = [*THRESHOLDS[:shipped], config.threshold, *THRESHOLDS[shipped + 1 :]]
    counts = [confusion_counts(labels, scores, threshold) for threshold in thresholds]
    fpr, tpr, _ = roc_curve(labels, scores)
    return {
        "thresholds": [round(threshold, 3) for threshold in thresholds],
        "start": shipped,
        "counts": [list(found.values()) for found in counts],
        "names": ("tn", "fp", "fn", "tp"),  # the order of `confusion_counts`
        "shares": SHARES,
        "start_share": SHARES.index(0.01),
        "uploads": UPLOADS,
        "curve": np.round([fpr, tpr], 4).T.tolist(),
        "frame": ROC.to_json(),
    }


def paint_threshold(sheet: Sheet, data: Data) -> None:
    tn, fp, fn, tp = data["counts"][data["start"]]
    fpr, tpr = fp / (fp + tn), tp / (tp + fn)
    ticks = {0.0: "0", 0.5: "0.5", 1.0: "1"}
    ROC.draw(sheet, ticks, ticks)
    sheet.text(ROC.left, 18, "true positive rate: fakes called fake", "ink", anchor="start")
    sheet.text(ROC.left + ROC.width, 326, "false positive rate: real called fake", "ink", anchor="end")
    (x0, y0), (x1, y1) = ROC.at(0, 0), ROC.at(1, 1)
    sheet.path(f"M{x0:g} {y0:g}L{x1:g} {y1:g}", thick=1, dashed=True)
    sheet.curve([ROC.at(x, y) for x, y in data["curve"]], "visual-ink", thick=2)
    with group(sheet, "point", ROC.at(fpr, tpr)):
        sheet.dot((0, 0), "here", 6)
    for part, y, words in (
        ("threshold", 244, f"threshold {data['thresholds'][data['start']]:.3f}"),
        ("tpr", 262, f"TPR {tpr:.3f}"),
        ("fpr", 280, f"FPR {fpr:.3f}"),
    ):
        with group(sheet, part, (332, y)):
            sheet.text(0, 0, words, "ink", anchor="end")


def expected(count: float) -> str:
    """An expected number of people; the script rounds in the same way."""
    return f"{count:.1f}" if count < 9.95 else f"{count:.0f}"


def panel_threshold(data: Data) -> str:
    tn, fp, fn, tp = data["counts"][data["start"]]
    share = data["shares"][data["start_share"]]
    accused, found = UPLOADS * (1 - share) * fp / (fp + tn), UPLOADS * share * tp / (tp + fn)
    missed = UPLOADS * share - found

    def cell(name: str, value: int) -> str:
        return f'<td data-out="{name}">{value}</td>'

    return f"""<div class="avff-controls" hidden>
<label>Threshold: <output data-out="threshold"></output>
<input type="range" data-in="threshold" min="0" max="{len(data["thresholds"]) - 1}" value="{data["start"]}"
 autocomplete="off"></label>
<label>Fakes among the uploads: <output data-out="share"></output>
<input type="range" data-in="share" min="0" max="{len(SHARES) - 1}" value="{data["start_share"]}"
 autocomplete="off"></label>
</div>
<table><caption>The {tn + fp + fn + tp} test clips</caption>
<thead><tr><td></td><th scope="col">called real</th><th scope="col">called fake</th></tr></thead>
<tbody><tr><th scope="row">real</th>{cell("tn", tn)}{cell("fp", fp)}</tr>
<tr><th scope="row">fake</th>{cell("fn", fn)}{cell("tp", tp)}</tr></tbody></table>
<p aria-live="polite">Of {UPLOADS:,} uploads, <span data-out="percent">{100 * share:g}</span> % of them fake:
<strong><span data-out="accused">{expected(accused)}</span> people are accused wrongly</strong>,
<span data-out="found">{expected(found)}</span> fakes are found and
<span data-out="missed">{expected(missed)}</span> missed. Of those accused,
<span data-out="innocent">{100 * accused / (accused + found):.0f}</span> % are innocent.</p>"""


# Chapter 5: the voice against the lips.

LAG = Frame(44, 30, 296, 200, (-0.6, 0.6), (-0.6, 0.8))
START_STEP = 6  # of the slider: 0.24 s late


@cache
def spoken_clip() -> Clip:
    """The real clip of chapter 5."""
    plans = synth.plan_corpus(clips=400, identities=20, seed=3, level="easy")
    shifted = (plan for plan in plans if plan.method == "shifted_voice" and plan.segment == (0.0, 3.2))
    return synth.make_clip(synth.real_twin(next(shifted)))


@cache
def voice_data() -> Data:
    """The clip's lips and voice, and the correlation of both for each shift of the voice."""
    clip = spoken_clip()
    opening = sync.mouth_opening(clip)
    curves = []
    for shift in sync.LAGS:
        moved = np.roll(clip.waveform, round(shift * clip.sample_rate))
        curves.append(sync.correlate_streams(opening, replace(clip, waveform=moved)).curve)
    return {
        "shifts": np.round(sync.LAGS, 2).tolist(),
        "start": len(sync.LAGS) // 2 + START_STEP,
        "curves": np.round(curves, 3).tolist(),
        "wave": base64.b64encode(wave_bytes(clip)).decode(),
        "frame": LAG.to_json(),
    }


def wave_bytes(clip: Clip) -> bytes:
    """The sound as a 16-bit WAV file: every browser decodes it, without codec delay."""
    buffer = io.BytesIO()
    loud = 0.9 * clip.waveform / np.abs(clip.waveform).max()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(clip.sample_rate)
        file.writeframes((loud * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def mp4_bytes(clip: Clip) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(clip, path, crf=26)
        return path.read_bytes()


def paint_voice(sheet: Sheet, data: Data) -> None:
    middle = len(data["shifts"]) // 2
    LAG.draw(sheet, {-0.6: "−0.6", -0.3: "−0.3", 0.0: "0", 0.3: "0.3", 0.6: "0.6"},
             {-0.5: "−0.5", 0.0: "0", 0.5: "0.5"})  # fmt: skip
    sheet.text(LAG.left, 18, "correlation of lips and voice", "ink", anchor="start")
    sheet.text(LAG.left + LAG.width, 264, "lag of the voice behind the lips (s)", "ink", anchor="end")
    (x, top), (_, bottom) = LAG.at(0, LAG.y[1]), LAG.at(0, LAG.y[0])
    sheet.path(f"M{x:g} {top:g}V{bottom:g}", thick=1)
    in_time = zip(data["shifts"], data["curves"][middle], strict=True)
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in (LAG.at(*point) for point in in_time))
    sheet.path(f"M{points}", thick=1.4, dashed=True)
    curve = data["curves"][data["start"]]
    with group(sheet, "curve"):
        sheet.curve([LAG.at(*point) for point in zip(data["shifts"], curve, strict=True)], "here", thick=2.2)
    peak = int(np.argmax(curve))
    with group(sheet, "zero", LAG.at(0, curve[middle])):
        sheet.rect((-4.5, -4.5), (9, 9), "visual-ink")
    with group(sheet, "peak", LAG.at(data["shifts"][peak], curve[peak])):
        sheet.dot((0, 0), "here", 6)


def panel_voice(data: Data) -> str:
    curve, shifts = data["curves"][data["start"]], data["shifts"]
    return f"""<div class="avff-controls" hidden>
<video muted playsinline preload="auto" aria-label="the clip of a speaking face, without its sound"
 src="{data_uri("video/mp4", mp4_bytes(spoken_clip()))}"></video>
<button type="button" data-in="play">Play</button>
<label>Shift of the voice: <output data-out="shift"></output>
<input type="range" data-in="shift" min="0" max="{len(shifts) - 1}" value="{data["start"]}"
 autocomplete="off"></label>
</div>
<p aria-live="polite">Voice shifted by <span data-out="seconds">{seconds(shifts[data["start"]])}</span>:
the peak (round mark) is at <strong data-out="lag">{seconds(shifts[int(np.argmax(curve))])}</strong>,
<strong data-out="height">{max(curve):.2f}</strong> high. At lag zero (square mark) the correlation is
<strong data-out="at-zero">{signed(curve[len(curve) // 2])}</strong>.</p>"""


def signed(value: float) -> str:
    """Two digits, with a full-width minus sign; the script uses the same format."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def seconds(value: float) -> str:
    return f"{signed(value)} s"


# Chapter 15: the playhead.

TIME = Frame(34, 24, 330, 150, (0, 9.6), (0, 1))
FAKE_PART = (4.0, 5.6)  # seconds of the film


@cache
def film() -> Clip:
    """Three people one after the other, of whom the second is fake for 1.6 seconds, as in chapter 15."""
    plans = synth.plan_corpus(clips=300, identities=30, seed=7)
    whole = (0.0, 3.2)
    fake = next(p for p in plans if p.method == "other_lips_revoiced" and p.segment == whole)
    others: dict[int, synth.ClipPlan] = {}
    for plan in plans:
        if plan.source != fake.source:
            others.setdefault(plan.source, synth.real_twin(plan))
    before, after = list(others.values())[:2]
    part = replace(fake, segment=(FAKE_PART[0] - 3.2, FAKE_PART[1] - 3.2))
    clips = [synth.make_clip(plan) for plan in (before, part, after)]
    return replace(
        clips[0],
        frames=np.concatenate([clip.frames for clip in clips]),
        times=np.concatenate([clip.times + 3.2 * number for number, clip in enumerate(clips)]),
        waveform=np.concatenate([clip.waveform for clip in clips]),
        duration=3.2 * len(clips),
    )


@cache
def film_bytes() -> bytes:
    """The file that is shown and scored."""
    return mp4_bytes(film())


@cache
def playhead_data() -> Data:
    """The film's windows with their scores, and its fake segment, as `predict` finds them."""
    model = Detector.from_pretrained("avff-tiny")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        path.write_bytes(film_bytes())
        result = model.predict(path)
    windows = [(w.start, w.end, w.score) for w in result.windows if w.score is not None]
    return {
        "frame": TIME.to_json(),
        "threshold": round(model.config.calibration.window_threshold, 3),
        "windows": [[round(start, 2), round(end, 2), round(score, 3)] for start, end, score in windows],
        "truth": FAKE_PART,
    }


def paint_playhead(sheet: Sheet, data: Data) -> None:
    TIME.draw(sheet, {0.0: "0 s", 3.2: "3.2 s", 6.4: "6.4 s", 9.6: "9.6 s"}, {0.0: "0", 0.5: "0.5", 1.0: "1"})
    sheet.text(TIME.left, 16, "probability of fake, window by window", "ink", anchor="start")
    (x0, top), (x1, bottom) = TIME.at(data["truth"][0], 1), TIME.at(data["truth"][1], 0)
    sheet.rect((x0, top), (x1 - x0, bottom - top), "here", share=0.15)
    sheet.text((x0 + x1) / 2, bottom + 17, "fake part", "here", 12)
    left, right = TIME.at(0, data["threshold"]), TIME.at(TIME.x[1], data["threshold"])
    sheet.path(f"M{left[0]:.1f} {left[1]:.1f}H{right[0]:.1f}", thick=1.2, dashed=True)
    for start, end, score in data["windows"]:
        colour = "here" if score >= data["threshold"] else "visual-ink"
        sheet.curve([TIME.at(start, score), TIME.at(end, score)], colour, thick=3)
    with group(sheet, "playhead", TIME.at(0, 1)):
        sheet.path(f"M0 -4V{TIME.height + 4:g}", "ink", thick=2)


def panel_playhead(data: Data) -> str:
    video = data_uri("video/mp4", film_bytes())
    captions = data_uri("text/vtt", voice_captions(film()).encode())
    return f"""<div class="avff-controls" hidden>
<video playsinline preload="auto" aria-label="a film of three drawn faces that speak" src="{video}">
<track kind="captions" srclang="en" label="voice" src="{captions}"></video>
<button type="button" data-in="play">Play</button>
<label>Time: <output data-out="time"></output>
<input type="range" data-in="time" min="0" max="{TIME.x[1]}" step="0.1" value="0" autocomplete="off"></label>
</div>
<p aria-live="polite">At <span data-out="moment">0.0 s</span> the windows that the film is in score
<strong data-out="scores">{score_words(data, 0.0)}</strong>.</p>"""


def score_words(data: Data, time: float) -> str:
    """The scores of the windows at a time; the script writes alike."""
    scores = [score for start, end, score in data["windows"] if start <= time < end]
    words = [f"{score:.2f} ({'fake' if score >= data['threshold'] else 'real'})" for score in scores]
    return ", ".join(words) or "nothing"


# Chapter 11: complementary masks.

SLICES = 8
CELL = 42
LEFT = 10
ROWS = (34, 152)  # upper edges of the video's and the audio's cells
STREAMS = ("video", "audio")


@cache
def mask_data() -> Data:
    """Masks as training draws them, each given by the slices that are visible in the video, from 1."""
    visible, _ = complementary_slices(24, SLICES, torch.Generator().manual_seed(1))
    return {"slices": SLICES, "draws": (visible + 1).tolist()}


@cache
def slice_pictures() -> dict[str, list[str]]:
    """For each slice of a window of chapter 11, a frame of the mouth and the log-mel spectrogram, as PNG."""
    plans = synth.plan_corpus(clips=160, identities=160, seed=9, level="easy", methods=())
    clip = synth.make_clip(next(plan for plan in plans if plan.split == "test"))
    mouths = crop_face(clip, speaker_face(clip), 80).frames[:, 38:74, 22:58]  # (T, 36, 36, 3)
    part = clip.window(0.2, 1.28)
    first = int(np.searchsorted(clip.times, 0.2))
    mel = log_mel(torch.from_numpy(part.waveform), part.sample_rate, MelSpec()).numpy()  # (64, columns)
    low, high = np.quantile(mel, [0.05, 0.995])
    grey = (255 * np.clip((mel - low) / (high - low), 0, 1)).astype(np.uint8)[::-1]
    colours = cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA)
    edges = np.linspace(0, colours.shape[1], SLICES + 1).round().astype(int)
    frames = [mouths[first + 4 * number + 2] for number in range(SLICES)]  # a slice lasts four frames
    return {
        "video": [_png(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)) for frame in frames],
        "audio": [_png(colours[:, start:end]) for start, end in pairwise(edges)],
    }


def _png(image: np.ndarray) -> str:
    return data_uri("image/png", cv2.imencode(".png", image)[1].tobytes())


def paint_masks(sheet: Sheet, data: Data) -> None:
    pictures = slice_pictures()
    for number in range(1, SLICES + 1):
        seen = "video" if number in data["draws"][0] else "audio"
        with group(sheet, "slice", (LEFT + (number - 1) * CELL, 0), data_slice=str(number)):
            sheet.rect((0, 4), (CELL, 192), "plain", share=0)  # the whole column can be clicked
            sheet.text(CELL / 2, 24, str(number), "ink", 13)
            for stream, top in zip(STREAMS, ROWS, strict=True):
                sheet.parts.append(
                    f'<image x="1" y="{top}" width="{CELL - 2}" height="{CELL}" preserveAspectRatio="none" '
                    f'href="{pictures[stream][number - 1]}"/>'
                )
            for visible in STREAMS:
                display = {} if visible == seen else {"display": "none"}
                with group(sheet, f"sees-{visible}", **display):
                    _translation(sheet, visible)
    for stream, top in zip(STREAMS, ROWS, strict=True):
        sheet.text(LEFT + SLICES * CELL + 6, top + 25, stream, "ink", anchor="start")


def _translation(sheet: Sheet, visible: str) -> None:
    """One column where a stream is visible: the other is covered, and an arrow leads to it."""
    masked = ROWS[1 - STREAMS.index(visible)]
    sheet.rect((2, masked + 1), (CELL - 4, CELL - 2), "plain", "line", dashed=True)
    sheet.text(CELL / 2, masked + 26, "?", "joint-ink", 16, bold=True)
    x, top, bottom = CELL / 2, ROWS[0] + CELL + 6, ROWS[1] - 6
    start, end, tip = (top, bottom, -7) if visible == "video" else (bottom, top, 7)
    name, middle = ("V2A" if visible == "video" else "A2V"), (top + bottom) / 2
    sheet.path(f"M{x:g} {start:g}V{middle + (1.6 * tip):g}M{x:g} {middle - 1.6 * tip:g}V{end:g}"
               f"m-5 {tip:g}l5 {-tip:g}l5 {tip:g}", "joint-ink", thick=1.8)  # fmt: skip
    sheet.text(x, middle + 4, name, "joint-ink", 12.5, bold=True)


def panel_masks(data: Data) -> str:
    visible = data["draws"][0]
    others = [number for number in range(1, SLICES + 1) if number not in visible]
    return f"""<div class="avff-controls" hidden>
<p>Click a slice, or move to it with Tab or the arrow keys and press Space, to mask its other stream.</p>
<button type="button" data-in="draw">Draw a mask as in training</button>
</div>
<p aria-live="polite"><strong>A2V</strong> is given the audio of slices
<span data-out="audio">{", ".join(map(str, others))}</span> and predicts the video there.
<strong>V2A</strong> is given the video of slices
<span data-out="video">{", ".join(map(str, visible))}</span> and predicts the audio there.
<span data-out="balance"></span></p>"""


PARTS = {
    "threshold": Part(
        "The threshold on the ROC curve",
        "The ROC curve of avff-tiny on the corpus's test clips rises steeply at the left edge. A point on it "
        "marks the shipped threshold, with its true and false positive rates beside it.",
        (360, 336),
        threshold_data,
        paint_threshold,
        panel_threshold,
    ),
    "voice": Part(
        "The correlation curve of a shifted voice",
        "Correlation of lips and voice against lag, dashed for a clip in time with a peak at zero, and solid "
        "for the same clip with its voice 0.24 s late: the peak is at 0.24 s, and the value at zero is low.",
        (360, 274),
        voice_data,
        paint_voice,
        panel_voice,
    ),
    "playhead": Part(
        "A film and the timeline of its scores",
        "The scores of a film's windows over its 9.6 seconds, as short lines. Those in the fake part, from "
        "4.0 to 5.6 s, lie above the dashed threshold, the other windows below. An upright line marks the "
        "moment that the film shows.",
        (388, 204),
        playhead_data,
        paint_playhead,
        panel_playhead,
        broad=True,
    ),
    "masks": Part(
        "Complementary masks over eight slices",
        "Eight slices of time, each with a picture of a mouth above and a piece of a spectrogram below. In "
        "each slice one of the two is covered, and an arrow, A2V or V2A, leads to it from the other.",
        (400, 202),
        mask_data,
        paint_masks,
        panel_masks,
        broad=True,
    ),
}


def page_html(name: str) -> str:
    """A part as HTML for a page."""
    part, data = PARTS[name], PARTS[name].data()
    sheet = PageSheet(part.title, part.about, part.size)
    part.paint(sheet, data)
    kind = "avff-interactive avff-broad" if part.broad else "avff-interactive"
    code = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="{kind}" data-interactive="{name}">\n{sheet.svg()}'
        f'<div class="avff-panel">\n{part.panel(data)}\n</div>\n'
        f'<script type="application/json">{code}</script>\n</div>'
    )


def picture(name: str) -> str:
    """A part as a separate picture, on white, for JupyterLab."""
    part = PARTS[name]
    sheet = Sheet("light", part.title, part.about, part.size)
    sheet.rect((0, 0), part.size, "on-here")
    part.paint(sheet, part.data())
    return sheet.svg()


def picture_file(name: str) -> Path:
    return PICTURES / f"interactive-{name}.svg"


class Interactive(SphinxTransform):
    """Replace the picture ``interactive-NAME.svg`` by its part of `PARTS`, in the figure around it."""

    default_priority = 10  # before Sphinx collects the pictures

    def apply(self, **kwargs: Any) -> None:
        for figure in self.document.findall(nodes.figure):
            for image in list(figure.findall(nodes.image)):
                path = PurePosixPath(image["uri"])
                name = path.stem.removeprefix("interactive-")
                if path.parent.name != PICTURES.name or name not in PARTS:
                    continue
                self.env.note_dependency(str(SCORES))
                image.replace_self(nodes.raw("", page_html(name), format="html"))
                figure["interactive"] = name


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give a page only the scripts of its own parts."""
    if doctree is None:
        return
    names = [figure["interactive"] for figure in doctree.findall(nodes.figure) if "interactive" in figure]
    if any("quiz" in section["ids"] for section in doctree.findall(nodes.section)):
        names.append("quiz")
    for name in names:
        app.add_js_file(f"{name}.js", loading_method="defer")
    if names:
        app.add_css_file("interactive.css")


def setup(app: Sphinx) -> dict[str, bool | str]:
    app.add_transform(Interactive)
    app.connect("html-page-context", load_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    for name in PARTS:
        picture_file(name).write_text(picture(name), encoding="utf-8")
