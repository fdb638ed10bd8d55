"""How well a table of features separates fakes from real clips: a cross-validated AUC with its interval.

scikit-learn trains and splits. Ours are the ranks within each fold, which ``cross_val_predict`` does not
compute, and the bootstrap over identities.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

FOLDS = 5
RESAMPLES = 1000  # of the identities, for the interval
CV_WIDENING = (1 + FOLDS / (FOLDS - 1)) ** 0.5  # of the interval, as folds share most of their training clips
CONFIDENCE = 0.99  # of the interval: with some twenty cells, 95 % intervals would often find leaks by chance


def cross_validated_scores(table: np.ndarray, fake: np.ndarray, sources: np.ndarray, seed: int) -> np.ndarray:
    """Scores ``(clips,)`` by a logistic regression trained on other sources; higher is more fake.

    Within each fold the scores are ranks in [0, 1], since those of different classifiers are not comparable.

    Args:
        table: ``(clips, features)``.
        fake: ``(clips,)``, boolean.
        sources: ``(clips,)``, identities.
        seed: of the folds.
    """
    scores = np.empty(len(fake))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(table, fake, sources):
        classifier = make_pipeline(
            StandardScaler(),
            FunctionTransformer(_with_squares),
            StandardScaler(),
            LogisticRegression(C=0.1, class_weight="balanced", max_iter=500),
        )
        classifier.fit(table[train], fake[train])
        scores[test] = ranks(classifier.decision_function(table[test]))
    return scores


def auc_with_interval(
    scores: np.ndarray, fake: np.ndarray, sources: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """AUC, and the ends of its interval, by resampling identities with all their clips.

    The resampling does not account for the overlap of the folds' training clips. Nadeau and Bengio
    (2003, https://doi.org/10.1023/A:1024068626366) correct the variance for that by a factor of
    1 + folds x test clips / training clips.
    """
    identities, member = np.unique(sources, return_inverse=True)
    count = len(identities)
    wins = _wins_by_identity(scores, fake, member, count)
    pairs = np.outer(np.bincount(member[fake], minlength=count), np.bincount(member[~fake], minlength=count))
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)

    def totals(table: np.ndarray) -> np.ndarray:
        return np.einsum("bi,ij,bj->b", draws, table, draws, optimize=True)

    resampled = totals(wins) / np.maximum(totals(pairs), 1)
    ends = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    auc = float(wins.sum() / pairs.sum())
    low, high = np.clip(auc + CV_WIDENING * (ends - auc), 0, 1)
    return auc, float(low), float(high)


def best_feature(names: list[str], table: np.ndarray, fake: np.ndarray) -> str:
    """The single feature that separates best, with its medians, phrased as part of a sentence."""
    feature_ranks = np.stack([ranks(column) for column in table.T], 1)
    difference = feature_ranks[fake].mean(0) - feature_ranks[~fake].mean(0)
    best = int(np.argmax(np.abs(difference)))
    fake_median, real_median = np.median(table[fake, best]), np.median(table[~fake, best])
    return f"{names[best]}: median {fake_median:.5g} in the fakes, {real_median:.5g} in real clips"


def ranks(values: np.ndarray) -> np.ndarray:
    """Share of the other values that are smaller, ties counted half."""
    return (rankdata(values) - 1) / max(len(values) - 1, 1)


def _with_squares(table: np.ndarray) -> np.ndarray:
    """Standardised features and their squares, so that values "too far in the middle" separate as well."""
    table = np.clip(table, -3, 3)  # outliers must not dominate
    return np.hstack((table, table**2))


def _wins_by_identity(scores: np.ndarray, fake: np.ndarray, member: np.ndarray, count: int) -> np.ndarray:
    """``(count, count)``: pairs of a fake of one identity and a real clip of the other, won by the fake."""
    ahead = scores[fake][:, None] - scores[~fake]
    won = (ahead > 0) + 0.5 * (ahead == 0)  # (fakes, real clips)
    rows = np.zeros((count, won.shape[1]))
    np.add.at(rows, member[fake], won)
    table = np.zeros((count, count))
    np.add.at(table.T, member[~fake], rows.T)
    return table
