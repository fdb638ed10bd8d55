"""The AUC of the training-free baseline on videos of people.

    python results/sync_real.py FOLDER

The clips should be real, in sync, a few seconds long, and of one speaker each. Their voices are shifted, or
exchanged for another clip's, and the heads are made to nod; then the correlation at lag zero separates real
from fake. File names are not recorded. The numbers in sync-real.json come from seven sentences of the GRID
corpus (Cooke et al., 2006), by six speakers who hold their heads still.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tyro
from sklearn.metrics import roc_auc_score

from avff_lib.faces.crop import crop_face
from avff_lib.faces.mouth import MOUTH_CROP_SIZE, MOUTH_REGION, speaker_face
from avff_lib.inference.sync import SyncCurve, correlate_streams, mouth_opening
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip

SHIFTS = (-0.6, -0.4, -0.2, 0.2, 0.4, 0.6)  # seconds by which the voice is delayed
NODS = (0, 5, 10, 20)  # degrees to either side
NOD_RATE = 1.3  # Hz
RESULTS = Path(__file__).with_name("sync-real.json")


def mouth_energy(clip: Clip) -> np.ndarray:
    """Change of the mouth's image from frame to frame, ``(T,)``: the naive measure."""
    crops = crop_face(clip, speaker_face(clip), MOUTH_CROP_SIZE).frames.mean(axis=-1)
    energy = np.abs(np.diff(crops[:, *MOUTH_REGION], axis=0)).mean(axis=(1, 2))
    return np.concatenate([energy[:1], energy])


MEASURES = {"mouth opening": mouth_opening, "motion energy": mouth_energy}


def nodding(clip: Clip, degrees: float) -> Clip:
    """The clip as if the face were a flat picture that tilts forward and back around its middle."""
    left, top, right, bottom = speaker_face(clip).boxes.mean(axis=0)
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    distance = 4 * (bottom - top)  # of the camera
    frames = []
    for frame, time in zip(clip.frames, clip.times, strict=True):
        angle = np.deg2rad(degrees) * np.sin(2 * np.pi * NOD_RATE * time)
        tilt = np.array([[1, 0, 0], [0, np.cos(angle), 0], [0, np.sin(angle) / distance, 1]])
        to_centre = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]])
        warp = np.linalg.inv(to_centre) @ tilt @ to_centre
        size = frame.shape[1::-1]
        frames.append(cv2.warpPerspective(frame, warp, size, borderMode=cv2.BORDER_REPLICATE))
    return replace(clip, frames=np.stack(frames))


def shifted(clip: Clip, seconds: float) -> Clip:
    """The voice ``seconds`` late, wrapped around the ends of the clip."""
    return replace(clip, waveform=np.roll(clip.waveform, round(seconds * clip.sample_rate)))


def exchanged(clip: Clip, other: Clip) -> Clip:
    """The voice of another clip, cut or filled with silence to the same length."""
    waveform = np.zeros_like(clip.waveform)
    count = min(len(waveform), len(other.waveform))
    waveform[:count] = other.waveform[:count]
    return replace(clip, waveform=waveform)


def auc(real: list[SyncCurve], fake: list[SyncCurve]) -> float:
    """AUC of detecting ``fake`` by its low correlation at lag zero."""
    scores = [-sync.correlation_at_zero for sync in (*real, *fake)]
    return round(float(roc_auc_score([0] * len(real) + [1] * len(fake), scores)), 3)


def main(folder: tyro.conf.Positional[Path], out: Path = RESULTS) -> None:
    """Measure the clips of a folder.

    Args:
        folder: folder with real clips.
        out: JSON file to write.
    """
    clips = [read_clip(path) for path in sorted(folder.iterdir()) if path.is_file()]
    records = []
    for degrees in NODS:
        nodded = [nodding(clip, degrees) if degrees else clip for clip in clips]
        for name, measure in MEASURES.items():
            lips = [measure(clip) for clip in nodded]
            pairs = list(zip(lips, clips, strict=True))
            real = [correlate_streams(a, clip) for a, clip in pairs]
            by_shift = {s: [correlate_streams(a, shifted(clip, s)) for a, clip in pairs] for s in SHIFTS}
            others = [
                correlate_streams(a, exchanged(clip, other))
                for a, clip in pairs
                for other in clips
                if other is not clip
            ]
            errors = [abs(sync.lag - s) for s, found in {0.0: real, **by_shift}.items() for sync in found]
            records.append(
                {
                    "measure": name,
                    "nod_degrees": degrees,
                    "real_lags": [round(sync.lag, 2) for sync in real],
                    "real_correlation": [round(sync.correlation_at_zero, 3) for sync in real],
                    "confidence": [round(sync.confidence, 3) for sync in real],
                    "auc_by_shift": {f"{s:+.1f}": auc(real, found) for s, found in by_shift.items()},
                    "auc_other_voice": auc(real, others),
                    "lags_within_two_steps": round(float(np.mean(np.array(errors) < 0.081)), 3),
                }
            )
    seconds = round(float(np.mean([clip.duration for clip in clips])), 2)
    result = {
        "command": "python results/sync_real.py FOLDER",
        "clips": len(clips),
        "mean_seconds": seconds,
        "nod_rate_hz": NOD_RATE,
        "records": records,
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    tyro.cli(main)
