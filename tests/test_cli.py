"""The command line end to end on a small corpus, its start-up, and its sentences on bad input."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from avff_lib import __version__, cli
from avff_lib.data.manifest import Row, read_manifest, write_manifest
from avff_lib.errors import AVFFError, MediaError
from avff_lib.evaluation import evaluate as evaluation
from avff_lib.inference import predictor
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip
from avff_lib.media.encode import write_clip
from avff_lib.models import AVFF, AVFFMAE, Detector
from avff_lib.models.calibration import Calibration
from avff_lib.training.recipes import make_config

SMALL_RUN = ["--steps", "2", "--batch-size", "4"]
AVFF_COMMAND = os.path.join(sysconfig.get_path("scripts"), "avff")

# Runs a command, then prints the modules that it imported.
WATCHED = """
import sys
from avff_lib.cli import main
try:
    main(sys.argv[1:])
finally:
    print("IMPORTED", *sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus")
    status = cli.main(
        ["synth", str(out), "--clips", "12", "--identities", "6", "--seed", "3", "--methods", "other_lips"]
    )
    assert status == 0
    # So few people leave a split without one class; here only the plumbing is looked at.
    rows = [
        Row(**{**vars(row), "split": ("train", "val", "test")[position % 3]})
        for position, row in enumerate(sorted(read_manifest(out / "manifest.csv"), key=lambda row: row.label))
    ]
    write_manifest(rows, out / "manifest.csv")
    return out


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """A detector that went through both stages by the command line."""
    first, second = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    assert cli.main(["pretrain", "--data", str(corpus), "--out", str(first), *SMALL_RUN]) == 0
    command = ["train", "--data", str(corpus), "--out", str(second), "--init", str(first), *SMALL_RUN]
    assert cli.main([*command, "--trained-on", "two steps"]) == 0
    return second


def test_stage_two_starts_from_stage_one_and_names_its_data(trained):
    model = AVFF.from_pretrained(trained)
    assert model.config.trained_on == "two steps"
    untrained = AVFF.tiny().state_dict()
    # Stage two does not touch the decoder: what stage one taught it was handed over.
    assert any(
        not torch.equal(tensor, untrained[name])
        for name, tensor in model.state_dict().items()
        if name.startswith("decoder.")
    )


def test_a_run_keeps_its_split(corpus, trained):
    split = pd.read_csv(trained / "split.csv")
    used = [row for row in read_manifest(corpus / "manifest.csv") if row.split in ("train", "val")]
    assert set(zip(split["path"], split["split"], split["label"], strict=True)) == {
        (str(row.path), row.split, row.label) for row in used
    }
    assert set(split["source"]) == {row.source for row in used}


def test_a_run_leaves_a_log_and_a_dry_run_knows_how_far_it_came(corpus, trained, capsys):
    log = pd.read_csv(trained / "log.csv")
    assert list(log["step"]) == [0, 1]
    assert {"loss", "accuracy", "lr", "windows_per_second"} <= set(log.columns)
    assert list((trained / "tensorboard").iterdir())
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    command = ["train", "--data", str(corpus), "--out", str(trained), *SMALL_RUN]
    command += ["--init", str(trained.with_name(trained.name.replace("two", "one")))]  # as it began
    capsys.readouterr()
    assert cli.main([*command, "--dry-run"]) == 0
    assert f"{trained} holds 2 steps of this run, which is all" in capsys.readouterr().out
    assert cli.main([*command, "--lr", "0.5", "--dry-run"]) == 0
    lr = make_config("laptop", "AVFF", 2, {}).lr
    assert f"{trained} holds a run with another lr ({lr}, now 0.5)" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


@pytest.mark.parametrize(
    ("family", "unused"),
    [
        ("AVFF", {"detail", "classifier"}),
        ("AVFFMAE", {"detail", "classifier", "audio_reduction", "visual_reduction"}),
    ],
)
def test_a_dry_run_says_what_would_happen_and_writes_nothing(corpus, tmp_path, capsys, family, unused):
    command = ["pretrain", "--data", str(corpus), "--out", str(tmp_path / "out"), "--family", family]
    assert cli.main([*command, *SMALL_RUN, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr().out
    model = Detector.families[family].tiny()
    everything = sum(p.numel() for p in model.parameters())
    left_out = sum(p.numel() for name, p in model.named_parameters() if name.split(".")[0] in unused)
    assert f"{everything:,}" in printed
    assert f"{everything - left_out:,}" in printed
    assert "2 of 4 windows; 8 windows in all" in printed
    recipe = make_config("laptop", family, 1, {})
    assert f"lr {recipe.lr}, encoder_lr {recipe.encoder_lr}," in printed  # no rate was typed
    real = sum(row.label == 0 and row.split == "train" for row in read_manifest(corpus / "manifest.csv"))
    assert f"epochs of the {real} clips" in printed
    assert "it would start from nothing" in printed


def test_weights_of_encoders_are_for_the_base_preset(corpus, tmp_path, capsys):
    command = ["pretrain", "--data", str(corpus), "--out", str(tmp_path / "out"), "--family", "AVFFMAE"]
    weights = ["--visual-weights", str(tmp_path / "none.pt")]
    assert cli.main([*command, *weights]) == 2
    assert "cannot start a tiny model; take --preset base" in capsys.readouterr().err
    audio = ["--audio-weights", str(tmp_path / "nothing.pth")]
    assert cli.main([*command, *weights, *audio, "--preset", "base"]) == 2
    assert "nothing.pth" in capsys.readouterr().err


def test_the_papers_model_goes_the_same_way(corpus, tmp_path, capsys):
    """Both families stand behind one interface: the same commands, another input, another window."""
    one, two = tmp_path / "one", tmp_path / "two"
    first = ["pretrain", "--data", str(corpus), "--out", str(one), "--family", "AVFFMAE", *SMALL_RUN]
    first += ["--augment", "strong", "--identity-balanced"]
    assert cli.main(first) == 0
    second = ["train", "--data", str(corpus), "--out", str(two), "--init", str(one), *SMALL_RUN]
    assert cli.main(second) == 0
    learned, final = (AVFFMAE.from_pretrained(folder).state_dict() for folder in (one, two))
    for name, tensor in AVFFMAE.tiny().state_dict().items():
        if name.endswith("decoder.head.weight"):  # learned in stage one, and handed over
            assert not torch.equal(tensor, learned[name])
            assert torch.equal(learned[name], final[name])
    alone = ["train", "--data", str(corpus), "--out", str(tmp_path / "alone"), "--family", "AVFFMAE"]
    assert cli.main([*alone, *SMALL_RUN]) == 0
    assert type(Detector.from_pretrained(tmp_path / "alone")) is AVFFMAE
    capsys.readouterr()
    path = read_manifest(corpus / "manifest.csv")[0].path
    assert cli.main(["predict", str(path), "--checkpoint", str(two), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["model"]["family"] == "AVFFMAE"
    assert 0 < report["score"] < 1
    assert report["windows"][0]["end"] == 1.28
    assert report["windows"][-1]["end"] == 3.2


def test_evaluate_reports_every_group(corpus, trained, tmp_path, capsys):
    out = tmp_path / "results"
    command = ["evaluate", "--data", str(corpus), "--checkpoint", str(trained), "--out", str(out), "--json"]
    assert cli.main(command) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert metrics["counts"]["clips"] == 4
    assert metrics["windows"]["counts"]["clips"] == 4 * 6
    assert set(metrics["by_method"]) == {"other_lips"}
    assert set(metrics["by_category"]) == {"FVRA"}
    assert 0 <= metrics["auc"] <= 1
    assert metrics["skipped"] == []
    scores = pd.read_csv(out / "scores.csv")
    assert len(scores) == 4
    assert all((corpus / path).is_file() for path in scores["path"])
    assert set(scores["predicted"]) == {"undetermined"}  # four clips are too few to decide
    assert set(scores["reasons"]) == {"unsure"}
    called_fake = int((scores["score"] >= metrics["threshold"]).sum())
    assert called_fake == metrics["confusion"]["false_positives"] + metrics["confusion"]["true_positives"]
    table = pd.read_csv(out / "table.csv")
    assert list(table["by"]) == ["all", "category", "method", "windows"]
    assert table["auc"][0] == metrics["auc"]
    assert (table["auc_low"] <= table["auc"]).all()
    names = {"roc", "pr", "det", "scores", "confusion", "reliability"}
    assert {path.stem for path in out.glob("*.png")} == names


def test_scores_are_appended_and_none_is_computed_twice(corpus, mini, tmp_path, monkeypatch):
    rows = read_manifest(corpus / "manifest.csv")[:3]
    once, _ = evaluation.score_readable(mini, rows, workers=1, folder=tmp_path)
    log = tmp_path / "scores.jsonl"
    header, first, *_ = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(header + first + b'{"path": "cut sho')  # killed in the middle of a line
    scored_again = []
    score_row = evaluation._score_row
    monkeypatch.setattr(
        evaluation, "_score_row", lambda model, row: scored_again.append(row) or score_row(model, row)
    )
    again, _ = evaluation.score_readable(mini, rows, workers=1, folder=tmp_path)
    assert scored_again == rows[1:]
    assert len(log.read_text().splitlines()) == 4
    results = [evaluation.evaluate_scores(mini, scored) for scored in (once, again)]
    assert results[0] == results[1]
    mini.config = replace(mini.config, threshold=0.25)
    with pytest.raises(AVFFError, match="holds scores with another calibration; choose another folder"):
        evaluation.score_readable(mini, rows, workers=1, folder=tmp_path)


def test_kept_scores_take_their_labels_from_the_manifest_of_now(corpus, mini, tmp_path, monkeypatch):
    (row,) = read_manifest(corpus / "manifest.csv")[:1]
    evaluation.score_readable(mini, [row], folder=tmp_path)
    monkeypatch.delattr(evaluation, "_score_row")  # nothing is to be scored again
    for label in (0, 1):
        (scored,), _ = evaluation.score_readable(mini, [replace(row, label=label)], folder=tmp_path)
        assert scored.row.label == label
        assert len(scored.windows) > 0
        assert set(scored.window_labels) == {label}


def test_scores_of_a_file_that_has_changed_are_not_kept(corpus, mini, tmp_path):
    row, other = read_manifest(corpus / "manifest.csv")[:2]
    video = shutil.copy(row.path, tmp_path / "video.mp4")
    moved = [replace(row, path=video)]
    folder = tmp_path / "scores"
    (before,), _ = evaluation.score_readable(mini, moved, folder=folder)
    shutil.copy(other.path, video)
    (after,), _ = evaluation.score_readable(mini, moved, folder=folder)
    assert after.raw != before.raw


def test_evaluate_prints_a_table_and_what_it_rests_on(corpus, trained, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["evaluate", "--data", str(corpus), "--checkpoint", str(trained)]) == 0
    printed = capsys.readouterr().out
    assert "other_lips" in printed
    assert "fitted on 4 validation videos of" in printed
    assert "Labelled real or fake: 0.0% of the 4 videos, of all real videos 0.0% are labelled fake" in printed
    assert "Undetermined, some for several reasons: 4 unsure." in printed
    assert "TPR at 1 % FPR allows no false positive at all" in printed
    assert "two steps" in printed


def test_evaluate_takes_shards_and_counts_what_they_left_out(corpus, trained, tmp_path, capsys):
    data, shards = tmp_path / "data", tmp_path / "shards"
    shutil.copytree(corpus, data)
    rows = read_manifest(data / "manifest.csv")
    next(row for row in rows if row.split == "test").path.write_bytes(b"no video")
    assert cli.main(["prepare", str(data), "--out", str(shards), "--workers", "1"]) == 0
    capsys.readouterr()
    results = []
    for folder in (data, shards):
        assert cli.main(["evaluate", "--data", str(folder), "--checkpoint", str(trained), "--json"]) == 0
        captured = capsys.readouterr()
        results.append(json.loads(captured.out))
        assert captured.err.count("skipped ") == 1
    assert results[0]["counts"]["clips"] == results[1]["counts"]["clips"] == 3
    assert results[0]["auc"] == results[1]["auc"]
    assert len(results[1]["skipped"]) == 1
    assert results[1]["skipped"][0]["path"].endswith(".mp4")


def test_train_refuses_a_rate_that_the_validation_cannot_promise_before_it_trains(corpus, tmp_path, capsys):
    command = ["train", "--data", str(corpus), "--out", str(tmp_path / "x"), *SMALL_RUN]
    assert cli.main([*command, "--target-fpr", "0.01"]) == 2
    assert "needs 99 real validation clips" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_predict_gives_one_object_a_file_and_status_2_if_any_failed(corpus, trained, tmp_path, capsys):
    good = read_manifest(corpus / "manifest.csv")[0].path
    bad = tmp_path / "empty.mp4"
    bad.touch()
    assert cli.main(["predict", str(good), str(bad), "--checkpoint", str(trained), "--json"]) == 2
    first, second = json.loads(capsys.readouterr().out)
    assert first["error"] is None
    assert first["label"] == "undetermined"
    assert first["reasons"] == ["unsure"]  # four clips are too few to decide
    assert first["prediction"] is None
    assert [(w["start"], w["end"]) for w in first["windows"]] == [
        (0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.5, 2.5), (2.0, 3.0), (2.2, 3.2)
    ]  # fmt: skip
    model = AVFF.from_pretrained(trained)
    calibration = model.config.calibration
    assert calibration.clips == first["calibration"]["clips"] == 4
    model.config = replace(model.config, calibration=Calibration())
    raw = [window.score for window in predictor.predict(good, model).windows]
    assert [w["faces"][0]["raw"] for w in first["windows"]] == pytest.approx(raw, abs=1e-6)
    scores = calibration.apply_to_windows(raw).tolist()
    assert [w["score"] for w in first["windows"]] == pytest.approx(scores, abs=1e-6)
    assert first["score"] == pytest.approx(float(calibration.apply(np.mean(raw))), abs=1e-6)
    assert first["model"] == {"family": "AVFF", "trained_on": "two steps"}
    assert second["label"] is second["score"] is second["prediction"] is None
    assert str(bad) in second["error"]

    assert cli.main(["predict", str(good), "--checkpoint", str(trained), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{good}: undetermined (unsure): score {first['score']:.2f}, threshold ")
    assert "two steps" in printed
    assert "4 validation clips of" in printed


def test_predict_and_evaluate_agree(corpus, trained):
    from avff_lib.data.examples import load_examples
    from avff_lib.evaluation.evaluate import score_examples

    model = AVFF.from_pretrained(trained)
    rows = read_manifest(corpus / "manifest.csv")[:2]
    scores = score_examples(model, load_examples(rows, model.spec)[0])
    predictions = [predictor.predict(row.path, model).score for row in rows]
    assert predictions == pytest.approx(scores.tolist(), abs=1e-5)


def test_sync_gives_one_object_a_file_and_status_2_if_any_failed(corpus, tmp_path, capsys):
    good = next(row.path for row in read_manifest(corpus / "manifest.csv") if row.label == 0)
    bad = tmp_path / "empty.mp4"
    bad.touch()
    assert cli.main(["sync", str(good), str(bad), "--json"]) == 2
    first, second = json.loads(capsys.readouterr().out)
    assert list(first) == list(second)
    assert first["error"] is None
    assert abs(first["lag"]) <= 0.12  # real, of medium level: in time but for a natural jitter
    assert first["correlation"] >= first["correlation_at_zero"]
    assert second["lag"] is None
    assert str(bad) in second["error"]

    assert cli.main(["sync", str(good)]) == 0
    printed = capsys.readouterr().out
    assert f"{first['correlation']:.2f}" in printed
    assert "no label" in printed


def test_process_video_returns_the_documented_dict(corpus, trained):
    path = read_manifest(corpus / "manifest.csv")[0].path
    output = predictor.process_video(path, trained)
    assert 0 < output["prediction"] < 1
    assert output["label"] == "undetermined"
    assert output["reasons"] == ("unsure",)
    assert {key: tuple(value.shape) for key, value in output.items() if key.endswith("features")} == {
        "audio_features": (128,), "visual_features": (128,), "fused_features": (2 * 128 + 2 * 32,)
    }  # fmt: skip


def test_repeated_frames_make_the_score_doubtful_with_a_warning(corpus, trained, tmp_path):
    path = read_manifest(corpus / "manifest.csv")[0].path
    model, clip = AVFF.from_pretrained(trained), read_clip(path)
    assert predictor.predict(path, model).warnings == ()
    slow = tmp_path / "slow.mp4"
    write_clip(replace(clip, frames=clip.frames[::3], times=clip.times[::3]), slow)
    (warning,) = predictor.predict(slow, model).warnings
    assert "16 frames in 1 s" in warning


@pytest.mark.parametrize(("missing", "word"), [("no face", "face"), ("silence", "sound")])
def test_a_clip_without_face_or_sound_is_refused(corpus, trained, tmp_path, missing, word):
    clip = read_clip(read_manifest(corpus / "manifest.csv")[0].path)
    frames = np.zeros_like(clip.frames) if missing == "no face" else clip.frames
    sound = clip.waveform if missing == "no face" else np.zeros_like(clip.waveform)
    path = tmp_path / "nothing.mp4"
    write_clip(Clip(frames, clip.times, sound, clip.sample_rate, 0.0, clip.duration), path)
    report = predictor.predict(path, AVFF.from_pretrained(trained))
    assert report.prediction is None
    assert word in report.error
    with pytest.raises(MediaError, match=word):
        predictor.process_video(path, trained)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["predict"], "no file was named"),
        (["sync"], "no file was named"),
        (["predict", "x.mp4", "--checkpoint", "nowhere"], "there is no detector nowhere; expected avff"),
        (["evaluate", "--data", "nowhere"], "manifest.csv"),
        (["pretrain", "--data", "nowhere", "--out", "x"], "manifest.csv"),
        (["train", "--data", "nowhere", "--out", "x", "--steps", "0"], "steps is 0"),
        (["train", "--data", "x", "--out", "y", "--init", "z", "--family", "AVFF"], "both given"),
        (["pretrain", "--data", "nowhere", "--out", "x", "--validate-every", "5"], "stage one has no score"),
        (["pretrain", "--data", "nowhere", "--out", "x", "--dry-run"], "manifest.csv"),
        (["audit", "nowhere"], "manifest.csv"),
        (["synth", "x", "--clips", "0"], "0 clips"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(command, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("avff: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_ones_own_needs_only_path_and_label(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,label\na.mp4,1\nb/c.mp4,0\n")
    fake, real = read_manifest(tmp_path / "manifest.csv")
    assert (fake.path, fake.category, fake.method, fake.split) == (
        tmp_path / "a.mp4",
        "FVFA",
        "unknown",
        "test",
    )
    assert (real.category, real.method, real.source) == ("RVRA", "real", "c")


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    rows = [
        Row(tmp_path / "x/a.mp4", 1, "FVRA", "swap", "id1", ("id2", "id3"), "val", ((0.5, 1.25), (2.0, 3.0))),
        Row(tmp_path / "b, c.mp4", 0, "RVRA", "real", "id4", group="African, women"),
    ]
    write_manifest(rows, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv") == rows


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lacks the column"),
        ("path\na.mp4\n", "lacks the column label"),
        ("path,label\n", "lists no clips"),
        ("path,label\na.mp4,1.0\n", "line 2: label is '1.0'; expected one of 0, 1, real, fake"),
        ("path,label\n../a.mp4,1\n", "not below the manifest's folder"),
        ("path,label,split\na.mp4,1,dev\n", "expected one of train, val, test"),
        ("path,label,fake_segments\na.mp4,1,half\n", "expected start-end"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_line(tmp_path, text, sentence):
    from avff_lib.errors import AVFFError

    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(AVFFError, match=sentence.replace("(", r"\(")):
        read_manifest(tmp_path / "manifest.csv")


# -- start-up --


def imported_by(*command: str) -> set[str]:
    """Names of the modules that a command imports, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *command], capture_output=True, text=True, timeout=600, check=False
    )
    names = done.stderr.partition("IMPORTED ")[2].split()
    assert "avff_lib" in names, done.stderr
    return set(names)


@pytest.mark.parametrize("command", [["--help"], ["predict", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(command):
    heavy = {
        "torch",
        "numpy",
        "scipy",
        "sklearn",
        "matplotlib",
        "gradio",
        "transformers",
        "timm",
        "cv2",
        "av",
    }
    assert imported_by(*command) & heavy == set()


def test_predict_imports_nothing_that_it_does_not_use(corpus):
    path = read_manifest(corpus / "manifest.csv")[0].path
    optional = {"sklearn", "matplotlib", "gradio", "tensorboard", "lightning_fabric", "IPython", "pandas"}
    costly = {"scipy.stats", "scipy.signal", "joblib"}
    parts = {"avff_lib.report", "avff_lib.evaluation", "avff_lib.synth", "avff_lib.data", "avff_lib.demo"}
    imported = imported_by("predict", str(path))
    assert {"torch", "timm", "transformers", "cv2", "av"} <= imported
    assert imported & (optional | costly | parts) == set()


@pytest.mark.parametrize("command", [[AVFF_COMMAND], [sys.executable, "-m", "avff_lib"]], ids=["avff", "-m"])
def test_the_command_prints_its_version_and_its_commands(command):
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"avff {__version__}\n"
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: avff ")
    for name in ("synth", "pretrain", "evaluate", "predict", "demo"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"), [(["avff", "pre"], "predict"), (["avff", "predict", "--rep"], "--report")]
)
def test_bash_completes_commands_and_options(tmp_path, words, expected):
    script = tmp_path / "completion"
    subprocess.run([AVFF_COMMAND, "--tyro-write-completion", "bash", script], check=True)
    (line,) = [line for line in script.read_text().splitlines() if line.startswith("complete -F ")]
    function = line.split()[2]
    ask = f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; {function}"
    done = subprocess.run(
        ["bash", "-c", f"{ask}; echo ${{COMPREPLY[@]}}"], capture_output=True, text=True, check=True
    )
    assert expected in done.stdout.split()


def test_a_missing_extra_ends_with_one_sentence(monkeypatch, capsys, corpus):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("avff_lib.report")]:
        monkeypatch.delitem(sys.modules, name)
    path = read_manifest(corpus / "manifest.csv")[0].path
    assert cli.main(["predict", str(path), "--report", str(corpus / "page.html")]) == 2
    assert (
        capsys.readouterr().err == "avff: avff predict --report needs matplotlib; install avff-lib[report]\n"
    )
