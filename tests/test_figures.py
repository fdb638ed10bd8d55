"""The figures of an evaluation show the numbers that they are drawn from."""

import matplotlib
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from avff_lib.evaluation import figures
from avff_lib.evaluation.calibration import Reliability
from avff_lib.plots import legend_below

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    return labels, np.round(norm.cdf(rng.normal(1.5 * (labels - 0.5))), 2)  # with ties


def curve(ax) -> np.ndarray:
    """Points ``(N, 2)`` of the detector's line."""
    (line,) = [line for line in ax.lines if line.get_label().startswith("detector")]
    return line.get_xydata()


def test_the_area_under_the_drawn_roc_is_the_auc(data):
    ax = figures.plot_roc(*data, threshold=0.5)
    points = curve(ax)
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(roc_auc_score(*data))
    (ring,) = [line for line in ax.lines if line.get_label() == "threshold 0.50"]
    labels, scores = data
    assert ring.get_xydata()[0] == pytest.approx(
        [(scores[labels == 0] >= 0.5).mean(), (scores[labels == 1] >= 0.5).mean()]
    )


def test_the_area_under_the_drawn_steps_is_the_average_precision(data):
    points = curve(figures.plot_precision_recall(*data))
    area = -(np.diff(points[:, 0]) * points[:-1, 1]).sum()
    assert area == pytest.approx(average_precision_score(*data))


def test_two_gaussians_are_a_straight_line_in_a_det_plot():
    quantiles = norm.ppf((np.arange(5000) + 0.5) / 5000)
    labels, scores = np.repeat([0, 1], 5000), norm.cdf(np.concatenate([quantiles, quantiles + 1.5]))
    points = curve(figures.plot_det(labels, scores))
    inside = (np.abs(points) < 1.6).all(axis=1)
    assert inside.sum() > 100
    assert points[inside].sum(axis=1) == pytest.approx(-1.5, abs=0.02)


def test_histograms_hold_all_clips_of_a_class(data):
    ax = figures.plot_histograms(*data, 0.5, unsure=(0.4, 0.6))
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    labels = data[0]
    assert {f"{(labels == 0).sum()} real clips", "unsure, 0.40–0.60", "threshold 0.50"} <= set(names)
    heights = [patch.get_xy()[:, 1] for patch in ax.patches if len(patch.get_xy()) > 10]
    assert [height[1::2][:20].sum() for height in heights] == pytest.approx([1, 1])


def test_the_confusion_matrix_counts_every_clip_once(data):
    ax = figures.plot_confusion(*data, 0.5)
    assert sum(int(text.get_text().split()[0]) for text in ax.texts) == 200


def test_the_reliability_diagram_is_the_diagonal_where_scores_come_true():
    scores = np.repeat(np.linspace(0.05, 0.95, 10), 100)
    labels = (np.tile(np.arange(100), 10) < np.round(scores * 100)).astype(int)
    ax = figures.plot_reliability(labels, scores)
    points = np.asarray(ax.collections[0].get_offsets())
    assert points[:, 1] == pytest.approx(points[:, 0])
    reliability = Reliability.of(labels, scores)
    assert reliability.clips.tolist() == [100] * 10
    sizes = ax.collections[0].get_sizes() - 10  # beyond that of an empty bin
    assert sizes / sizes.sum() == pytest.approx(reliability.weight)


def test_figures_draw_on_the_axes_they_are_given(data):
    _, ax = plt.subplots()
    for draw in (figures.plot_roc, figures.plot_precision_recall, figures.plot_det, figures.plot_reliability):
        assert draw(*data, ax=ax) is ax
    assert figures.plot_confusion(*data, 0.5, ax=ax) is ax
    assert figures.plot_histograms(*data, 0.5, ax=ax) is ax


def test_a_legend_below_names_each_entry_once_and_overlaps_no_label(data):
    ax = figures.plot_histograms(*data, 0.5, unsure=(0.4, 0.6))
    ax.plot([], [], label="threshold 0.50")
    legend_below(ax)
    ax.figure.draw_without_rendering()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(names) == len(set(names)) == 4
    legend = ax.get_legend().get_window_extent()
    assert legend.y1 < ax.xaxis.label.get_window_extent().y0
    assert ax.figure.bbox.y0 <= legend.y0
