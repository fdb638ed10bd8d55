"""The set-up that every notebook of the book starts with, and players for clips."""

from __future__ import annotations

import os

# tqdm and the hub's libraries read these when they are imported, and torch imports tqdm: hence first.
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

FIGURE_STYLE: dict[Any, Any] = {
    "figure.dpi": 150,  # about twice the width of a page's column: sharp on dense screens
    "figure.figsize": (7.0, 3.0),  # inches
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 10,
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
    torch.set_num_threads(1)  # one order of summation, whatever the machine
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
    Their bytes depend on the encoder's version, so tag the cell ``nbval-ignore-output``.

    Args:
        clips: by caption, which is also the label for screen readers.
        width: of each player in CSS pixels.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        players = []
        for caption, clip in clips.items():
            write_clip(clip, path)
            video = base64.b64encode(path.read_bytes()).decode("ascii")
            text = html.escape(caption)
            players.append(
                f'<figure style="margin: 0; width: {width}px; max-width: 100%">'
                f'<video controls loop playsinline preload="auto" style="width: 100%" '
                f'aria-label="{text or "clip"}" src="data:video/mp4;base64,{video}"></video>'
                f"<figcaption>{text}</figcaption></figure>"
            )
    return HTML('<div style="display: flex; flex-wrap: wrap; gap: 16px">' + "".join(players) + "</div>")
