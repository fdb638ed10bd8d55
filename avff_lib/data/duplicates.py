"""The same recording twice in a dataset: identical when decoded, or in another encoding.

A fingerprint holds a few tiny keyframes and a tiny spectrogram of a clip. Compression, or another size, frame
rate or level, hardly changes them. A clip that begins or ends elsewhere has another fingerprint: different
parts of one recording are not found. Perceptual hashes (such as those of ``imagehash``) cover single images
and no audio.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import stft

from avff_lib.data.manifest import Row
from avff_lib.media.clip import Clip

KEYFRAMES = 4  # per clip
KEYFRAME_SIZE = 12  # their width and height in pixels
WINDOW, HOP = 512, 160  # samples; of the spectrogram, which is shrunk afterwards
SPECTROGRAM_SHAPE = (16, 32)  # bands and time steps of the tiny spectrogram
FLOOR = 1e-5  # of its power, relative to the loudest: -50 dB
MIN_CORRELATION = {"video": 0.98, "audio": 0.9}  # of two clips that count as the same recording
BLOCK = 1024  # clips compared with all others at a time


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The fingerprint by which duplicates of a clip are found.

    Attributes:
        content: hash of all decoded frames and samples.
        video: ``(576,)`` float32, the keyframes, of mean 0 and length 1, so that a product is a correlation;
            zeros if the frames are blank.
        audio: ``(512,)`` float32, the spectrogram, normalised in the same way, each band relative to its own
            mean.
    """

    content: str
    video: np.ndarray
    audio: np.ndarray


def fingerprint(clip: Clip) -> Fingerprint:
    """Fingerprint of a clip; clips to be compared need the same sample rate."""
    content = hashlib.sha256(np.ascontiguousarray(clip.frames).data)
    content.update(np.ascontiguousarray(clip.waveform).data)
    times = clip.start + (np.arange(KEYFRAMES) + 0.5) / KEYFRAMES * clip.duration
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames[clip.nearest_frames(times)]]
    tiny = [cv2.resize(frame, (KEYFRAME_SIZE, KEYFRAME_SIZE), interpolation=cv2.INTER_AREA) for frame in grey]
    waveform = np.pad(clip.waveform, (0, max(0, WINDOW - len(clip.waveform))))
    _, _, spectrum = stft(waveform, nperseg=WINDOW, noverlap=WINDOW - HOP)
    power = np.abs(spectrum) ** 2  # (257, N)
    log = np.log(power + FLOOR * power.max() + 1e-20).astype(np.float32)
    bands = cv2.resize(log, SPECTROGRAM_SHAPE[::-1], interpolation=cv2.INTER_AREA)
    return Fingerprint(
        content.hexdigest(), _unit(np.stack(tiny)), _unit(bands - bands.mean(axis=1, keepdims=True))
    )


def exact_duplicates(rows: Sequence[Row], prints: Sequence[Fingerprint]) -> tuple[tuple[str, ...], ...]:
    """Groups of paths whose decoded frames and samples are equal."""
    same: dict[str, list[str]] = {}
    for row, entry in zip(rows, prints, strict=True):
        same.setdefault(entry.content, []).append(str(row.path))
    return tuple(tuple(paths) for paths in same.values() if len(paths) > 1)


def near_duplicates(rows: Sequence[Row], prints: Sequence[Fingerprint]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices of clips with nearly the same video and audio that are not identical.

    A fake is often nearly identical to the recording that it was made from, as intended. So within a split,
    only clips of the same method and targets are compared; clips of two splits always are.
    """
    video, audio = np.stack([entry.video for entry in prints]), np.stack([entry.audio for entry in prints])
    contents = np.unique([entry.content for entry in prints], return_inverse=True)[1]
    splits = np.unique([row.split for row in rows], return_inverse=True)[1]
    kinds = np.unique([f"{row.method} {sorted(row.targets)}" for row in rows], return_inverse=True)[1]
    pairs = []
    for first in range(0, len(rows), BLOCK):
        block = slice(first, first + BLOCK)
        alike = video[block] @ video.T >= MIN_CORRELATION["video"]  # (block, clips)
        alike &= audio[block] @ audio.T >= MIN_CORRELATION["audio"]
        alike &= contents[block, None] != contents
        alike &= (splits[block, None] != splits) | (kinds[block, None] == kinds)
        ones, others = np.nonzero(alike)
        pairs += [(int(one) + first, int(other)) for one, other in zip(ones, others, strict=True)]
    return tuple((one, other) for one, other in pairs if one < other)


def repetitions(
    exact: Sequence[Sequence[str]], near: Sequence[tuple[int, int]], rows: Sequence[Row]
) -> list[str]:
    """Sentences on what `exact_duplicates` and `near_duplicates` found among ``rows``."""
    sentences = []
    if exact:
        pair = " and ".join(exact[0][:2])
        sentences.append(
            f"{len(exact)} clips are in the dataset more than once, such as {pair}; keep one of each"
        )
    for across, where in ((True, "two splits"), (False, "one split")):
        pairs = [pair for pair in near if (rows[pair[0]].split != rows[pair[1]].split) == across]
        if pairs:
            one, other = (rows[index].path for index in pairs[0])
            sentences.append(
                f"{len(pairs)} pairs of clips in {where} differ in their encoding only, such as "
                f"{one} and {other}; keep one of each"
            )
    return sentences


def _unit(values: np.ndarray) -> np.ndarray:
    """``values`` flattened, of mean 0 and length 1; zeros if they are constant."""
    row = values.astype(np.float32).ravel()
    row -= row.mean()
    length = float(np.linalg.norm(row))
    return row / length if length > 1e-3 else np.zeros_like(row)
