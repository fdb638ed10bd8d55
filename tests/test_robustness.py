"""Each cell of the grid is computed once, and again only where it is missing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import MINI
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from avff_lib import cli, synth
from avff_lib.data.examples import load_examples
from avff_lib.data.manifest import Row, write_manifest
from avff_lib.errors import AVFFError
from avff_lib.evaluation import robustness
from avff_lib.evaluation.evaluate import score_examples
from avff_lib.evaluation.perturbations import PERTURBATIONS
from avff_lib.faces.tracked import crop_again, iter_tracked
from avff_lib.inference.predictor import score_pieces
from avff_lib.media.decode import read_clip
from avff_lib.media.encode import write_clip
from avff_lib.models import AVFF, AVFFConfig
from avff_lib.models.calibration import Calibration

NAMES = ("contrast", "noise")


def mini(seed: int = 0) -> AVFF:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AVFF(AVFFConfig(**MINI)).eval()


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Row]:
    """Six short clips of three people, half of them labelled fake, and a file that is no video."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number, plan in enumerate(synth.plan_corpus(clips=6, identities=6, seed=5, level="easy", methods=())):
        clip = synth.make_clip(plan).window(0.5, 1.2)
        write_clip(clip, folder / f"{number}.mp4")
        label = number % 2
        rows.append(
            Row(
                folder / f"{number}.mp4",
                label,
                ("RVRA", "FVFA")[label],
                ("real", "swap")[label],
                f"p{number // 2}",
            )
        )
    (folder / "broken.mp4").write_bytes(b"not a film")
    rows.append(Row(folder / "broken.mp4", 1, "FVFA", "swap", "p0"))
    write_manifest(rows, folder / "manifest.csv")
    return rows


def test_untouched_clips_score_as_in_an_evaluation(rows, tmp_path):
    model = mini()
    scores, skipped = robustness.score_perturbed(model, rows, NAMES, tmp_path)
    assert [entry.row for entry in skipped] == rows[-1:]
    examples, _ = load_examples(rows[:-1], model.spec)
    expected = score_examples(model, examples)
    found = [scores[str(row.path)]["untouched"] for row in rows[:-1]]
    assert found == [[pytest.approx(value, abs=1e-6)] for value in expected]
    # A cell by hand: the whole clip is darkened, and the faces cut out where they were.
    clip = read_clip(rows[0].path, sample_rate=model.spec.sample_rate)
    dark = replace(clip, frames=np.rint(clip.frames * 0.35).astype(np.uint8))
    (piece,) = iter_tracked(rows[0].path, 32, sample_rate=model.spec.sample_rate)
    dark = replace(dark, waveform=piece.waveform)
    by_hand = score_pieces(rows[0].path, [crop_again(piece, dark, 32)], model)
    assert scores[str(rows[0].path)]["contrast"][4] == pytest.approx(by_hand.raw, abs=1e-6)
    assert all(len(set(cells["contrast"])) == 5 for cells in scores.values())


def test_an_interrupted_run_goes_on_and_a_larger_one_adds_what_is_missing(rows, tmp_path, monkeypatch):
    model, scored, fatal = mini(), [], [rows[2]]
    score_clip = robustness._score_clip

    def counting(model, row, names, seed):
        if row in fatal:
            fatal.clear()
            raise KeyboardInterrupt
        scored.append((row.path.stem, *names))
        return score_clip(model, row, names, seed)

    monkeypatch.setattr(robustness, "_score_clip", counting)
    with pytest.raises(KeyboardInterrupt):
        robustness.score_perturbed(model, rows[:4], NAMES, tmp_path)
    assert scored == [(number, "untouched", *NAMES) for number in "01"]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]
    scored.clear()
    resumed, _ = robustness.score_perturbed(model, rows[:4], NAMES, tmp_path)
    assert scored == [(number, "untouched", *NAMES) for number in "23"]
    scored.clear()
    more, _ = robustness.score_perturbed(model, rows[:5], (*NAMES, "saturation"), tmp_path)
    assert scored == [
        *((number, "saturation") for number in "0123"),
        ("4", "untouched", *NAMES, "saturation"),
    ]
    assert all(more[path][name] == cells[name] for path, cells in resumed.items() for name in cells)
    monkeypatch.undo()
    at_once, _ = robustness.score_perturbed(model, rows[:5], (*NAMES, "saturation"), tmp_path / "new")
    assert at_once == more


def test_each_clip_appends_a_line_and_one_cut_short_is_scored_again(rows, tmp_path, monkeypatch):
    model, path = mini(), tmp_path / "scores.jsonl"
    first, _ = robustness.score_perturbed(model, rows[:2], NAMES, tmp_path)
    before = path.read_bytes()
    both, _ = robustness.score_perturbed(model, rows[:3], NAMES, tmp_path)
    after = path.read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == before.count(b"\n") + 1
    path.write_bytes(after[:-20])  # killed while it was writing
    scored, score_clip = [], robustness._score_clip
    monkeypatch.setattr(
        robustness,
        "_score_clip",
        lambda model, row, *rest: scored.append(row) or score_clip(model, row, *rest),
    )
    assert robustness.score_perturbed(model, rows[:3], NAMES, tmp_path) == (both, [])
    assert scored == [rows[2]]
    assert path.read_bytes() == after
    assert first.items() <= both.items()


def test_scores_of_something_else_are_not_mixed_in(rows, tmp_path):
    robustness.score_perturbed(mini(), rows[:1], (), tmp_path)
    with pytest.raises(AVFFError, match="scores with another detector"):
        robustness.score_perturbed(mini(1), rows[:1], (), tmp_path)
    with pytest.raises(AVFFError, match="scores with another seed"):
        robustness.score_perturbed(mini(), rows[:1], (), tmp_path, seed=1)
    settings = (tmp_path / "scores.jsonl").read_text().splitlines(keepends=True)[0]
    for broken in ("{", "[]\n", "{}\n", '{"scores": 3}\n', f"{settings}[]\n", f'{settings}{{"path": 3}}\n'):
        (tmp_path / "scores.jsonl").write_text(broken)
        with pytest.raises(AVFFError, match=r"scores\.jsonl holds"):
            robustness.score_perturbed(mini(), rows[:1], (), tmp_path)
    with pytest.raises(AVFFError, match="'fog' does not exist; choose from saturation"):
        robustness.score_perturbed(mini(), rows[:1], ("fog",), tmp_path)


def test_the_summary_is_the_auc_of_each_cell_and_the_rates_at_the_threshold():
    rng = np.random.default_rng(0)
    rows = [Row(f"{n}.mp4", n % 2, "RVRA", "real", f"p{n // 4}") for n in range(40)]
    scores = {
        row.path: {
            "untouched": expit([row.label + rng.normal()]).tolist(),
            "jpeg": expit(row.label * np.arange(4, -1, -1) + rng.normal(size=5)).tolist(),
        }
        for row in rows
    }
    calibration = Calibration(temperature=2.0, bias=-1.0)
    summary = robustness.summarize_scores(
        [*rows, Row("not scored", 1, "FVFA", "swap", "p")], scores, ["jpeg"], 0.5, calibration
    )
    assert (summary["clips"], summary["real"], summary["fake"], summary["identities"]) == (40, 20, 20, 10)
    levels = summary["perturbations"]["jpeg"]["levels"]
    assert [cell["value"] for cell in levels] == [25, 18, 15, 10, 7]
    labels = [row.label for row in rows]
    for level, cell in enumerate(levels):
        expected = roc_auc_score(labels, [scores[row.path]["jpeg"][level] for row in rows])
        assert cell["auc"] == pytest.approx(expected)
        assert cell["low"] <= cell["auc"] <= cell["high"]
        for label, name in ((0, "false_positive_rate"), (1, "true_positive_rate")):
            raw = np.array([scores[row.path]["jpeg"][level] for row in rows if row.label == label])
            called = calibration.apply(raw) >= 0.5
            assert cell[name] == pytest.approx(sum(called) / len(called))
    assert levels[0]["auc"] > 0.95
    assert levels[4]["low"] < 0.5 < levels[4]["high"]
    with pytest.raises(AVFFError, match="1 clips could be used, 1 of them real"):
        robustness.summarize_scores(rows[:1], scores, ["jpeg"], 0.5, calibration)


def test_a_smaller_subset_is_part_of_a_larger_one():
    rows = [Row(f"{n}.mp4", int(n > 30), "RVRA", "real", "p") for n in range(40)]
    six, twelve = (robustness.balanced_subset(rows, count) for count in (6, 12))
    assert [row.label for row in six] == [0, 0, 0, 1, 1, 1]
    assert set(six) < set(twelve)
    assert (
        len(robustness.balanced_subset(rows, 40)) == 29
    )  # nine are fake, and twenty of the real ones are taken


def test_the_command_draws_a_panel_for_each_perturbation(rows, tmp_path, capsys):
    data, model, out = rows[0].path.parent, tmp_path / "model", tmp_path / "out"
    mini().save_pretrained(model)
    command = ["robustness", "--data", str(data), "--checkpoint", str(model), "--out", str(out)]
    assert cli.main([*command, "--clips", "4", "--perturbations", "contrast", "noise", "pixelation"]) == 0
    result = json.loads((out / "robustness.json").read_text())
    assert list(result["perturbations"]) == ["contrast", "noise", "pixelation"]
    assert result["command"].startswith(f"avff robustness --data {data} --out {out} --checkpoint {model}")
    assert result["command"].endswith("--perturbations contrast noise pixelation --clips 4")
    assert {path.name for path in out.iterdir()} == {"scores.jsonl", "robustness.json", "robustness.png"}
    assert (out / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert "pixelation" in capsys.readouterr().out
    assert cli.main([*command, "--perturbations", "fog"]) == 2
    assert "fog" in capsys.readouterr().err


def test_the_grid_is_the_fields():
    streams = [entry.stream for entry in PERTURBATIONS.values()]
    assert (streams.count("video"), streams.count("audio")) == (8, 4)
    assert {len(entry.values) for entry in PERTURBATIONS.values()} == {5}
