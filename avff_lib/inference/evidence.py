"""What a report shows of a file: pictures of a few windows, kept while its pieces are scored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from avff_lib.faces.tracked import TrackedClip
from avff_lib.inference.prediction import FaceScore
from avff_lib.inference.windows import WINDOW_HOP, WindowOutputs
from avff_lib.models import Detector
from avff_lib.nn.features import Features, index_features

EVIDENCE_FRAMES = 8  # frames of the most suspicious window in a report


@dataclass(frozen=True, eq=False)
class WindowEvidence:
    """A face in a window, with the inputs that it was scored on.

    Attributes:
        start, end: of the window, in seconds.
        face: its scores.
        features: before fusion, ``(1, ...)``.
        frames: some frames of the face, ``(EVIDENCE_FRAMES, S, S, 3)`` uint8.
        times: of the frames, in seconds.
        waveform: ``(S,)`` float32 in [-1, 1].
        sample_rate: of the waveform, in Hz.
    """

    start: float
    end: float
    face: FaceScore
    features: Features
    frames: np.ndarray
    times: np.ndarray
    waveform: np.ndarray
    sample_rate: int


@dataclass(frozen=True, eq=False)
class ReferenceWindow:
    """The least suspicious window of a face: its start in seconds, score, and features ``(1, ...)``."""

    start: float
    score: float
    features: Features


class FileEvidence:
    """Collects the evidence of a file; memory grows with the number of its faces, not with its length.

    Attributes:
        audio_peaks: of the waveform, one for each `avff_lib.inference.streaming.GAP_RESOLUTION` seconds.
        thumbnails: of each face that was scored, ``(S, S, 3)`` uint8.
        most_suspicious: the window with the highest score; None before any is scored.
        least_suspicious: for each face in sight, and for that of ``most_suspicious``.
        mismatched_agreement: agreement of faces with the audio of *other* windows of the file.
    """

    def __init__(self) -> None:
        self.audio_peaks: list[float] = []
        self.thumbnails: dict[int, np.ndarray] = {}
        self.most_suspicious: WindowEvidence | None = None
        self.least_suspicious: dict[int, ReferenceWindow] = {}
        self.mismatched_agreement: list[float] = []

    def add_window(self, window: TrackedClip, face: FaceScore, outputs: WindowOutputs) -> None:
        """Record a face that was scored in a window; a face that does not speak leaves only its thumbnail.

        Args:
            window: with crops for display, see `avff_lib.faces.tracked.FaceCrops`; without them nothing is
                recorded.
            face: its scores.
            outputs: the detector's outputs, a batch of one.
        """
        crops = window.faces[face.face]
        if not len(crops.views):
            return
        if face.face not in self.thumbnails:
            middle = crops.views[len(crops.views) // 2]
            self.thumbnails[face.face] = middle.copy()  # a view would keep the whole piece
        if not face.speaks:
            return
        least = self.least_suspicious.get(face.face)
        if least is None or face.score < least.score:
            self.least_suspicious[face.face] = ReferenceWindow(window.start, face.score, outputs.features)
        if self.most_suspicious is None or face.score > self.most_suspicious.face.score:
            count = min(EVIDENCE_FRAMES, len(crops.views))
            shown = np.linspace(0, len(crops.views) - 1, count).round().astype(int)
            self.most_suspicious = WindowEvidence(
                start=window.start,
                end=window.end,
                face=face,
                features=outputs.features,
                frames=crops.views[shown],
                times=crops.times[shown],
                waveform=window.waveform.copy(),
                sample_rate=window.sample_rate,
            )

    def add_mismatched(self, model: Detector, starts: Sequence[float], features: Features) -> None:
        """Record the agreement of each window of a face with the audio of every window apart from it."""
        gaps = np.abs(np.subtract.outer(starts, starts))
        video, audio = (rows.tolist() for rows in np.nonzero(gaps > model.spec.duration - WINDOW_HOP / 100))
        if not video:
            return
        mixed = replace(index_features(features, video), audio=index_features(features, audio).audio)
        with torch.inference_mode():
            self.mismatched_agreement += model.agreement(mixed.to(model.device)).mean(dim=1).tolist()

    def forget_all_but(self, faces: Collection[int]) -> None:
        """Drop windows of faces that are gone: they can no longer become the most suspicious one."""
        kept = {*faces, *([self.most_suspicious.face.face] if self.most_suspicious else [])}
        self.least_suspicious = {face: least for face, least in self.least_suspicious.items() if face in kept}
