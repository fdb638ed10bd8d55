"""The audit names a planted shortcut and nothing else, and copes with small and broken datasets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from avff_lib.data.audit import audit
from avff_lib.data.manifest import Row
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
