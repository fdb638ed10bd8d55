"""The small helpers that commands and figures go through, each by itself."""

import json
import os

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from avff_lib.errors import AVFFError
from avff_lib.evaluation.score_log import open_log
from avff_lib.explain.views import memberships, spread
from avff_lib.plots import hz_to_mel, plot_robustness_grid
from avff_lib.utils.device import pick_device
from avff_lib.utils.files import file_identity, find_videos
from avff_lib.utils.folder import claim_folder

# --- folders and files ---


def test_a_folder_is_claimed_once_and_taken_up_again_with_the_same_settings(tmp_path):
    out = tmp_path / "deep" / "out"
    for _ in range(2):
        claim_folder(out, "about.json", {"seed": 1, "names": ["a"]}, "corpus")
    assert json.loads((out / "about.json").read_text()) == {"seed": 1, "names": ["a"]}
    with pytest.raises(AVFFError, match="holds a corpus with another setting of names, seed; choose another"):
        claim_folder(out, "about.json", {"seed": 2, "names": []}, "corpus")


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_note_of_settings_is_an_error_of_one_sentence(tmp_path, content):
    (tmp_path / "about.json").write_text(content)
    with pytest.raises(
        AVFFError, match=r"about\.json is damaged; delete the folder and make the corpus again"
    ):
        claim_folder(tmp_path, "about.json", {"seed": 1}, "corpus")


def test_a_folder_with_other_things_is_not_claimed(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(AVFFError, match="is not empty and holds no corpus"):
        claim_folder(tmp_path, "about.json", {"seed": 1}, "corpus")
    with pytest.raises(AVFFError, match=r"thesis\.txt cannot be used"):
        claim_folder(tmp_path / "thesis.txt", "about.json", {"seed": 1}, "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_videos_are_found_in_order_without_hidden_files_and_folders_that_are_named_like_one(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for name in ("b.MP4", "a.webm", "._a.mp4", "notes.txt", "folder.mp4/c.mkv"):
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in find_videos(tmp_path)]
    assert found == ["a.webm", "b.MP4", "folder.mp4/c.mkv"]


def test_a_file_that_changed_has_another_identity(tmp_path):
    path = tmp_path / "a.mp4"
    assert file_identity(path) == (str(path), -1, -1)
    path.write_bytes(b"123")
    os.utime(path, ns=(1, 5_000_000_001))
    assert file_identity(path) == (str(path), 3, 5_000_000_001)


def test_a_log_of_scores_goes_on_behind_a_line_that_was_cut_and_keeps_its_settings(tmp_path):
    path, settings = tmp_path / "out" / "scores.jsonl", {"model": "a"}
    with open_log(path, settings, ("path", "score")) as log:
        assert log.entries == []
        log.append({"path": "a.mp4", "score": 0.5})
    with path.open("a") as file:
        file.write('{"path": "b.mp4", "sc')  # killed here
    with open_log(path, settings, ("path", "score")) as log:
        assert log.entries == [{"path": "a.mp4", "score": 0.5}]
        log.append({"path": "b.mp4", "score": 0.25})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [settings, {"path": "a.mp4", "score": 0.5}, {"path": "b.mp4", "score": 0.25}]
    with pytest.raises(AVFFError, match="scores with another model"), open_log(path, {"model": "b"}, ()):
        pass
    with (
        pytest.raises(AVFFError, match="holds no scores of an earlier run"),
        open_log(path, settings, ("x",)),
    ):
        pass


def test_the_device_is_the_one_that_was_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(AVFFError, match="--device is cuda, but no GPU can be used"):
        pick_device("cuda", "--device")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")


# --- figures and cells ---


def test_mel_is_linear_below_and_logarithmic_above():
    assert hz_to_mel(0) == 0
    assert hz_to_mel(1000) == pytest.approx(1000, abs=0.1)
    assert hz_to_mel(np.array([700, 2100])) == pytest.approx(2595 * np.log10([2, 4]))


def test_the_grid_of_robustness_has_a_panel_for_each_perturbation_and_one_legend():
    def cell(auc: float, value: float = 0) -> dict:
        return {"auc": auc, "low": auc - 0.1, "high": auc + 0.1, "value": value}

    entry = {"unit": "dB", "levels": [cell(0.8, 20), cell(0.6, 10)]}
    summary = {
        "untouched": cell(0.9),
        "perturbations": {"white_noise": entry, "blur": entry, "contrast": entry},
    }
    figure = plot_robustness_grid(summary, columns=2, figure=Figure())
    assert [ax.get_title() for ax in figure.axes] == ["white noise", "blur", "contrast"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["–", "20", "10"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.9, 0.8, 0.6]
    assert [ax.get_ylabel() for ax in figure.axes] == ["AUC", "", "AUC"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["95 % interval", "AUC", "untouched", "chance"]


def test_every_point_belongs_to_one_cell_and_gets_its_value():
    rows, columns = memberships((5, 8), (2, 4))
    assert rows.sum(dim=0).tolist() == [1] * 5
    assert rows.sum(dim=1).tolist() == [3, 2]
    assert columns.sum(dim=1).tolist() == [2] * 4
    cells = torch.arange(8.0).view(1, 2, 4)
    points = spread(cells, (2, 4), (5, 8))
    assert points.shape == (1, 5, 8)
    assert points[0, :, 0].tolist() == [0, 0, 0, 4, 4]
    assert points[0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
