"""Predictions in Parquet: what is there is not scored again, and what killed its process is left alone."""

import shutil

import pandas as pd
import pytest

from avff_lib import cli
from avff_lib.errors import AVFFError
from avff_lib.inference import store
from avff_lib.models import Detector
from avff_lib.synth import write_corpus

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_corpus(folder, clips=3, identities=6, seed=2, methods=("revoiced",), workers=1)
    paths = [shutil.copy(path, folder / f"{n}.mp4") for n, path in enumerate(sorted(folder.rglob("*.mp4")))]
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    return [*map(folder.__class__, paths), broken]


@pytest.fixture
def scored(monkeypatch) -> list:
    """Names of the files that are scored from here on."""
    names = []
    analyze = store.analyze_file

    def watched(path, *args, **kwargs):
        names.append(path.name)
        return analyze(path, *args, **kwargs)

    monkeypatch.setattr(store, "analyze_file", watched)
    return names


def test_the_folder_reads_as_one_table_and_equals_what_predict_gives(videos, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["predict", *map(str, videos), "--parquet", str(out), "--workers", "1"]) == 2
    assert "4 files: 1 error" in capsys.readouterr().out
    table = pd.read_parquet(out).set_index("path")
    assert len(table) == 4
    expected = Detector.from_pretrained("avff-tiny").predict(videos[0])
    row = table.loc[str(videos[0])]
    assert row["score"] == expected.score
    assert row["label"] == expected.label
    assert list(row["reasons"]) == list(expected.reasons)
    assert [part["start"] for part in row["segments"]] == [part.start for part in expected.segments]
    assert "broken.mp4" in table.loc[str(videos[-1])]["error"]


def test_a_second_run_scores_what_is_new_or_has_changed(videos, tmp_path, scored, monkeypatch):
    monkeypatch.setattr(store, "PART_SIZE", 2)
    for path in videos:
        shutil.copy(path, tmp_path)
    moved = [tmp_path / path.name for path in videos]
    out = tmp_path / "out"
    store.predict_to_parquet(moved[:2], out, "avff-tiny", workers=1)
    assert scored == ["0.mp4", "1.mp4"]
    shutil.copy(videos[2], moved[1])
    counts = store.predict_to_parquet(moved, out, "avff-tiny", workers=1)
    assert scored[2:] == ["1.mp4", "2.mp4", "broken.mp4"]
    assert (counts.total(), counts["error"]) == (4, 1)
    assert not list(out.glob(".*"))


def test_a_file_that_takes_its_process_down_three_times_gets_an_error(videos, tmp_path, monkeypatch):
    analyze = store.analyze_file

    def deadly(path, *args, **kwargs):
        if path.name == "1.mp4":
            raise KeyboardInterrupt  # ends the run as a kill would
        return analyze(path, *args, **kwargs)

    monkeypatch.setattr(store, "analyze_file", deadly)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            store.predict_to_parquet(videos[:2], tmp_path / "out", "avff-tiny", workers=1)
    counts = store.predict_to_parquet(videos[:2], tmp_path / "out", "avff-tiny", workers=1)
    assert counts["error"] == 1
    errors = pd.read_parquet(tmp_path / "out").set_index("path")["error"]
    assert "3 processes ended" in errors[str(videos[1])]


def test_predictions_of_another_detector_are_not_mixed_in(videos, tmp_path):
    store.predict_to_parquet(videos[:1], tmp_path / "out", "avff-tiny", workers=1)
    with pytest.raises(AVFFError, match="another setting of detector"):
        store.predict_to_parquet(videos[:1], tmp_path / "out", "avffmae-tiny", workers=1)


@pytest.mark.parametrize("option", [["--engine", "ray"], ["--parquet", "out", "--json"]])
def test_options_that_exclude_each_other_are_named(option, capsys):
    assert cli.main(["predict", "a.mp4", *option]) == 2
    assert "--parquet" in capsys.readouterr().err
