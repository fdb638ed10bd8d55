"""The set-up at the start of every notebook of the book, and players for clips."""

from __future__ import annotations

import os

# tqdm and the hub's libraries read these when they are imported, and torch imports tqdm, so they come first.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    TQDM_DISABLE="1",
    TRANSFORMERS_VERBOSITY="error",
)

import base64
import html
import random
import tempfile
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from IPython.display import HTML

from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.plots import NEUTRAL

INK = NEUTRAL  # a contrast of 4 or more on both a white and a dark page
FIGURE_STYLE: dict[Any, Any] = {
    "figure.dpi": 150,  # sharp on dense screens
    # A phone shows six inches on 358 pixels, where 11 points are 9 pixels high.
    "figure.figsize": (6.0, 3.0),  # inches
    "font.size": 11,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    # Transparent, for light and dark pages.
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "image.cmap": "magma",
    "image.interpolation": "nearest",
}


def setup(seed: int = 0) -> None:
    """Make a notebook give the same output on every run: seeds, one thread, no progress bars, no network.

    Also sets the style of the book's figures. Warnings are shown only where the notebook's own code
    causes them.

    Args:
        seed: of Python's, NumPy's and PyTorch's global generators.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the same order of summation on every machine
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_printoptions(precision=4, sci_mode=False)
    np.set_printoptions(precision=4, suppress=True)
    mpl.rcParams.update(FIGURE_STYLE)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module="__main__")


def show_clip(clip: Clip, caption: str = "", *, width: int = 240) -> HTML:
    """A player for one clip, embedded in the page; see `show_clips`."""
    return show_clips({caption: clip}, width=width)


def show_clips(clips: dict[str, Clip], *, width: int = 240) -> HTML:
    """Players side by side, with video and audio, that need no file beside the notebook.

    The clips are stored in the notebook as H.264 and AAC, about 60 kB for three seconds of the corpus.
    Their bytes depend on the encoder's version, so tag the cell ``nbval-ignore-output``. Captions (WebVTT)
    mark the times of the voice for readers who cannot hear it.

    Args:
        clips: by caption, which is also the label for screen readers.
        width: of each player in CSS pixels.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        players = []
        for caption, clip in clips.items():
            write_clip(clip, path)
            video = data_uri("video/mp4", path.read_bytes())
            captions = data_uri("text/vtt", voice_captions(clip).encode())
            text = html.escape(caption)
            players.append(
                f'<figure style="margin: 0; width: {width}px; max-width: 100%">'
                f'<video controls loop playsinline preload="auto" style="width: 100%" '
                f'aria-label="{text or "clip"}" src="{video}">'
                f'<track kind="captions" srclang="en" label="voice" '
                f'src="{captions}"></video>'
                f"<figcaption>{text}</figcaption></figure>"
            )
    return HTML('<div style="display: flex; flex-wrap: wrap; gap: 16px">' + "".join(players) + "</div>")


def data_uri(kind: str, data: bytes) -> str:
    """The bytes of a file as an address within the page; ``kind`` is the media type, as ``video/mp4``."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def voice_captions(clip: Clip, step: float = 0.1, floor: float = 0.1) -> str:
    """Captions (WebVTT) for readers who cannot hear: a cue for each stretch with an audible voice.

    Args:
        clip: the clip with its sound.
        step: length of the pieces whose loudness is measured, in seconds.
        floor: share of the loudest piece's level, above which a piece counts as audible.
    """
    size = round(step * clip.sample_rate)
    count = len(clip.waveform) // size
    levels = np.sqrt(np.square(clip.waveform[: count * size]).reshape(count, size).mean(axis=1))  # (N,)
    heard = np.zeros(count + 2, dtype=int)
    if count and levels.max() > 0:
        heard[1:-1] = levels > floor * levels.max()
    edges = step * np.flatnonzero(np.diff(heard)).reshape(-1, 2)  # (cues, 2) in seconds
    cues = [f"00:{begin // 60:02.0f}:{begin % 60:06.3f} --> 00:{end // 60:02.0f}:{end % 60:06.3f}\n[voice]"
            for begin, end in edges]  # fmt: skip
    return "\n\n".join(["WEBVTT", *cues])
