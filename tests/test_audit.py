"""The audit names a planted shortcut and nothing else, and copes with small and broken datasets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from avff_lib.data.audit import audit
from avff_lib.data.manifest import Row
from avff_lib.data.probe_auc import auc_with_interval, best_feature, cross_validated_scores, ranks
from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip

RATE = 16_000
IDENTITIES = 18


def write(path: Path, rng: np.random.Generator, silence: float = 0.0) -> None:
    """One second of a moving texture and of noise that comes and goes, after ``silence`` seconds of none."""
    texture = rng.integers(0, 255, (60, 80, 3), np.uint8)
    frames = np.stack([np.roll(texture, int(step), axis=1)[:48, :64] for step in rng.integers(0, 9, 12)])
    swing = 0.75 + 0.25 * np.sin(2 * np.pi * rng.uniform(2, 5) * np.arange(RATE) / RATE + rng.uniform(0, 6))
    waveform = swing * rng.normal(0, 1, RATE)
    waveform[: round(silence * RATE)] = 0
    waveform *= 0.05 / np.sqrt(np.mean(waveform**2))
    write_clip(Clip(frames, np.arange(12) / 12, waveform.astype(np.float32), RATE, 0.0, 1.0), path)


def dataset(folder: Path, silence_of_fakes: float) -> list[Row]:
    """A real clip and one with a fake voice of each person."""
    rows = []
    for person in range(IDENTITIES):
        split = "train" if person < IDENTITIES // 2 else "test"
        for category in ("RVRA", "RVFA"):
            path = folder / f"{person}-{category}.mp4"
            fake = category == "RVFA"
            write(path, np.random.default_rng((person, fake)), silence_of_fakes if fake else 0.0)
            rows.append(
                Row(path, int(fake), category, "voice" if fake else "real", f"p{person}", split=split)
            )
    return rows


def test_a_planted_silence_is_reported(tmp_path):
    report = audit(dataset(tmp_path, silence_of_fakes=0.2))
    silence = report.cell("silence", "RVFA")
    assert silence.verdict == "leaks"
    assert silence.auc > 0.95
    assert silence.clue.startswith("leading silence (s)")
    assert any(finding.startswith("silence separates RVFA") for finding in report.findings)
    # The audio may give a fake voice away; video and file must not.
    assert report.cell("audio", "RVFA").verdict == "above chance"
    assert {report.cell(probe, "RVFA").verdict for probe in ("metadata", "frame", "video")} == {"at chance"}


def test_a_clean_dataset_has_no_findings(tmp_path):
    report = audit(dataset(tmp_path, silence_of_fakes=0.0), seed=1)
    assert report.findings == ()
    assert {cell.verdict for cell in report.cells} == {"at chance"}
    assert all(cell.low <= cell.auc <= cell.high for cell in report.cells)
    assert report.counts == {split: {"RVRA": 9, "RVFA": 9} for split in ("train", "test")}
    assert json.loads(json.dumps(report.to_json()))["cells"][0]["expected"] == "chance"
    console = Console(width=120, record=True)
    console.print(report.table())
    assert "at chance" in console.export_text()


def test_small_and_broken_datasets(tmp_path):
    for name, seed in (("a", 0), ("b", 1), ("again", 1)):
        write(tmp_path / f"{name}.mp4", np.random.default_rng(seed))
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    real = Row(tmp_path / "a.mp4", 0, "RVRA", "real", "anna", split="train")
    rows = [
        real,
        Row(tmp_path / "b.mp4", 1, "FVFA", "swap", "bert", ("anna",), "test"),
        Row(tmp_path / "again.mp4", 1, "FVFA", "swap", "carl", (), "test"),
        Row(tmp_path / "broken.mp4", 1, "FVRA", "lips", "dora", (), "test"),
    ]
    report = audit(rows, workers=1)
    assert {cell.verdict for cell in report.cells} == {"not enough clips"}
    assert report.shared_identities == {"train and test": ("anna",)}
    assert [{Path(path).stem for path in group} for group in report.duplicates] == [{"b", "again"}]
    assert len(report.unreadable) == 1
    assert "broken.mp4" in report.unreadable[0]
    assert len(report.findings) == 5  # these three, and two splits of one class

    with pytest.raises(AVFFError, match="no clips to audit"):
        audit([])
    with pytest.raises(AVFFError, match="none of the 1 clips can be read"):
        audit(rows[3:])
    (only,) = audit([real, replace(real, path=tmp_path / "b.mp4")]).findings
    assert only.startswith("all 2 train clips are real")


def test_ranks_are_shares_and_ties_count_half():
    assert ranks(np.array([3.0, 1.0, 2.0])).tolist() == [1, 0, 0.5]
    assert ranks(np.array([1.0, 1.0, 5.0])).tolist() == [0.25, 0.25, 1]
    assert ranks(np.array([7.0])).tolist() == [0]


def people_and_labels(clips_each: int = 4, people: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Sources, and labels of which either half of a person's clips has one."""
    return np.repeat(np.arange(people), clips_each), np.tile([False, True], people * clips_each // 2)


def test_the_auc_is_the_fields_and_fewer_people_are_less_sure():
    rng = np.random.default_rng(0)
    widths = []
    for people in (80, 8):
        sources, fake = people_and_labels(people=people)
        scores = np.round(rng.normal(fake, 1.0), 1)  # with ties
        auc, low, high = auc_with_interval(scores, fake, sources, seed=0)
        assert auc == pytest.approx(roc_auc_score(fake, scores))
        assert 0 <= low < auc < high <= 1
        widths.append(high - low)
    assert widths[0] < widths[1]


def test_a_probe_finds_what_is_too_far_in_the_middle_and_never_meets_a_person_in_training():
    rng = np.random.default_rng(0)
    sources, fake = people_and_labels()
    middle = rng.choice((-1, 1), len(fake)) * np.where(fake, 0.2, 1.0) + rng.normal(0, 0.05, len(fake))
    assert roc_auc_score(fake, cross_validated_scores(middle[:, None], fake, sources, seed=0)) > 0.95
    # A feature of the person alone, whose clips have one label: no help with people who were not seen.
    own_label = sources % 2 == 1
    person = np.eye(20)[sources]
    assert roc_auc_score(own_label, cross_validated_scores(person, own_label, sources, seed=0)) < 0.7


def test_the_clue_is_the_feature_that_separates_with_its_medians():
    fake = np.array([True, True, True, False, False, False])
    table = np.array([[1, 9], [2, 8], [3, 7], [1, 1], [2, 2], [3, 3]], float)
    clue = best_feature(["noise", "loudness"], table, fake)
    assert clue == "loudness: median 8 in the fakes, 2 in real clips"
