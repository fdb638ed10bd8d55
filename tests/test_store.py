"""Predictions in Parquet: what is there is not scored again, and each part says what made it."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from avff_lib import __version__, cli
from avff_lib.errors import AVFFError
from avff_lib.inference import store
from avff_lib.models import Detector
from avff_lib.models.checkpoint import weights_digest
from avff_lib.synth import write_corpus

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    write_corpus(folder, clips=3, identities=6, seed=2, methods=("revoiced",), workers=1)
    paths = [shutil.copy(path, folder / f"{n}.mp4") for n, path in enumerate(sorted(folder.rglob("*.mp4")))]
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    return [*map(Path, paths), broken]


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Names of the files that are scored from here on."""
    names = []
    analyze = store.analyze_file

    def watched(path, *args, **kwargs):
        names.append(path.name)
        return analyze(path, *args, **kwargs)

    monkeypatch.setattr(store, "analyze_file", watched)
    return names


def predict(paths, out):
    return store.predict_to_parquet(paths, out, "avff-tiny", workers=1)


def test_the_folder_reads_as_one_table_and_equals_what_predict_gives(videos, tmp_path, capsys):
    import pyarrow.parquet as pq

    out = tmp_path / "out"
    options = ["--parquet", str(out), "--workers", "1", "--checkpoint", "avff-tiny"]
    assert cli.main(["predict", *map(str, videos), *options]) == 2
    assert "4 files: 1 error" in capsys.readouterr().out
    table = pd.read_parquet(out).set_index("path")
    assert len(table) == 4
    model = Detector.from_pretrained("avff-tiny")
    expected = model.predict(videos[0])
    row = table.loc[str(videos[0])]
    assert row["score"] == expected.score
    assert row["label"] == expected.label
    assert list(row["reasons"]) == list(expected.reasons)
    assert [part["start"] for part in row["segments"]] == [part.start for part in expected.segments]
    assert "broken.mp4" in table.loc[str(videos[-1])]["error"]
    metadata = pq.read_metadata(next(out.glob("part-*"))).metadata
    assert metadata[b"avff_lib"].decode() == __version__
    assert metadata[b"detector"].decode() == weights_digest(model)


def test_a_second_run_scores_what_is_new_or_has_changed(videos, tmp_path, scored):
    moved = [Path(shutil.copy(path, tmp_path)) for path in videos]
    out = tmp_path / "out"
    predict(moved[:2], out)
    assert scored == ["0.mp4", "1.mp4"]
    shutil.copy(videos[2], moved[1])
    counts = predict(moved, out)
    assert scored[2:] == ["1.mp4", "2.mp4", "broken.mp4"]
    assert (counts.total(), counts["error"]) == (4, 1)
    assert predict(moved, out) == counts
    assert len(scored) == 5
    assert not list(out.glob(".*"))


def test_an_interrupted_run_keeps_the_parts_that_it_wrote(videos, tmp_path, scored, monkeypatch):
    watched = store.analyze_file

    def interrupted(path, *args, **kwargs):
        if path.name == "2.mp4":
            raise KeyboardInterrupt
        return watched(path, *args, **kwargs)

    monkeypatch.setattr(store, "analyze_file", interrupted)
    for _ in range(store.MAX_DEATHS + 1):
        with pytest.raises(KeyboardInterrupt):
            predict(videos[:3], tmp_path)
    assert scored == ["0.mp4", "1.mp4"]
    assert len(pd.read_parquet(tmp_path)) == 2
    monkeypatch.setattr(store, "analyze_file", watched)
    assert predict(videos[:3], tmp_path)["error"] == 0  # nobody died of it
    assert scored == ["0.mp4", "1.mp4", "2.mp4"]


def test_predictions_of_another_detector_are_not_mixed_in(videos, tmp_path):
    predict(videos[:1], tmp_path / "out")
    with pytest.raises(AVFFError, match="another setting of calibration, detector"):
        store.predict_to_parquet(videos[:1], tmp_path / "out", "avffmae-tiny", workers=1)


def test_a_damaged_part_is_named(videos, tmp_path):
    predict(videos[:1], tmp_path)
    (part,) = tmp_path.glob("part-*")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(AVFFError, match=f"{part.name} cannot be read .* remove it"):
        predict(videos[:1], tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names are always text there")
def test_a_name_that_is_no_text_is_stored_with_its_bytes(videos, tmp_path, scored):
    strange = tmp_path / os.fsdecode(b"\xff.mp4")
    shutil.copy(videos[-1], strange)
    for _ in range(2):
        assert predict([strange], tmp_path / "out")["error"] == 1
    assert len(scored) == 1
    (path,) = pd.read_parquet(tmp_path / "out")["path"]
    assert path.endswith(r"\udcff.mp4")


@pytest.mark.parametrize(
    "options",
    [["--engine", "ray"], ["--parquet", "out", "--json"], ["--parquet", "out", "--csv", "table.csv"]],
)
def test_options_that_exclude_each_other_are_named(options, capsys):
    assert cli.main(["predict", "a.mp4", *options]) == 2
    assert "--parquet" in capsys.readouterr().err
