"""The experiments at toy size: what they leave out is left out, and no run is repeated."""

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MINI
from test_avff_mae import MINI as MINI_MAE

from avff_lib.data.examples import Example
from avff_lib.data.manifest import Row, read_manifest
from avff_lib.errors import AVFFError
from avff_lib.faces.track import track_faces
from avff_lib.inference.sync import measure_sync
from avff_lib.media.clip import Clip
from avff_lib.models import AVFF, AVFFMAE, AVFFConfig
from avff_lib.nn.features import Features
from avff_lib.nn.losses import info_nce
from avff_lib.nn.masking import gather_slices
from avff_lib.nn.sequences import pool_to_steps
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.objectives import pretraining_loss

RESULTS = Path(__file__).parents[1] / "results"
sys.path.insert(0, str(RESULTS))  # the scripts are run from their folder, and are no package

import ablations  # noqa: E402
import artefacts  # noqa: E402
import common  # noqa: E402
import controls  # noqa: E402
import label_efficiency  # noqa: E402
import leave_one_out  # noqa: E402
import other_renderer  # noqa: E402
import people  # noqa: E402
import real_sync  # noqa: E402
import scale  # noqa: E402
import slice_variant  # noqa: E402

SCRIPTS = (ablations, controls, label_efficiency, leave_one_out, real_sync, slice_variant)
METHODS = {"real": "RVRA", "revoiced": "RVFA", "other_lips": "FVRA"}


def example(number: int, method: str, split: str, size: int = 32) -> Example:
    """1.4 seconds of noise."""
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, (35, size, size, 3), dtype=np.uint8)
    sound = rng.standard_normal(22_400).astype(np.float32) / 10
    row = Row(Path(f"{number}.mp4"), int(method != "real"), METHODS[method], method, f"id{number % 3}")
    return Example(replace(row, split=split), Clip(frames, np.arange(35) / 25, sound, 16_000, 0.0, 1.4))


@pytest.fixture
def options(tmp_path, monkeypatch) -> common.Options:
    """Of runs of two steps on eighteen clips of noise."""
    (tmp_path / "corpus.json").write_text('{"clips": 18}')
    numbers = iter(range(100))
    split = {
        name: [example(next(numbers), method, name) for method in METHODS for _ in range(3)]
        for name in ("train", "test")
    }
    monkeypatch.setattr(common.Options, "read", lambda self, spec: split)
    return common.Options(
        **{"out": tmp_path / "out.json", "data": tmp_path, "runs": tmp_path / "runs", "steps": 2},
        **{"batch_size": 4, "seeds": (0, 1), "threads": 1, "precision": "32-true"},
    )


@pytest.fixture
def first(mini, tmp_path) -> Path:
    mini.save_pretrained(tmp_path / "first")
    return tmp_path / "first"


def records(options: common.Options) -> list[dict]:
    return json.loads(options.out.read_text())["records"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_results_that_exist_say_how_they_were_made(script):
    for path in RESULTS.glob(f"{script.OPTIONS.out.stem}*.json"):
        result = json.loads(path.read_text())
        assert result["command"].startswith(f"python results/{script.__name__}.py")
        assert not set("/~") & {word[0] for word in result["command"].split()}, "a path of one machine"
        assert result["corpus"]["clips"] > 0
        assert {"family", "steps", "batch_size", "precision", "lr", "augment"} <= result["settings"].keys()
        assert result["seeds"] == sorted({record["seed"] for record in result["records"]})
        for record in result["records"]:
            low, high = record["interval"]
            assert 0 <= low <= record["auc"] <= high <= 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_each_script_shows_its_command(script):
    assert f"python results/{script.__name__}.py" in script.__doc__
    assert script.OPTIONS.out == RESULTS / f"{script.__name__.replace('_', '-')}.json"


# --- the table ---


def test_a_table_holds_each_run_once_and_refuses_other_settings(options):
    table = options.table(family="AVFF")
    for key in table.todo(seed=(0, 1), arm=("a", "b")):
        if key == {"seed": 1, "arm": "b"}:
            break  # stopped in the middle
        table.add(key, {"auc": 0.5 + 0.1 * key["seed"], "clips": 3})
    again = options.table(family="AVFF")
    assert list(again.todo(seed=(0, 1), arm=("a", "b"))) == [{"seed": 1, "arm": "b"}]
    result = json.loads(options.out.read_text())
    assert result["seeds"] == [0, 1]
    assert result["settings"]["family"] == "AVFF"
    assert result["summary"][0] == {
        "arm": "a", "runs": 2, "auc": {"mean": 0.55, "min": 0.5, "max": 0.6},
    }  # fmt: skip
    with pytest.raises(AVFFError, match="another settings"):
        options.table(family="AVFFMAE")


def test_shards_of_another_corpus_are_refused(tmp_path, monkeypatch):
    clips = [example(i, "real", split, size=2) for i, split in enumerate(("train", "train", "test"))]
    monkeypatch.setattr(common, "read_shards", lambda folder, spec: clips)
    options = common.Options(tmp_path / "out.json", data=tmp_path)
    with pytest.raises(AVFFError, match="does not exist"):
        options.read(None)
    (tmp_path / "corpus.json").write_text('{"clips": 3}')
    assert options.read(None) == {"train": clips[:2], "val": [], "test": clips[2:]}
    (tmp_path / "corpus.json").write_text('{"clips": 4}')
    with pytest.raises(AVFFError, match="holds 3 clips"):
        options.read(None)


def test_separation_by_family_and_method():
    examples = [example(i, method, "test") for i, method in enumerate((*METHODS, *METHODS))]
    found = common.separation(examples, np.array([0.1, 0.9, 0.0, 0.2, 0.8, 0.15]))
    assert (found["auc"], found["artefact"], found["desynchronised"]) == (0.625, 1.0, 0.25)
    assert found["by_method"] == {"other_lips": 0.25, "revoiced": 1.0}
    assert found["clips"] == {"real": 2, "fake": 4}


# --- what each experiment takes away ---


@pytest.mark.parametrize("stream", ["audio", "video"])
@pytest.mark.parametrize("family", ["AVFF", "AVFFMAE"])
def test_a_blanked_stream_has_no_effect(family, stream):
    torch.manual_seed(0)
    model = (AVFF(AVFFConfig(**MINI)) if family == "AVFF" else AVFFMAE(MINI_MAE)).eval()
    size, sound = (32, (2, 16_000)) if family == "AVFF" else (16, (2, 48, 65))
    inputs = ModelInputs(torch.randn(2, 16, 3, size, size), torch.randn(sound))
    other = ModelInputs(torch.randn(2, 16, 3, size, size), torch.randn(sound))
    kept = replace(inputs, **({"audio": other.audio} if stream == "audio" else {"frames": other.frames}))
    assert not torch.equal(model(inputs), model(kept))
    common.blank(model, stream)
    assert torch.equal(model(inputs), model(kept))
    assert not torch.equal(model(inputs), model(other))


def test_labelled_sets_are_nested_and_hold_both_classes():
    clips = [example(i, "real" if i % 3 else "revoiced", "train", size=2) for i in range(300)]
    sets = [label_efficiency.labelled(clips, percent, seed=1) for percent in label_efficiency.PERCENTS]
    assert [len(chosen) for chosen in sets] == [8, 15, 30, 150, 300]
    for smaller, larger in pairwise(sets):
        assert {id(clip) for clip in smaller} < {id(clip) for clip in larger}
        assert {clip.row.label for clip in smaller} == {0, 1}
    other = label_efficiency.labelled(clips, 1, seed=2)
    assert {id(clip) for clip in other} != {id(clip) for clip in sets[0]}


def test_shuffled_labels_are_the_same_labels_on_other_clips():
    clips = [example(i, "real" if i % 3 else "revoiced", "train", size=2) for i in range(60)]
    mixed = controls.shuffled(clips, seed=0)
    before, after = ([clip.row.label for clip in part] for part in (clips, mixed))
    assert sorted(before) == sorted(after)
    assert before != after
    assert all(one.clip is other.clip for one, other in zip(clips, mixed, strict=True))


def test_random_masks_are_independent_and_a_slice_masked_in_both_is_masked():
    audio, visual = ablations.independent_slices(400, 8, torch.Generator().manual_seed(0))
    both = [len(set(a) & set(v)) for a, v in zip(audio.tolist(), visual.tolist(), strict=True)]
    assert np.mean(both) == pytest.approx(2, abs=0.2)  # complementary masks would never hide a slice twice
    model = ablations.RandomMasks(MINI_MAE).eval()
    features = Features(torch.randn(1, 48, 24), torch.randn(1, 32, 24))
    masked = torch.tensor([[0, 1, 2, 3]])
    changed = Features(features.audio.clone(), features.visual.clone())
    changed.audio[:, :24] += 1  # slices 0 to 3
    changed.visual[:, :16] += 1
    for one, other in zip(
        model.fill_masked(features, masked, masked), model.fill_masked(changed, masked, masked), strict=True
    ):
        assert torch.equal(one, other)
    # What is masked in one and visible in the other is predicted as before.
    visible = torch.tensor([[4, 5, 6, 7]])
    completed = model.fill_masked(features, masked, visible)[0]
    prediction = model.visual_to_audio(gather_slices(model.split_slices(features.visual), masked))
    assert torch.allclose(gather_slices(completed, masked), prediction, atol=1e-6)


def test_without_translation_nothing_crosses_over():
    model = ablations.NoTranslation(MINI_MAE).eval()
    features = Features(torch.randn(2, 48, 24), torch.randn(2, 32, 24))
    reduced = MINI_MAE.reduced_dim
    other = replace(features, visual=torch.randn(2, 32, 24))
    fused, changed = model.fuse(features), model.fuse(other)
    assert torch.equal(fused[..., :reduced], changed[..., :reduced])
    assert not torch.equal(fused[..., reduced:], changed[..., reduced:])


def test_variants_start_from_the_same_weights_and_differ_in_their_loss(monkeypatch):
    monkeypatch.setattr(ablations, "CONFIG", MINI_MAE)
    inputs = ModelInputs(torch.randn(4, 16, 3, 16, 16), 20 * torch.randn(4, 48, 65) - 20)
    for name in ("no reconstruction", "no contrast", "random masks"):
        variant = ablations.VARIANTS[name]
        model = ablations.build(variant, seed=0)
        losses = variant.first(model, inputs, torch.zeros(4), torch.Generator().manual_seed(0))
        full = pretraining_loss(
            ablations.build(ablations.VARIANTS["full"], 0), inputs, torch.zeros(4),
            torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert losses["contrast"] == full["contrast"], name  # the same weights
        assert losses["loss"] != full["loss"], name


def test_slices_as_they_are_are_compared_with_nothing_subtracted(monkeypatch):
    monkeypatch.setattr(ablations, "CONFIG", MINI_MAE)
    inputs = ModelInputs(torch.randn(4, 16, 3, 16, 16), 20 * torch.randn(4, 48, 65) - 20)
    variant = slice_variant.VARIANTS["slices as they are"]
    model = ablations.build(variant, seed=0)
    losses = variant.first(model, inputs, torch.zeros(4), torch.Generator().manual_seed(0))
    features = model.encode(inputs)
    rows = [pool_to_steps(stream, 8).flatten(0, 1) for stream in (features.audio, features.visual)]
    torch.testing.assert_close(losses["contrast"], info_nce(*rows, model.temperature).detach())
    means = model._slice_means(features)
    torch.testing.assert_close(means.audio, pool_to_steps(features.audio, 8))


# --- all of each script ---


def test_label_efficiency_trains_each_arm_once(options, first, monkeypatch):
    monkeypatch.setattr(label_efficiency, "PERCENTS", (1, 100))
    options = replace(options, seeds=(0,))
    label_efficiency.main(options, first)
    assert [(record["percent"], record["arm"]) for record in records(options)] == [
        (1, "pre-trained"), (1, "from scratch"), (100, "pre-trained"), (100, "from scratch"),
    ]  # fmt: skip
    stamp = options.out.stat().st_mtime_ns
    label_efficiency.main(options, first)
    assert options.out.stat().st_mtime_ns == stamp
    assert not any(options.runs.rglob("*.pt"))


def test_leave_one_out_never_trains_on_what_it_tests(options, first, monkeypatch):
    trained_on = []
    train = leave_one_out.train_detector

    def watched(model, clips, *rest):
        trained_on.append({clip.row.method for clip in clips})
        train(model, clips, *rest)

    monkeypatch.setattr(leave_one_out, "train_detector", watched)
    leave_one_out.main(replace(options, seeds=(0,)), first)
    assert trained_on == [set(METHODS), {"real", "revoiced"}, {"real", "other_lips"}]
    assert [set(record["by_method"]) for record in records(options)] == [
        {"other_lips", "revoiced"}, {"other_lips"}, {"revoiced"},
    ]  # fmt: skip


def test_controls_test_one_category_each(options, first):
    controls.main(replace(options, seeds=(0,)), first)
    assert [record["control"] for record in records(options)] == [*controls.ALONE, controls.SHUFFLED]
    assert [set(record["by_method"]) for record in records(options)] == [
        {"other_lips"}, {"revoiced"}, {"other_lips", "revoiced"},
    ]  # fmt: skip


def test_ablations_share_one_first_stage_where_they_may(options, monkeypatch):
    monkeypatch.setattr(ablations, "CONFIG", MINI_MAE)
    ablations.main(replace(options, seeds=(0,)), first_steps=2)
    found = {record["variant"]: record for record in records(options)}
    assert list(found) == list(ablations.VARIANTS)
    assert found["audio alone"]["retrieval"] == found["full"]["retrieval"]
    assert "retrieval" not in found["no stage one"]
    stages = sorted(path.name for path in (options.runs / "out").iterdir())
    assert stages == sorted(
        f"one-0-{name.replace(' ', '_')}"
        for name, variant in ablations.VARIANTS.items()
        if variant.first and not variant.without
    )


def test_a_score_of_synchrony_tells_shifted_voices_from_real_ones():
    """A score that knows where the audio begins is always right, a constant one never."""
    clips = [example(i, "real", "test").clip for i in range(4)]
    starts = [clip.waveform[0] for clip in clips]
    found = real_sync.separation(clips, lambda i, clip: float(clip.waveform[0] == starts[i]))
    assert (found["auc"], found["above_own_shifted"], found["interval"]) == (1.0, 1.0, [1.0, 1.0])
    assert set(found["auc_by_shift"]) == {"-0.6", "-0.4", "-0.2", "+0.2", "+0.4", "+0.6"}
    assert real_sync.separation(clips, lambda i, clip: 0.0)["auc"] == 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_synchrony_is_the_cosine_of_the_changes(mini, monkeypatch, sign):
    def encode(inputs: ModelInputs) -> Features:
        changing = torch.randn(len(inputs.frames), 16, 32)
        return Features(3 + sign * changing, 2 * changing)  # what stays the same does not count

    monkeypatch.setattr(mini, "encode", encode)
    assert real_sync.synchrony(mini, example(0, "real", "test").clip) == pytest.approx(sign, abs=1e-5)


# --- the other renderer ---


def test_the_other_renderer_shows_one_face_whose_lips_follow_the_voice_unless_it_is_shifted(monkeypatch):
    monkeypatch.setattr(other_renderer, "SECONDS", 2.4)
    real, shifted = (
        other_renderer.make_clip(other_renderer.Plan(0, 5, 1, method)) for method in ("real", "shifted")
    )
    again = other_renderer.make_clip(other_renderer.Plan(0, 5, 1, "real"))
    np.testing.assert_array_equal(real.frames, again.frames)
    np.testing.assert_array_equal(real.waveform, again.waveform)
    (track,) = track_faces(real)
    assert track.detected.all()
    assert abs(measure_sync(real).lag) < 0.1
    assert abs(measure_sync(shifted).lag) > 0.15


def test_the_other_renderer_writes_a_manifest_of_all_methods(tmp_path, monkeypatch):
    monkeypatch.setattr(other_renderer, "SECONDS", 0.4)
    monkeypatch.setattr(
        other_renderer, "parallel_map", lambda function, items, *_, **__: map(function, items)
    )
    other_renderer.main(tmp_path, clips=6)
    rows = read_manifest(tmp_path / "manifest.csv")
    assert [row.method for row in rows[1::2]] == list(other_renderer.FAKES)
    assert {row.method for row in rows[::2]} == {"real"}
    for row in rows:
        assert row.path.is_file()
        assert row.label == (row.method != "real") == bool(row.fake_segments)
    plans = other_renderer.plan_clips(80, seed=0)
    assert {plan.person for plan in plans if plan.method == "real"} == set(range(other_renderer.PEOPLE))
    assert {plan.person for plan in plans if plan.method != "real"} == set(range(other_renderer.PEOPLE))


def test_the_page_on_scale_has_what_was_measured_and_what_follows():
    page = (RESULTS.parent / "book/scale.md").read_text()
    stored = json.loads((RESULTS / "scale.json").read_text())
    measured = scale.Measured(**{name: stored[name] for name in scale.Measured.__annotations__})
    assert scale.measured_table(measured) in page
    assert scale.bill(measured) in page


@pytest.mark.parametrize(
    ("hours", "text"), [(60, "2 days"), (47, "47 h"), (2, "2 h"), (1.9, "114 min"), (0.01, "36 s")]
)
def test_durations_are_given_in_a_unit_that_fits(hours, text):
    assert scale.duration(hours) == text


def test_clips_are_compared_with_all_their_shifted_twins():
    scores = np.array([[0.0, 1.0, 2.0], [0.5, 1.0, -1.0]])  # one twin is ahead of both real clips
    found = people.told_from_shifted(scores, ["a", "b"])
    assert found["auc"] == 6 / 8  # of two real clips and four shifted ones
    assert people.told_from_shifted(scores[:, :2], ["a", "b"])["auc"] == 1.0


def test_ai_made_clips_are_compared_within_their_group():
    def row(label: int, group: str, method: str) -> Row:
        return Row(Path("x.mp4"), label, ("RVRA", "RVFA")[label], method, "id", group=group)

    real, other = artefacts.MATCHED[:2]
    rows = [row(0, real, "real"), row(1, real, "m"), row(0, other, "real"), row(1, other, "m")]
    rows.append(row(1, "z", "n"))
    # Every fake of the second group is ahead of every clip of the first; that counts nowhere.
    found = artefacts.by_group(np.array([1.0, 0.0, 10.0, 20.0, 30.0]), rows)
    assert {name: entry["auc"] for name, entry in found["groups"].items()} == {real: 0.0, other: 1.0}
    assert (found["matched"]["auc"], found["matched"]["fakes"], found["matched"]["groups"]) == (0.5, 2, 2)
    assert found["matched"]["without"][real] == 1.0
    assert list(found["methods"]) == ["m"]  # no genuine clip of its group is there for the other one
