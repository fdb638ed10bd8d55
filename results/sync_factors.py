"""What breaks synchrony: test clips are changed in one way at a time, until they fail like clips of people.

    python results/sync_factors.py data/other data/grid-others --clips 20
    python results/sync_factors.py data/other --clips 20 --only crop head \\
        --out results/sync-factors-steady.json \\
        --checkpoint runs/people/drawings-and-one-speaker-strong-0/model

From each dataset, some real clips of people who are not in the training data of `avff-people` are separated
from the same clips with their voices shifted, both changed alike. The face was located in the unchanged clip,
except in the rows that move the crop. "At lag 0" is the AUC without the search over lags. Intervals are over
people; clips from the wild are not used. The second command measures a model that was trained on steady
crops, ``people.py --augment STRONG --steps 300``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from common import HERE, write_result
from people import measure, told_from_shifted
from sync_real import NOD_RATE, shifted

from avff_lib.data.manifest import Row, read_manifest
from avff_lib.evaluation.perturbations import PERTURBATIONS
from avff_lib.faces.tracked import TrackedClip, crop_again, iter_tracked, join
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip
from avff_lib.models import SyncNet

SHIFTS = (-0.4, 0.4)  # seconds by which the voice is delayed
BEAT = 0.4  # seconds
CLIPS = 40  # of each dataset, of as many people as possible
OUT = HERE / "sync-factors.json"

Case = tuple[TrackedClip, Clip]  # where the mouth is, and the whole frames with the sound
Change = Callable[[Case, np.random.Generator], Case]


def main(
    datasets: tyro.conf.Positional[tuple[Path, ...]],
    checkpoint: str = "avff-people",
    clips: int = CLIPS,
    only: tuple[str, ...] = (),
    out: Path = OUT,
    threads: int = 2,
) -> None:
    """Measure every factor on every dataset.

    Args:
        datasets: folders with a manifest.csv, not too small: the names of folders are those of the rows.
        checkpoint: a detector of synchrony.
        clips: number of clips of each dataset.
        only: factors whose names begin with one of these; by default all.
        out: JSON file to write.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    model = SyncNet.from_pretrained(checkpoint)
    folders = " ".join(f"data/{folder.name}" for folder in datasets)
    command = f"python results/sync_factors.py {folders} --clips {clips} --checkpoint {checkpoint}"
    command += f" --only {' '.join(only)}" if only else ""
    records = []
    for folder in datasets:
        cases = [(row.source, *case) for row, case in read_cases(folder, model, clips)]
        voices = [clip.waveform for _, _, clip in cases]
        for factor, level, change in factors(voices):
            if only and not factor.startswith(only):
                continue
            found = separation(model, cases, change)
            records.append({"dataset": folder.name, "factor": factor, "level": level, **found})
            print(json.dumps(records[-1]), flush=True)
        write_result({"command": command, "shifts": SHIFTS, "records": records}, out)


def read_cases(folder: Path, model: SyncNet, clips: int) -> Iterator[tuple[Row, Case]]:
    """Real clips of a dataset with the positions of their mouths: one per person, then a second, …"""
    rows = [
        row
        for row in read_manifest(folder / "manifest.csv")
        if row.label == 0 and (row.split == "test" or folder.name == "grid-others")
    ]
    seen: dict[str, int] = {}
    turns = []
    for row in rows:
        seen[row.source] = seen.get(row.source, 0) + 1
        turns.append((seen[row.source], row.source, row))
    for _, _, row in sorted(turns, key=lambda turn: turn[:2])[:clips]:
        piece = join(list(iter_tracked(row.path, model.spec.image_size, region="mouth")))
        yield row, (piece, read_clip(row.path, sample_rate=model.spec.sample_rate))


def separation(
    model: SyncNet, cases: Sequence[tuple[str, TrackedClip, Clip]], change: Change
) -> dict[str, Any]:
    """How well changed clips are separated from changed clips with a shifted voice."""
    curves, logits = [], []
    for index, (_, piece, clip) in enumerate(cases):
        # The same change for all factors' levels, and for the clip and its shifted twins.
        changed_piece, changed = change((piece, clip), np.random.default_rng(index))
        again = crop_again(changed_piece, changed, model.spec.image_size)
        crops = again.face_clip(again.speaker() or 1)
        measured = [measure(model, shifted(crops, seconds)) for seconds in (0.0, *SHIFTS)]
        curves.append([curve for curve, _ in measured])
        logits.append([logit for _, logit in measured])
    every, scores = np.array(curves), np.array(logits)  # (N, 1 + S, L), (N, 1 + S)
    people = [source for source, _, _ in cases]
    reach = model.config.max_lag
    lags = every[:, 0].argmax(axis=1) - reach
    return {
        "clips": len(cases),
        **told_from_shifted(scores, people),
        "auc_at_lag_0": told_from_shifted(-every[:, :, reach], people)["auc"],
        "agreement_at_peak": round(float(every[:, 0].max(axis=1).mean()), 4),
        "median_lag_frames": float(np.median(lags)),
    }


def factors(voices: Sequence[np.ndarray]) -> Iterator[tuple[str, str, Change]]:
    """Name, level and change of each row; ``voices`` of the dataset talk in the background."""
    yield "none", "", lambda case, rng: case
    for share in (0.1, 0.2, 0.3):
        yield "crop off centre", f"{share:.0%} of its side", partial(move_crop, share=share)
    for scale in (0.6, 0.8, 1.3, 1.8):
        yield "crop too large or small", f"{scale:g} times the side", partial(scale_crop, scale=scale)
    for share in (0.03, 0.06, 0.12):
        yield "crop trembles", f"{share:.0%} of its side", partial(tremble, share=share)
    for degrees in (5, 10, 20):
        yield "head tilts", f"{degrees} degrees", partial(tilt, degrees=degrees)
    for name in ("pixelation", "gaussian_blur", "h264", "gaussian_noise", "contrast"):
        for level in (1, 3, 5):
            change = PERTURBATIONS[name]
            yield name, f"{change.values[level - 1]:g} {change.unit}", partial(perturb, name, level=level)
    for share in (0.3, 0.6):
        yield "light sways", f"{share:.0%} of the brightness", partial(sway_light, share=share)
    for rate in (15, 10):
        yield "frames left out", f"{rate} frames a second", partial(leave_out, rate=rate)
    for snr in (20, 10, 5, 0):
        yield "noise", f"{snr} dB", partial(add_noise, snr=snr)
        yield "other voices", f"{snr} dB", partial(add_voices, voices=voices, snr=snr)
        yield "music", f"{snr} dB", partial(add_music, snr=snr)
    for level in (1, 3, 5):
        change = PERTURBATIONS["reverberation"]
        yield (
            "reverberation",
            f"{change.values[level - 1]:g} {change.unit}",
            partial(perturb, "reverberation", level=level),
        )
    for frames in (-3, -2, -1, 1, 2, 3, 4):
        yield "constant offset", f"{frames:+d} frames", partial(offset, seconds=frames / 25)


def move_crop(case: Case, rng: np.random.Generator, share: float) -> Case:
    """The crop beside the mouth, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return with_boxes(
        case, lambda centers, sides: (centers + share * sides * [np.cos(angle), np.sin(angle)], sides)
    )


def scale_crop(case: Case, rng: np.random.Generator, scale: float) -> Case:
    """The crop too large or too small."""
    return with_boxes(case, lambda centers, sides: (centers, scale * sides))


def tremble(case: Case, rng: np.random.Generator, share: float) -> Case:
    """The crop moves at random around the mouth; ``share`` is the standard deviation over its side."""
    return with_boxes(
        case, lambda centers, sides: (centers + share * sides * rng.standard_normal(centers.shape), sides)
    )


def with_boxes(case: Case, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Case:
    """The case with other boxes, by their centers and sides ``(N, 2)`` in shares of the picture."""
    piece, clip = case
    faces = {}
    for number, face in piece.faces.items():
        corners = face.boxes.reshape(-1, 2, 2)
        centers, sides = change(corners.mean(axis=1), corners[:, 1] - corners[:, 0])
        boxes = np.hstack([centers - sides / 2, centers + sides / 2]).astype(np.float32)
        faces[number] = replace(face, boxes=boxes)
    return replace(piece, faces=faces), clip


def tilt(case: Case, rng: np.random.Generator, degrees: float) -> Case:
    """The crop rotates around its middle to either side of upright, like a swaying head."""
    piece, clip = case
    centers = next(iter(piece.faces.values())).boxes.reshape(-1, 2, 2).mean(axis=(0, 1))
    height, width = clip.frames.shape[1:3]
    phase = rng.uniform(0, 2 * np.pi)
    frames = []
    for frame, time in zip(clip.frames, clip.times, strict=True):
        angle = degrees * np.sin(2 * np.pi * NOD_RATE * time + phase)
        turn = cv2.getRotationMatrix2D((float(centers[0] * width), float(centers[1] * height)), angle, 1.0)
        frames.append(cv2.warpAffine(frame, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))
    return piece, replace(clip, frames=np.stack(frames))


def perturb(name: str, case: Case, rng: np.random.Generator, level: int) -> Case:
    """One of `PERTURBATIONS`."""
    piece, clip = case
    return piece, PERTURBATIONS[name](clip, level, rng)


def sway_light(case: Case, rng: np.random.Generator, share: float) -> Case:
    """Light from one side that becomes stronger and weaker, like a swinging lamp."""
    piece, clip = case
    across = np.linspace(-1, 1, clip.frames.shape[2])[:, None]  # (W, 1)
    swing = np.sin(2 * np.pi * NOD_RATE * clip.times + rng.uniform(0, 2 * np.pi))
    frames = [
        (frame * (1 + share * amount * across)).clip(0, 255).astype(np.uint8)
        for frame, amount in zip(clip.frames, swing, strict=True)
    ]
    return piece, replace(clip, frames=np.stack(frames))


def leave_out(case: Case, rng: np.random.Generator, rate: float) -> Case:
    """A lower frame rate: each remaining frame stays on the screen until the next."""
    piece, clip = case
    shown = np.floor((clip.times - clip.start) * rate + 1e-6) / rate + clip.start
    return piece, replace(clip, frames=clip.frames[clip.nearest_frames(shown)])


def add_noise(case: Case, rng: np.random.Generator, snr: float) -> Case:
    """White noise, ``snr`` dB below the voice."""
    return mixed(case, rng.standard_normal(len(case[1].waveform)), snr)


def add_voices(case: Case, rng: np.random.Generator, voices: Sequence[np.ndarray], snr: float) -> Case:
    """Three voices of other clips, ``snr`` dB below the voice."""
    count = len(case[1].waveform)
    chosen = [voices[index] for index in rng.choice(len(voices), 3, replace=False)]
    return mixed(case, sum(np.resize(voice, count) for voice in chosen), snr)


def add_music(case: Case, rng: np.random.Generator, snr: float) -> Case:
    """Three fading notes, new ones every `BEAT` seconds, ``snr`` dB below the voice."""
    _, clip = case
    times = np.arange(len(clip.waveform)) / clip.sample_rate
    notes = 220 * 2 ** (rng.integers(0, 25, (int(times[-1] / BEAT) + 1, 3)) / 12)  # Hz, two octaves
    beat = (times / BEAT).astype(int)
    tones = np.sin(2 * np.pi * notes[beat] * times[:, None]).sum(axis=1)
    return mixed(case, tones * np.exp(-4 * (times % BEAT)), snr)


def mixed(case: Case, background: np.ndarray, snr: float) -> Case:
    piece, clip = case
    scale = clip.waveform.std() / (background.std() + 1e-9) * 10 ** (-snr / 20)
    return piece, replace(clip, waveform=(clip.waveform + scale * background).astype(np.float32))


def offset(case: Case, rng: np.random.Generator, seconds: float) -> Case:
    """The voice delayed by a constant time, also in the real clips."""
    piece, clip = case
    return piece, shifted(clip, seconds)


if __name__ == "__main__":
    tyro.cli(main)
