"""Can the fakes of a dataset be found without looking for a forgery?

A detector learns whatever separates the classes. Where the fakes begin with a short silence, as in some
well-known datasets (arXiv 2412.00175), it learns to hear that. The audit lets simple probes
(`avff_lib.data.probes`) try, and says where one succeeds that should not. It also looks for identities in
two splits, for duplicates, for lopsided classes, and for files that cannot be read.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from rich.table import Table
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tqdm import tqdm

from avff_lib.clip import AVFFError, MediaError
from avff_lib.data.duplicates import exact_duplicates, near_duplicates, repetitions
from avff_lib.data.manifest import CATEGORIES, Row
from avff_lib.data.probes import PROBES, Measured, measure
from avff_lib.data.splits import identity_leaks, imbalances, shared_identities, split_names

FAKES = "all fakes"
FOLDS = 5
LEAST_CLIPS = 15  # of each class, below which no AUC is estimated
LEAST_IN_COMMON = 5  # clips that share a codec or a writer, below which it tells nothing of a class
LEAST_IDENTITIES = 6  # sources of each class
RESAMPLES = 1000  # of the identities, for the interval
WIDENING = (1 + FOLDS / (FOLDS - 1)) ** 0.5  # of the interval, as folds share most of their training clips
CONFIDENCE = 0.99  # of the interval: with some twenty cells a 95 % interval would cry wolf
NOTABLE = 0.55  # an AUC below this is no shortcut worth a name, however many clips show it
# What may betray a category by its definition: the stream that is forged, and nothing else.
MAY_EXCEED = {
    "RVFA": {"audio"},
    "FVRA": {"frame", "video"},
    "FVFA": {"audio", "frame", "video"},
    FAKES: {"audio", "frame", "video"},
}


@dataclass(frozen=True)
class Cell:
    """One probe on one category against the genuine clips.

    Attributes:
        probe, category: what looked, and for what.
        expected: whether the definition of the category allows the probe to succeed.
        verdict: what came out.
        auc: area under the ROC curve, cross-validated by source identity; ``None`` without enough clips.
        low, high: ends of its 99 % interval, by bootstrap over source identities. Values below 0.5 are
            chance, too: cross-validation of a useless probe on few identities tends below it.
        clips, identities: fakes in the comparison, and their sources.
        clue: for a leak, the single feature that separates best, in words.
    """

    probe: str
    category: str
    expected: Literal["chance", "may exceed"]
    verdict: Literal["at chance", "above chance", "leaks", "not enough clips"]
    auc: float | None = None
    low: float | None = None
    high: float | None = None
    clips: int = 0
    identities: int = 0
    clue: str = ""


@dataclass(frozen=True)
class AuditReport:
    """What the audit found.

    Attributes:
        cells: one for each probe and category.
        counts: clips of each split and category.
        unreadable: a sentence for each file that could not be read.
        duplicates: groups of paths whose decoded frames and samples are equal.
        near_duplicates: pairs of paths that look and sound the same and should not; see
            `avff_lib.data.duplicates`.
        shared_identities: for each pair of splits the identities, source or target, that are in both.
        findings: everything above that needs attention, in sentences; empty for a clean dataset.
    """

    cells: tuple[Cell, ...]
    counts: dict[str, dict[str, int]]
    unreadable: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    near_duplicates: tuple[tuple[str, str], ...]
    shared_identities: dict[str, tuple[str, ...]]
    findings: tuple[str, ...]

    def cell(self, probe: str, category: str) -> Cell:
        """The cell of one probe and one category."""
        return next(c for c in self.cells if (c.probe, c.category) == (probe, category))

    def to_json(self) -> dict:
        """The report as plain lists, dicts, strings, and numbers."""
        return asdict(self)

    def table(self) -> Table:
        """The cells as a table: AUC and interval, marked where the definition allows no success."""
        categories = list(dict.fromkeys(cell.category for cell in self.cells))
        table = Table("probe", *categories, title="AUC of simple probes against genuine clips")
        style = {
            "leaks": "bold red",
            "above chance": "yellow",
            "at chance": "green",
            "not enough clips": "dim",
        }
        for name in PROBES:
            entries = []
            for category in categories:
                cell = self.cell(name, category)
                text = cell.verdict
                if cell.auc is not None:
                    text = f"{cell.auc:.2f} ({cell.low:.2f}–{cell.high:.2f}) {cell.verdict}"
                entries.append(f"[{style[cell.verdict]}]{text}[/]")
            table.add_row(name, *entries)
        return table


def audit(rows: list[Row], *, seed: int = 0, workers: int | None = None) -> AuditReport:
    """Audit a dataset, whatever its origin.

    Each clip is decoded once. For each probe and each category of fakes, a logistic regression is
    trained and tested on separate source identities, and its AUC is compared with chance. Where there
    is nothing to find, one or two cells in a hundred will be called leaks all the same.

    Args:
        rows: of the dataset's manifest.
        seed: of the folds, the trees, and the bootstrap.
        workers: threads that decode; as many as there are processors by default.

    Raises:
        AVFFError: there are no rows, or no clip can be read.
    """
    if not rows:
        raise AVFFError("the audit got no clips; give it the rows of a manifest")
    measured, unreadable = _measure_all(rows, workers or os.cpu_count() or 1)
    kept = [row for row in rows if str(row.path) in measured]
    if not kept:
        raise AVFFError(f"none of the {len(rows)} clips can be read; the first says: {unreadable[0]}")
    looks = [measured[str(row.path)] for row in kept]
    features = _feature_tables(looks)

    kinds = [
        category for category in CATEGORIES[1:] if any(row.label and row.category == category for row in kept)
    ]
    groups = {kind: [row.label == 1 and row.category == kind for row in kept] for kind in kinds}
    if len(kinds) != 1:
        groups = {FAKES: [row.label == 1 for row in kept], **groups}
    genuine = np.array([row.label == 0 for row in kept])
    sources = np.array([row.source for row in kept])
    cells = []
    for category, chosen in groups.items():
        fake = np.array(chosen)
        inside = fake | genuine
        for name in PROBES:
            names, table = features[name]
            cells.append(_judge(name, category, names, table[inside], fake[inside], sources[inside], seed))

    counts = {
        split: dict(Counter(row.category for row in rows if row.split == split))
        for split in split_names(rows)
    }
    prints = [look.fingerprint for look in looks]
    exact, near = exact_duplicates(kept, prints), near_duplicates(kept, prints)
    findings = (
        *_shortcuts(cells),
        *identity_leaks(rows),
        *repetitions(exact, near, kept),
        *_mistakes(unreadable, rows),
        *imbalances(rows),
    )
    pairs = tuple((str(kept[one].path), str(kept[other].path)) for one, other in near)
    return AuditReport(tuple(cells), counts, unreadable, exact, pairs, shared_identities(rows), findings)


def _measure_all(rows: list[Row], workers: int) -> tuple[dict[str, Measured], tuple[str, ...]]:
    """Measure each file once; a file that cannot be read gives a sentence instead."""
    paths = list(dict.fromkeys(row.path for row in rows))

    def attempt(path) -> Measured | str:
        try:
            return measure(path)
        except MediaError as error:
            return str(error)

    with ThreadPoolExecutor(workers) as pool:
        results = list(tqdm(pool.map(attempt, paths), "audit", len(paths), unit="clip", disable=None))
    pairs = list(zip(paths, results, strict=True))
    measured = {str(path): result for path, result in pairs if isinstance(result, Measured)}
    return measured, tuple(result for _, result in pairs if isinstance(result, str))


def _feature_tables(looks: list[Measured]) -> dict[str, tuple[list[str], np.ndarray]]:
    """For each probe the names of its features, and their values ``(clips, features)``."""
    tables = {}
    for name in PROBES:
        names = list(looks[0].features[name])
        table = np.array([[look.features[name][feature] for feature in names] for look in looks])
        if name == "metadata":
            for what, values in (
                ("written by", [look.writer or "a program without a name" for look in looks]),
                ("codecs are", [look.codecs for look in looks]),
            ):
                common = sorted(value for value, count in Counter(values).items() if count >= LEAST_IN_COMMON)
                # First of all, as a codec says more than the file size that comes of it.
                names = [f"{what} {value}" for value in common] + names
                table = np.hstack((np.array(values)[:, None] == np.array(common, dtype=str), table))
        tables[name] = names, table
    return tables


def _judge(
    name: str,
    category: str,
    names: list[str],
    table: np.ndarray,
    fake: np.ndarray,
    sources: np.ndarray,
    seed: int,
) -> Cell:
    """Train and test one probe on one category; the arrays hold its fakes and all genuine clips."""
    expected = "may exceed" if name in MAY_EXCEED[category] else "chance"
    clips, identities = int(fake.sum()), len(set(sources[fake]))
    few = min(clips, int((~fake).sum())) < LEAST_CLIPS
    if few or min(identities, len(set(sources[~fake]))) < LEAST_IDENTITIES:
        return Cell(name, category, expected, "not enough clips", clips=clips, identities=identities)
    scores = _cross_validated(table, fake, sources, seed)
    auc, low, high = _auc_and_interval(scores, fake, sources, seed)
    verdict, clue = "at chance", ""
    if low > 0.5 and auc >= NOTABLE:
        verdict = "above chance" if expected == "may exceed" else "leaks"
        clue = _clue(names, table, fake) if verdict == "leaks" else ""
    return Cell(name, category, expected, verdict, auc, low, high, clips, identities, clue)


def _cross_validated(table: np.ndarray, fake: np.ndarray, sources: np.ndarray, seed: int) -> np.ndarray:
    """Scores ``(clips,)`` of clips whose source the probe's classifier did not see, higher is more fake.

    Within each fold the scores are ranks in [0, 1], as those of different classifiers do not compare.
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
        scores[test] = _ranks(classifier.decision_function(table[test]))
    return scores


def _with_squares(table: np.ndarray) -> np.ndarray:
    """Standardised features and their squares, so that "too far in the middle" is seen as well."""
    table = np.clip(table, -3, 3)  # one odd clip must not rule
    return np.hstack((table, table**2))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Share of the other values that are smaller, ties counted half."""
    return (rankdata(values) - 1) / max(len(values) - 1, 1)


def _auc_and_interval(
    scores: np.ndarray, fake: np.ndarray, sources: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """AUC, and the ends of its interval by resampling identities with all their clips.

    The resampling does not know that all folds learned from much the same clips. Nadeau and Bengio
    (2003, https://doi.org/10.1023/A:1024068626366) correct the variance for that by a factor of
    1 + folds x test clips / training clips.
    """
    people, member = np.unique(sources, return_inverse=True)
    wins = _pairs_by_person(scores, fake, member, len(people))
    pairs = np.outer(
        np.bincount(member[fake], minlength=len(people)), np.bincount(member[~fake], minlength=len(people))
    )
    draws = np.random.default_rng(seed).multinomial(
        len(people), np.full(len(people), 1 / len(people)), size=RESAMPLES
    )
    weighed = lambda table: np.einsum("bi,ij,bj->b", draws, table, draws, optimize=True)  # noqa: E731
    resampled = weighed(wins) / np.maximum(weighed(pairs), 1)
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    auc = wins.sum() / pairs.sum()
    low, high = np.clip(auc + WIDENING * (np.array((low, high)) - auc), 0, 1)
    return float(auc), float(low), float(high)


def _pairs_by_person(scores: np.ndarray, fake: np.ndarray, member: np.ndarray, people: int) -> np.ndarray:
    """``(people, people)``: pairs of a fake of one and a genuine clip of the other, won by the fake."""
    ahead = scores[fake][:, None] - scores[~fake]
    won = (ahead > 0) + 0.5 * (ahead == 0)  # (fakes, genuine)
    rows = np.zeros((people, won.shape[1]))
    np.add.at(rows, member[fake], won)
    table = np.zeros((people, people))
    np.add.at(table.T, member[~fake], rows.T)
    return table


def _clue(names: list[str], table: np.ndarray, fake: np.ndarray) -> str:
    """The single feature that separates best, with its medians."""
    rank = np.stack([_ranks(column) for column in table.T], 1)
    gap = rank[fake].mean(0) - rank[~fake].mean(0)
    best = int(np.argmax(np.abs(gap)))
    of_fakes, of_genuine = np.median(table[fake, best]), np.median(table[~fake, best])
    return f"{names[best]}: median {of_fakes:.5g} in the fakes, {of_genuine:.5g} in genuine clips"


def _shortcuts(cells: list[Cell]) -> list[str]:
    """A sentence for each leak."""
    return [
        f"{cell.probe} tells {cell.category} from genuine clips with an AUC of {cell.auc:.2f} "
        f"({cell.low:.2f}–{cell.high:.2f}), which it should not; {cell.clue}"
        for cell in cells
        if cell.verdict == "leaks"
    ]


def _mistakes(unreadable: tuple[str, ...], rows: list[Row]) -> list[str]:
    """Sentences on files that cannot be read and rows that contradict themselves."""
    found = []
    if unreadable:
        found.append(f"{len(unreadable)} files cannot be read; the first: {unreadable[0]}")
    odd = [row for row in rows if (row.label == 1) != (row.category != CATEGORIES[0])]
    if odd:
        found.append(
            f"{len(odd)} clips have labels that contradict their category, such as {odd[0].path}: label "
            f"{odd[0].label} and category {odd[0].category}; correct the manifest"
        )
    return found
