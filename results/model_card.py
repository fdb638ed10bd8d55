"""Write the model cards of the shipped checkpoints from the measurements of `train.py`.

python results/model_card.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avff_lib.models import Detector, SyncNet
from avff_lib.models.base import count_parameters
from avff_lib.models.checkpoint import SHIPPED_DIR
from avff_lib.utils.atomic import atomic_write

HERE = Path(__file__).parent
ABOUT = {
    "AVFF": "Wav2Vec2 and a ViT of the tiny preset, fusion, decoder, a path for fine detail",
    "AVFFMAE": "the slice variant (ours) of the paper's masked autoencoder, with a path for fine detail",
}
AUGMENTED = {
    "mirrored": "mirrored half of the time",
    "LIGHT": "changed lightly in video and audio: `LIGHT` of `avff_lib.data.transforms`",
}
WEAK = 0.9  # AUC below which a method is named among the limits


def model_card(name: str, model: Detector, result: dict[str, Any]) -> str:
    """The text of a card: data, recipe, seeds, results, limits."""
    runs, one, two = result["runs"], result["stage_one"], result["stage_two"]
    fitted = model.config.calibration
    shipped = next(run for run in runs if run["seed"] == result["shipped"])
    family, spec, clips = type(model).__name__, model.spec, result["clips"]
    weak = [method for method, found in shipped["by_method"].items() if found["auc"] < WEAK]
    missed = f"It finds these worst, with an AUC below {WEAK}: {', '.join(weak)}. " if weak else ""
    rows = [("all methods", list(runs), shipped, shipped["counts"]["fake"])]
    for group in ("by_category", "by_method"):
        for key, found in shipped[group].items():
            rows.append((key, [run[group][key] for run in runs], found, found["clips"]))
    table = "\n".join(f"| {title} | {_row(found, best)} | {count} |" for title, found, best, count in rows)
    seeds = ", ".join(str(run["seed"]) for run in runs)
    return f"""# {name}

An `{family}` of {count_parameters(model):,} parameters: {ABOUT[family]}.
It scores windows of {spec.duration:g} s: {spec.frame_count} frames of {spec.image_size} x {spec.image_size}
pixels and audio at {spec.sample_rate // 1000} kHz.

## Data

Drawn talking heads with synthesised voices, nobody's face or voice, at the medium level: {clips["train"]}
clips to train on, {clips["val"]} to validate and {clips["test"]} to test, no person and no word in two of
these splits.

    {result["corpus"]}

## Recipe

    {result["command"]}

Stage one, self-supervised on the real training clips: {one["steps"]} steps of {one["batch_size"]} windows
({AUGMENTED[one["augment"]]}), AdamW with a peak learning rate of {one["lr"]:g}.
In its last 50 steps, the matching video slice was the nearest of the whole batch to an audio slice in
{result["retrieval"]:.1%} of cases (chance: {1 / (8 * one["batch_size"]):.1%}).
The folder `stage-one` holds the weights after stage one, for training on other labels: `avff train --init`.

Stage two, supervised: {two["steps"]} steps at {two["lr"]:g}, the encoders at {two["encoder_lr"]:g}
({AUGMENTED[two["augment"]]}).
There is one run of stage one, and one of stage two with each of the seeds {seeds}; seed {result["shipped"]}
has the best AUC on the validation people and is shipped. The threshold {shipped["threshold"]:.3f} has the
best balanced accuracy there. All training ran on a CPU.

## Results on the test people

AUC against all real clips ({shipped["counts"]["real"]}):

| fakes | shipped | mean of seeds | lowest and highest | clips |
|---|---|---|---|---|
{table}

At the threshold, the balanced accuracy is {shipped["balanced_accuracy"]:.3f}; the equal error rate is
{shipped["eer"]:.3f}. All numbers are in `results/{name}.json`.

Scores are calibrated on {fitted.clips} validation clips of {fitted.identities} people (temperature
{fitted.temperature:.2f}, bias {fitted.bias:.2f}), single windows on theirs. Of these clips, {fitted.fpr:.1%}
of the real ones reach the threshold, and {fitted.fnr:.1%} of the fake ones do not, each measured by a fit
to other people; scores from {fitted.unsure[0]:.2f} to {fitted.unsure[1]:.2f} give no label. On the test
people, the Brier score is
{shipped["calibration"]["brier"]:.3f} and the expected calibration error {shipped["calibration"]["ece"]:.3f}.
`ood.safetensors` holds the Mahalanobis detectors that were fitted to features of the validation clips; files
that are out of distribution are undetermined. `results/wild.json` gives their numbers among drawn clips,
clips of another renderer, and clips of people.

## Limits

It was trained on no human face and no human voice: on a video of a real person its score means nothing, and
it must not be used to accuse or to clear anybody. {missed}It knows ten forgeries of one corpus;
`results/leave-one-out.json` measures the detection of forgeries that are not in the training data.
"""


def _row(runs: list[dict[str, Any]], shipped: dict[str, Any]) -> str:
    found = [run["auc"] for run in runs]
    mean = sum(found) / len(found)
    return f"{shipped['auc']:.3f} | {mean:.3f} | {min(found):.3f}, {max(found):.3f}"


def sync_card(name: str, model: SyncNet, result: dict[str, Any]) -> str:
    """The text of the card of a detector of synchrony: data, recipe, results, limits."""
    shipped, spec = result["shipped"], model.spec
    (run,) = (record for record in result["records"] if shipped["run"].items() <= record.items())
    rows = "\n".join(
        f"| {title} | {found['auc']:.3f} ({found['interval'][0]:.3f} to {found['interval'][1]:.3f}) "
        f"| {found['auc_at_lag_0']:.3f} | {found['clips']} | {found['groups']} |"
        for title, found in run.items()
        if isinstance(found, dict)
    )
    verdicts = "\n".join(
        f"| {title} | {found['in sync']} | {found['out of sync']} | {found['undetermined']} |"
        for title, found in shipped["wild"].items()
    )
    fitted, real = model.config.calibration, shipped["wild"]["as it is"]
    return f"""# {name}

A `SyncNet` of {count_parameters(model):,} parameters: it decides whether lips and voice belong to one moment
and measures their lag. It detects no other trace of a forgery. A window lasts {spec.duration:g} s:
{spec.frame_count} crops of the mouth of {spec.image_size} x {spec.image_size} pixels and audio at
{spec.sample_rate // 1000} kHz, at lags of up to {model.lags[-1]:g} s to either side.

## Data and recipe

{run["clips"]} real clips: drawn talking heads with synthesised voices, and 267 recordings of one person,
speaker 1 of the GRID corpus (Cooke et al. 2006, CC BY 4.0, https://doi.org/10.5281/zenodo.3625687). No label
was used: {run["steps"]} steps of {run["batch_size"]} windows (`{run["augment"]}` of
`avff_lib.data.transforms`), seed {run["seed"]}, by contrast between moments. `results/people.py` names all
commands.

## Results

Real clips against the same clips with their voices shifted by 0.2, 0.4 and 0.6 s to either side. None of
their people are in the training data; the other renderer and synthesiser share no code with those of the
training data.

| clips | AUC (95 % interval) | AUC without the search over lags | clips | people or sources |
|---|---|---|---|---|
{rows}

Labels of the clips of wild, which show about 90 people. Nothing was trained or fitted on them; the decision
to change the validation clips by `{run["augment"]}` followed a look at the labels of an earlier model.

| clips | in sync | out of sync | undetermined |
|---|---|---|---|
{verdicts}

It is calibrated on {fitted.clips} clips of {fitted.identities} people, nearly all of them drawn. All numbers
are in `results/people.json`.

## Limits

"In sync" does not mean real: a face or a voice that was made to fit the other is in sync. "Out of sync" does
not mean forged: careless editing and slow recordings are also out of sync. It labels {real["out of sync"]} of
{real["clips"]} genuine clips of people out of sync, and {fitted.fpr:.1%} of the validation clips that are in
sync: it must not be used to accuse or to clear anybody. Its error rates were measured only on the few people
above. Dubbed films, several speakers, music and covered mouths were not measured on people;
`results/sync-factors.json` shows what breaks it on drawings.
"""


if __name__ == "__main__":
    for folder in sorted(SHIPPED_DIR.iterdir()):
        model = Detector.from_pretrained(folder)
        if isinstance(model, SyncNet):
            text = sync_card(folder.name, model, json.loads((HERE / "people.json").read_text()))
        else:
            text = model_card(folder.name, model, json.loads((HERE / f"{folder.name}.json").read_text()))
        with atomic_write(folder / "README.md") as path:
            path.write_text(text)
