"""Audit of a dataset: can its fakes be found without detecting a forgery?

A detector learns anything that separates the classes. If the fakes begin with a short silence, as in some
well-known datasets (arXiv 2412.00175), it learns to detect that. The audit trains simple probes
(`avff_lib.data.probes`) and reports those that succeed and should not. It also finds identities in two
splits, duplicates, imbalanced classes, and files that cannot be read.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table
from tqdm import tqdm

from avff_lib.data.duplicates import exact_duplicates, near_duplicates, repetitions
from avff_lib.data.manifest import CATEGORIES, Row
from avff_lib.data.probe_auc import auc_with_interval, best_feature, cross_validated_scores
from avff_lib.data.probes import PROBES, Measurements, measure
from avff_lib.data.splits import identity_leaks, imbalances, shared_identities, split_names
from avff_lib.errors import AVFFError, MediaError

FAKES = "all fakes"
MIN_CLIPS = 15  # of each class, to estimate an AUC
MIN_SHARED_TAG = 5  # clips with the same codec or writer, for it to become a feature
MIN_IDENTITIES = 6  # sources of each class, to estimate an AUC
MIN_REPORTED_AUC = 0.55  # a lower AUC is not worth reporting, even if many clips show it
# Probes that may succeed by the definition of a category: only those of the fake stream.
ALLOWED_PROBES = {
    "RVFA": {"audio"},
    "FVRA": {"frame", "video"},
    "FVFA": {"audio", "frame", "video"},
    FAKES: {"audio", "frame", "video"},
}

Expected = Literal["chance", "may exceed"]
Verdict = Literal["at chance", "above chance", "leaks", "not enough clips"]


@dataclass(frozen=True)
class Cell:
    """Result of one probe on one category against the real clips.

    Attributes:
        probe, category: their names.
        expected: whether the definition of the category allows the probe to succeed.
        verdict: the result in words.
        auc: area under the ROC curve, cross-validated by source identity; ``None`` without enough clips.
        low, high: ends of its 99 % interval, by bootstrap over source identities. Values below 0.5 are also
            chance: cross-validation of a useless probe on few identities is biased downwards.
        clips, identities: fakes in the comparison, and their sources.
        clue: for a leak, the single feature that separates best, with its medians.
    """

    probe: str
    category: str
    expected: Expected
    verdict: Verdict
    auc: float | None = None
    low: float | None = None
    high: float | None = None
    clips: int = 0
    identities: int = 0
    clue: str = ""


@dataclass(frozen=True)
class AuditReport:
    """Results of an audit.

    Attributes:
        cells: one for each probe and category.
        counts: clips of each split and category.
        unreadable: a sentence for each file that could not be read.
        duplicates: groups of paths whose decoded frames and samples are equal.
        near_duplicates: pairs of paths with the same content in different encodings; see
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

    def to_json(self) -> dict[str, Any]:
        """The report as plain lists, dicts, strings, and numbers."""
        return asdict(self)

    def table(self) -> Table:
        """The cells as a table of AUCs and intervals; leaks are marked."""
        categories = list(dict.fromkeys(cell.category for cell in self.cells))
        table = Table("probe", *categories, title="AUC of simple probes against real clips")
        style: dict[Verdict, str] = {
            "leaks": "bold red",
            "above chance": "yellow",
            "at chance": "green",
            "not enough clips": "dim",
        }
        for name in PROBES:
            entries = []
            for category in categories:
                cell = self.cell(name, category)
                text: str = cell.verdict
                if cell.auc is not None:
                    text = f"{cell.auc:.2f} ({cell.low:.2f}–{cell.high:.2f}) {cell.verdict}"
                entries.append(f"[{style[cell.verdict]}]{text}[/]")
            table.add_row(name, *entries)
        return table


def audit(rows: list[Row], *, seed: int = 0, workers: int | None = None) -> AuditReport:
    """Audit a dataset of any origin.

    Each clip is decoded once. For each probe and each category of fakes, a logistic regression is
    trained and tested on separate source identities, and its AUC is compared with chance. Even in a dataset
    without shortcuts, one or two cells in a hundred are reported as leaks.

    Args:
        rows: those of the dataset's manifest.
        seed: of the folds and the bootstrap.
        workers: decoding threads; by default one per processor.

    Raises:
        AVFFError: there are no rows, or no clip can be read.
    """
    if not rows:
        raise AVFFError("there are no clips to audit; give the rows of a manifest")
    measured, unreadable = _measure_all(rows, workers or os.cpu_count() or 1)
    kept = [row for row in rows if str(row.path) in measured]
    if not kept:
        raise AVFFError(f"none of the {len(rows)} clips can be read; the first one: {unreadable[0]}")
    measurements = [measured[str(row.path)] for row in kept]
    features = _feature_tables(measurements)

    kinds = [
        category for category in CATEGORIES[1:] if any(row.label and row.category == category for row in kept)
    ]
    groups = {kind: [row.label == 1 and row.category == kind for row in kept] for kind in kinds}
    if len(kinds) != 1:
        groups = {FAKES: [row.label == 1 for row in kept], **groups}
    real = np.array([row.label == 0 for row in kept])
    sources = np.array([row.source for row in kept])
    cells = []
    for category, chosen in groups.items():
        fake = np.array(chosen)
        inside = fake | real
        for name in PROBES:
            names, table = features[name]
            cells.append(
                _evaluate_probe(name, category, names, table[inside], fake[inside], sources[inside], seed)
            )

    counts = {
        split: dict(Counter(row.category for row in rows if row.split == split))
        for split in split_names(rows)
    }
    prints = [entry.fingerprint for entry in measurements]
    exact, near = exact_duplicates(kept, prints), near_duplicates(kept, prints)
    findings = (
        *_shortcuts(cells),
        *identity_leaks(rows),
        *repetitions(exact, near, kept),
        *_manifest_errors(unreadable, rows),
        *imbalances(rows),
    )
    pairs = tuple((str(kept[one].path), str(kept[other].path)) for one, other in near)
    return AuditReport(tuple(cells), counts, unreadable, exact, pairs, shared_identities(rows), findings)


def _measure_all(rows: list[Row], workers: int) -> tuple[dict[str, Measurements], tuple[str, ...]]:
    """Measure each file once: the measurements by path, and a sentence for each file that cannot be read."""
    paths = list(dict.fromkeys(row.path for row in rows))

    def attempt(path: Path) -> Measurements | str:
        try:
            return measure(path)
        except MediaError as error:
            return str(error)

    with ThreadPoolExecutor(workers) as pool:
        results = list(tqdm(pool.map(attempt, paths), "audit", len(paths), unit="clip", disable=None))
    pairs = list(zip(paths, results, strict=True))
    measured = {str(path): result for path, result in pairs if isinstance(result, Measurements)}
    return measured, tuple(result for _, result in pairs if isinstance(result, str))


def _feature_tables(measurements: list[Measurements]) -> dict[str, tuple[list[str], np.ndarray]]:
    """For each probe the names of its features, and their values ``(clips, features)``."""
    tables = {}
    for name in PROBES:
        names = list(measurements[0].features[name])
        table = np.array([[entry.features[name][feature] for feature in names] for entry in measurements])
        if name == "metadata":
            for tag, values in (
                ("written by", [entry.writer or "an unnamed program" for entry in measurements]),
                ("codecs are", [entry.codecs for entry in measurements]),
            ):
                common = sorted(value for value, count in Counter(values).items() if count >= MIN_SHARED_TAG)
                # First, so that `best_feature` prefers a codec to the file size that follows from it.
                names = [f"{tag} {value}" for value in common] + names
                table = np.hstack((np.array(values)[:, None] == np.array(common, dtype=str), table))
        tables[name] = names, table
    return tables


def _evaluate_probe(
    name: str,
    category: str,
    names: list[str],
    table: np.ndarray,
    fake: np.ndarray,
    sources: np.ndarray,
    seed: int,
) -> Cell:
    """Train and test one probe on one category; the arrays hold its fakes and all real clips."""
    expected: Expected = "may exceed" if name in ALLOWED_PROBES[category] else "chance"
    clips, identities = int(fake.sum()), len(set(sources[fake]))
    few = min(clips, int((~fake).sum())) < MIN_CLIPS
    if few or min(identities, len(set(sources[~fake]))) < MIN_IDENTITIES:
        return Cell(name, category, expected, "not enough clips", clips=clips, identities=identities)
    scores = cross_validated_scores(table, fake, sources, seed)
    auc, low, high = auc_with_interval(scores, fake, sources, seed)
    verdict: Verdict = "at chance"
    clue = ""
    if low > 0.5 and auc >= MIN_REPORTED_AUC:
        verdict = "above chance" if expected == "may exceed" else "leaks"
        clue = best_feature(names, table, fake) if verdict == "leaks" else ""
    return Cell(name, category, expected, verdict, auc, low, high, clips, identities, clue)


def _shortcuts(cells: list[Cell]) -> list[str]:
    """A sentence for each leak."""
    return [
        f"{cell.probe} separates {cell.category} from real clips with an AUC of {cell.auc:.2f} "
        f"({cell.low:.2f}–{cell.high:.2f}), which it should not; {cell.clue}"
        for cell in cells
        if cell.verdict == "leaks"
    ]


def _manifest_errors(unreadable: tuple[str, ...], rows: list[Row]) -> list[str]:
    """Sentences on files that cannot be read and rows that contradict themselves."""
    sentences = []
    if unreadable:
        sentences.append(f"{len(unreadable)} files cannot be read; the first: {unreadable[0]}")
    wrong = [row for row in rows if (row.label == 1) != (row.category != CATEGORIES[0])]
    if wrong:
        sentences.append(
            f"{len(wrong)} clips have labels that contradict their category, such as {wrong[0].path}: label "
            f"{wrong[0].label} and category {wrong[0].category}; correct the manifest"
        )
    return sentences
