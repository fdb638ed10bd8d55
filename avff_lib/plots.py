"""The book's figures: functions that draw on an Axes and return it.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell
apart; colour is never the only cue. Matplotlib is imported when a figure is drawn, since other modules import
this one for its constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

REAL = "#0072B2"
FAKE = "#D55E00"
NEUTRAL = "#767676"  # legible on white and on a dark page


def show_frames(
    frames: np.ndarray, labels: Sequence[str] | None = None, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Frames side by side, in order.

    Args:
        frames: ``(T, H, W, 3)`` uint8, or floats in [0, 1].
        labels: one per frame, written below it, such as its time.
        title: title of the strip.
        ax: to draw on; a new figure by default.
    """
    count, _, width, _ = frames.shape
    gap = max(1, width // 24)
    opaque = 255 if frames.dtype == np.uint8 else 1
    with_alpha = np.pad(frames, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=opaque)
    padded = np.pad(with_alpha, ((0, 0), (0, 0), (0, gap), (0, 0)))  # transparent gaps
    strip = np.concatenate(list(padded), axis=1)[:, :-gap]  # (H, T * (W + gap) - gap, 4)
    ax = ax or _new_axes((6.0, 6.0 * strip.shape[0] / strip.shape[1] + 0.5))
    ax.imshow(strip, interpolation="antialiased")  # strips are wide and displayed small
    ax.set_xticks(np.arange(count) * (width + gap) + (width - 1) / 2, labels or [""] * count)
    ax.set_yticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax


def plot_waveform(
    waveform: Tensor | np.ndarray,
    sample_rate: int = 16_000,
    *,
    start: float = 0.0,
    color: str = REAL,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A waveform ``(S,)`` over time in seconds, sample 0 at ``start``."""
    samples = np.asarray(waveform)
    ax = ax or _new_axes()
    ax.plot(start + np.arange(len(samples)) / sample_rate, samples, color=color, linewidth=0.6)
    ax.set(xlabel="time (s)", ylabel="amplitude", title=title)
    ax.margins(x=0)
    return ax


def plot_mel_spectrogram(
    log_mel: Tensor | np.ndarray,
    sample_rate: int = 16_000,
    hop_length: int = 512,
    *,
    start: float = 0.0,
    decibels: tuple[float, float] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A log-mel spectrogram: time in seconds across, frequency in Hz upwards, dB as colour.

    Args:
        log_mel: ``(n_mels, N)`` in dB, as `avff_lib.preprocess.log_mel` returns it, HTK mel scale.
        sample_rate: of the waveform, in Hz.
        hop_length: samples from one column to the next.
        start: time of column 0, in seconds.
        decibels: ends of the colour scale; by default the loudest point and 80 dB below it.
        title: of the figure.
        ax: to draw on; a new figure by default.
    """
    image = np.asarray(log_mel)
    bands, columns = image.shape
    hop = hop_length / sample_rate
    low, high = decibels or (image.max() - 80, image.max())
    ax = ax or _new_axes()
    mappable = ax.imshow(
        image,
        origin="lower",
        aspect="auto",
        vmin=low,
        vmax=high,
        # Columns are centred on their times, rows on their indices.
        extent=(start - hop / 2, start + (columns - 0.5) * hop, -0.5, bands - 0.5),
    )
    ax.set_xlim(start, start + (columns - 1) * hop)
    marks = np.array([250, 500, 1000, 2000, 4000, 8000, 16_000])
    rows = hz_to_mel(marks) / hz_to_mel(sample_rate / 2) * (bands + 1) - 1  # filter k peaks at step k + 1
    inside = rows <= bands - 0.5
    ax.set_yticks(rows[inside], [f"{hz:g}" for hz in marks[inside]])
    ax.set(xlabel="time (s)", ylabel="frequency (Hz, mel scale)", title=title)
    ax.figure.colorbar(mappable, ax=ax, label="power (dB)", pad=0.01)
    return ax


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray | float:
    """Frequency in Hz -> mel, HTK formula (O'Shaughnessy, 1987)."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def plot_robustness(
    aucs: Sequence[float],
    bands: Sequence[tuple[float, float]],
    values: Sequence[float],
    *,
    unit: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """AUC of a detector over the levels of one perturbation, next to that of untouched clips.

    Args:
        aucs: ``L + 1`` values, the first for untouched clips.
        bands: ends of the interval of each.
        values: ``L`` values of the perturbation, written below the levels.
        unit: of ``values``.
        title: of the figure.
        ax: to draw on; a new figure by default.
    """
    ax = ax or _new_axes()
    levels, (low, high) = np.arange(len(aucs)), np.transpose(bands)
    ax.fill_between(levels, low, high, color=REAL, alpha=0.2, linewidth=0, label="95 % interval")
    ax.plot(levels, aucs, "o-", color=REAL, markersize=4, label="AUC")
    ax.axhline(aucs[0], color=NEUTRAL, linestyle="--", linewidth=1, label="untouched")
    ax.axhline(0.5, color=NEUTRAL, linestyle=":", linewidth=1, label="chance")
    ax.set_xticks(levels, ["–", *(f"{value:g}" for value in values)])
    ax.set(xlabel=unit, ylabel="AUC", ylim=(0, 1.02), title=title)
    return ax


def plot_robustness_grid(summary: dict, *, columns: int = 4, figure: Figure | None = None) -> Figure:
    """One small panel for each perturbation.

    Args:
        summary: from `avff_lib.evaluation.robustness.summarize_scores`.
        columns: number of panels side by side.
        figure: to draw on; a new one by default.
    """
    entries = summary["perturbations"]
    columns = min(columns, len(entries))
    rows = -(-len(entries) // columns)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure()
    figure.set_size_inches(3 * columns, 2.4 * rows + 0.5)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax in panels[len(entries) :]:
        ax.remove()
    for index, (name, entry) in enumerate(entries.items()):
        cells = [summary["untouched"], *entry["levels"]]
        ax = plot_robustness(
            [cell["auc"] for cell in cells],
            [(cell["low"], cell["high"]) for cell in cells],
            [cell["value"] for cell in entry["levels"]],
            unit=entry["unit"],
            title=name.replace("_", " "),
            ax=panels[index],
        )
        if index % columns:
            ax.set_ylabel("")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if columns == 1 else 4)
    return figure


def plot_timeline(
    windows: Sequence[tuple[float, float]],
    scores: Sequence[float | None],
    threshold: float,
    fake_segments: Iterable[tuple[float, float]] = (),
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Scores of a file's windows over time, the threshold, and the parts known to be fake.

    Args:
        windows: (start, end) of each window in seconds.
        scores: probability of fake of each, ``None`` if it was not scored.
        threshold: score at and above which a window is predicted fake.
        fake_segments: (start, end) of the fake parts in seconds, if known.
        title: of the figure.
        ax: to draw on; a new figure by default.
    """
    ax = ax or _new_axes()
    for begin, end in fake_segments:
        ax.axvspan(begin, end, color=FAKE, alpha=0.12, hatch="//", linewidth=0, label="fake part")
    for (begin, end), score in zip(windows, scores, strict=True):
        if score is None:
            ax.plot([begin, end], [0, 0], color=NEUTRAL, linestyle=":", label="not scored")
            continue
        kind, color, mark = ("fake", FAKE, "s") if score >= threshold else ("real", REAL, "o")
        ax.plot([begin, end], [score, score], color=color, linewidth=2, solid_capstyle="round")
        ax.plot(
            (begin + end) / 2, score, mark, color=color, linestyle="none", label=f"window predicted {kind}"
        )
    ax.axhline(threshold, color=NEUTRAL, linestyle="--", linewidth=1, label=f"threshold {threshold:.2f}")
    ax.set(xlabel="time (s)", ylabel="probability of fake", ylim=(-0.05, 1.05), title=title)
    legend_below(ax)
    return ax


def legend_below(ax: Axes) -> None:
    """A legend in two columns, one entry for each name, below the label of the x axis.

    The plot keeps its width. The figure needs the constrained layout, which leaves room below.
    """
    handles, names = ax.get_legend_handles_labels()
    entries = dict(zip(names, handles, strict=True))
    ax.legend(
        list(entries.values()),
        list(entries),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=3.3,  # in font sizes: room for the ticks and the label
        ncols=2,
    )


def _new_axes(size: tuple[float, float] | None = None) -> Axes:
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="constrained").add_subplot()
