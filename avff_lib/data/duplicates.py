"""The same recording twice in a dataset: byte by byte, or encoded anew.

A fingerprint holds a few tiny pictures and a tiny spectrogram of a clip. Compression, another size, frame
rate or level hardly change them. A clip that begins or ends elsewhere has another fingerprint: cuts of one
recording are not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import stft

from avff_lib.clip import Clip
from avff_lib.data.manifest import Row

LOOKS, SIDE = 4, 12  # tiny pictures a clip, and their width and height
WINDOW, HOP = 512, 160  # samples of the spectrogram, made small afterwards
SOUND_SHAPE = (16, 32)  # bands and moments of the tiny spectrogram
FLOOR = 1e-5  # of its power, relative to the loudest: -50 dB
ALIKE = {"picture": 0.98, "sound": 0.9}  # correlation from which two clips are the same recording
BLOCK = 1024  # clips compared with all others at a time


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What one clip is recognised by.

    Attributes:
        content: hash of all decoded frames and samples.
        picture: ``(576,)`` float32, of mean 0 and length 1, so that a product is a correlation; zeros if
            nothing is to be seen.
        sound: ``(512,)`` float32, likewise; how each band rises and falls, not its level.
    """

    content: str
    picture: np.ndarray
    sound: np.ndarray


def fingerprint(clip: Clip) -> Fingerprint:
    """Recognise a clip by this; its sound has one rate in all clips that are compared."""
    content = hashlib.sha256(np.ascontiguousarray(clip.frames))
    content.update(np.ascontiguousarray(clip.waveform))
    moments = clip.start + (np.arange(LOOKS) + 0.5) / LOOKS * clip.duration
    looks = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames[clip.nearest_frames(moments)]]
    tiny = [cv2.resize(look, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for look in looks]
    sound = np.pad(clip.waveform, (0, max(0, WINDOW - len(clip.waveform))))
    _, _, spectrum = stft(sound, nperseg=WINDOW, noverlap=WINDOW - HOP)
    power = np.abs(spectrum) ** 2  # (257, N)
    log = np.log(power + FLOOR * power.max() + 1e-20).astype(np.float32)
    bands = cv2.resize(log, SOUND_SHAPE[::-1], interpolation=cv2.INTER_AREA)
    return Fingerprint(
        content.hexdigest(), _unit(np.stack(tiny)), _unit(bands - bands.mean(axis=1, keepdims=True))
    )


def exact_duplicates(rows: Sequence[Row], prints: Sequence[Fingerprint]) -> tuple[tuple[str, ...], ...]:
    """Groups of paths whose decoded frames and samples are equal."""
    same: dict[str, list[str]] = {}
    for row, look in zip(rows, prints, strict=True):
        same.setdefault(look.content, []).append(str(row.path))
    return tuple(tuple(paths) for paths in same.values() if len(paths) > 1)


def near_duplicates(rows: Sequence[Row], prints: Sequence[Fingerprint]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices of clips that look and sound the same and are not equal.

    A forgery may be all but the recording that it was made of, and is meant to be. So within a split only
    clips of one method and of the same targets are compared; clips of two splits always are.
    """
    pictures, sounds = (np.stack([getattr(look, stream) for look in prints]) for stream in ALIKE)
    contents = np.unique([look.content for look in prints], return_inverse=True)[1]
    splits = np.unique([row.split for row in rows], return_inverse=True)[1]
    kinds = np.unique([f"{row.method} {sorted(row.targets)}" for row in rows], return_inverse=True)[1]
    pairs = []
    for first in range(0, len(rows), BLOCK):
        block = slice(first, first + BLOCK)
        alike = pictures[block] @ pictures.T >= ALIKE["picture"]  # (block, clips)
        alike &= sounds[block] @ sounds.T >= ALIKE["sound"]
        alike &= contents[block, None] != contents
        alike &= (splits[block, None] != splits) | (kinds[block, None] == kinds)
        ones, others = np.nonzero(alike)
        pairs += [(int(one) + first, int(other)) for one, other in zip(ones, others, strict=True)]
    return tuple((one, other) for one, other in pairs if one < other)


def repetitions(
    exact: Sequence[Sequence[str]], near: Sequence[tuple[int, int]], rows: Sequence[Row]
) -> list[str]:
    """Sentences on what `exact_duplicates` and `near_duplicates` found among ``rows``."""
    found = []
    if exact:
        pair = " and ".join(exact[0][:2])
        found.append(f"{len(exact)} clips are there more than once, such as {pair}; keep one of each")
    for across, where in ((True, "two splits"), (False, "one split")):
        pairs = [pair for pair in near if (rows[pair[0]].split != rows[pair[1]].split) == across]
        if pairs:
            one, other = (rows[index].path for index in pairs[0])
            found.append(
                f"{len(pairs)} pairs of clips in {where} are the same but for their encoding, such as "
                f"{one} and {other}; keep one of each"
            )
    return found


def _unit(values: np.ndarray) -> np.ndarray:
    """``values`` in a row, of mean 0 and length 1."""
    row = values.astype(np.float32).ravel()
    row -= row.mean()
    length = float(np.linalg.norm(row))
    return row / length if length > 1e-3 else np.zeros_like(row)
