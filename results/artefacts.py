"""Traces of a generator, learned on drawings and on forged recordings: do they help on people?

    avff synth data/avff-small --clips 1000 --identities 100
    avff forge data/grid-s1 --out data/forge-grid
    for name in avff-small forge-grid wild; do avff prepare data/$name --out data/face/$name; done
    python results/artefacts.py data/face data/wild

Two detectors that consist only of a detail path are trained for each mix of sources and each seed: one takes
the voice, the other the picture. They then score AI-made clips of people against genuine clips of the same
group, most of them of the same person and some from the same recording: codec and source, which separate
whole groups, are the same there, or nearly so. For comparison, the results hold those of the shipped
detectors, and of two probes that use only a file's size, rate and format, one fitted to the labels of the
other groups, and one to those of the other people of the same group. Nothing else is fitted to clips of
people, and these results decided nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import tyro
from common import HERE, write_result
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from avff_lib.data.dataset import AVDataset
from avff_lib.data.manifest import Row, read_manifest
from avff_lib.data.probe_auc import cross_validated_scores
from avff_lib.data.probes import measure
from avff_lib.data.shards import StoredExample, read_shards
from avff_lib.data.transforms import STRONG
from avff_lib.evaluation.evaluate import score_readable
from avff_lib.forge.methods import METHODS as FORGED
from avff_lib.models import AVFF, AVFFConfig, Detector
from avff_lib.models.configs import AVFF_TINY
from avff_lib.nn.features import Features
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.synth.forgeries import METHODS as DRAWN
from avff_lib.training.config import TrainConfig
from avff_lib.training.loop import fit
from avff_lib.training.objectives import classification_loss

Stream = Literal["voice", "picture"]
STREAMS: tuple[Stream, ...] = ("voice", "picture")
METHODS = DRAWN | FORGED
MIXES = {"drawings": ("avff-small",), "forged recordings of one person": ("forge-grid",)}
# Groups with genuine clips of the people whose clips were altered.
MATCHED = ("lip2speech", "lip2speech-unit", "transface-demo.github.io", "PersonaTalk")
SHIPPED = ("avff-tiny", "avffmae-tiny")
RESAMPLES = 2000
MIN_SOURCES = 6  # people in a group, to fit a probe to some of them and test it on others
OUT = HERE / "artefacts.json"


class StreamDetector(Detector):
    """The detail path of one stream and a linear head; the streams are not compared."""

    config: AVFFConfig
    config_class = AVFFConfig
    tiny_config: ClassVar[dict[str, Any]] = AVFF_TINY
    stream: ClassVar[Stream]
    spec = AVFF.spec
    spectrogram = AVFF.spectrogram

    def __init__(self, config: AVFFConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.detail, 1)

    def encode(self, inputs: ModelInputs) -> Features:
        audio, visual = self.detail(inputs.frames, self.spectrogram(inputs)).chunk(2, dim=-1)
        return Features(audio=audio, visual=visual)

    def forward_features(self, inputs: ModelInputs) -> Features:
        return self.encode(inputs)

    def fuse(self, features: Features) -> Tensor:
        return features.audio if self.stream == "voice" else features.visual

    def forward_head(self, fused: Tensor) -> Tensor:
        return self.head(fused.mean(dim=1)).squeeze(-1)

    def pretraining_loss(self, inputs: ModelInputs, generator: torch.Generator) -> dict[str, Tensor]:
        raise NotImplementedError("it has no stage one")


class VoiceDetector(StreamDetector):
    stream = "voice"


class PictureDetector(StreamDetector):
    stream = "picture"


FAMILIES: dict[Stream, type[StreamDetector]] = {"voice": VoiceDetector, "picture": PictureDetector}


def main(
    shards: tyro.conf.Positional[Path],
    wild: tyro.conf.Positional[Path],
    mixes: tuple[str, ...] = tuple(MIXES),
    seeds: tuple[int, ...] = (0,),
    steps: int = 300,
    batch_size: int = 32,
    lr: float = 2e-3,
    runs: Path = Path("runs/artefacts"),
    out: Path = OUT,
    threads: int = 2,
) -> None:
    """Train and measure every mix, then the shipped detectors and the probes.

    Args:
        shards: folder with the shards of each source, of faces at 64 pixels.
        wild: the clips of people, with their manifest.csv, for the probes.
        mixes: keys of `MIXES`.
        seeds: each mix has a pair of detectors for each seed.
        steps, batch_size, lr: of each training.
        runs: folder for states.
        out: JSON file; runs that it holds are not repeated.
        threads: of the processor; the last digits depend on it.
    """
    torch.set_num_threads(threads)
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr, "augment": "STRONG"}
    command = "python results/artefacts.py data/face data/wild"
    content: dict[str, Any] = {"command": command, "settings": settings, "records": [], "beside": {}}
    if out.exists():
        content |= json.loads(out.read_text())

    people = read_shards(shards / "wild", AVFF.tiny().spec)
    for name in SHIPPED:
        if name not in content["beside"]:
            content["beside"][name] = by_group(*scored(Detector.from_pretrained(name), people))
            write_result(content, out)
    if "file format" not in content["beside"]:
        content["beside"] |= probed(read_manifest(wild / "manifest.csv"))
        write_result(content, out)
    for mix in mixes:
        for seed in seeds:
            key = {"mix": mix, "seed": seed}
            if any(key.items() <= record.items() for record in content["records"]):
                continue
            config = TrainConfig(steps=steps, batch_size=batch_size, lr=lr, encoder_lr=lr, seed=seed)
            record: dict[str, Any] = {**key, "at_home": {}}
            logits = {}
            for stream in STREAMS:
                model = FAMILIES[stream].tiny(seed)
                train = [example for source in MIXES[mix] for example in examples(shards, source, stream)]
                dataset = AVDataset(of_split(train, "train"), model.spec, transforms=STRONG)
                folder = runs / f"{mix.replace(' ', '-')}-{stream}-{seed}"
                fit(model, classification_loss, dataset, config, folder)
                at_home, home_rows = scored(model, of_split(train, "test"))
                record["at_home"][stream] = auc([row.label for row in home_rows], at_home)
                real = at_home[[row.label == 0 for row in home_rows]]
                found, rows = scored(model, people)
                # In units of the spread of genuine clips of the training source, to make streams comparable.
                logits[stream] = (found - real.mean()) / real.std()
            either = np.maximum(logits["voice"], logits["picture"])
            record |= {name: by_group(values, rows) for name, values in [*logits.items(), ("either", either)]}
            content["records"].append(record)
            print(json.dumps({name: record[name]["matched"] for name in (*STREAMS, "either")}), flush=True)
            write_result(content, out)


def examples(shards: Path, source: str, stream: Stream) -> list[StoredExample]:
    """All clips of a source; a clip counts as real if this stream went through no generator."""
    found = []
    for example in read_shards(shards / source, AVFF.tiny().spec):
        method = METHODS[example.row.method]
        pasted = method.face != "drawn" or (source == "forge-grid" and method.lips != "own")
        made = method.vocoded if stream == "voice" else pasted
        row = example.row if made else replace(example.row, label=0, fake_segments=())
        found.append(replace(example, row=row))
    return found


def of_split(clips: Sequence[StoredExample], split: str) -> list[StoredExample]:
    return [example for example in clips if example.row.split == split]


def scored(model: Detector, clips: Sequence[StoredExample]) -> tuple[np.ndarray, list[Row]]:
    """Logits ``(N,)`` of the clips that can be scored, and their rows."""
    entries, _ = score_readable(model, clips)
    probability = torch.tensor([entry.score for entry in entries], dtype=torch.float64)
    return torch.logit(probability, eps=1e-9).numpy(), [entry.row for entry in entries]


def by_group(scores: np.ndarray, rows: Sequence[Row]) -> dict[str, Any]:
    """AUC of AI-made against genuine clips of the same group: for each group, each method, and together.

    Returns:
        ``matched``, over pairs of clips within one of `MATCHED`, with its 95 % interval over groups and the
        AUC without each of them; ``groups`` and ``methods``, over pairs within any one group.
    """
    fake, groups = (np.array([row.label == 1 for row in rows]), np.array([row.group for row in rows]))

    def wins(chosen: np.ndarray, name: str) -> tuple[float, int]:
        """Pairs of a chosen and a genuine clip of a group: number won by the chosen one, and of all."""
        high, low = scores[chosen & (groups == name)], scores[~fake & (groups == name)]
        ahead = high[:, None] - low
        return float((ahead > 0).sum() + 0.5 * (ahead == 0).sum()), ahead.size

    def together(chosen: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        won, pairs = np.sum([wins(chosen, name) for name in names], axis=0)
        used = [name for name in names if wins(chosen, name)[1]]
        count = int((chosen & np.isin(groups, used)).sum())
        return {"auc": round(won / pairs, 4) if pairs else None, "fakes": count, "groups": len(used)}

    every = sorted(set(groups))
    table = np.array([wins(fake, name) for name in MATCHED if wins(fake, name)[1]])  # (groups, 2)
    draws = np.random.default_rng(0).multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES)
    won, pairs = (draws @ table).T
    methods = {
        row.method: np.array([other.method == row.method for other in rows]) for row in rows if row.label
    }
    categories = {c: np.array([row.category == c for row in rows]) for c in ("RVFA", "FVRA", "FVFA")}
    matched = {
        **together(fake, MATCHED),
        "interval": [round(float(end), 4) for end in np.quantile(won / pairs, (0.025, 0.975))],
        "without": {name: together(fake, [n for n in MATCHED if n != name])["auc"] for name in MATCHED},
        "categories": {name: together(chosen, MATCHED) for name, chosen in categories.items()},
    }
    found = {name: together(fake, [name]) for name in every}
    return {
        "matched": matched,
        "groups": {name: entry for name, entry in found.items() if entry["auc"] is not None},
        "methods": {
            name: {**entry, "category": next(row.category for row in rows if row.method == name)}
            for name, chosen in sorted(methods.items())
            if (entry := together(chosen, every))["auc"] is not None
        },
    }


def probed(rows: Sequence[Row]) -> dict[str, Any]:
    """AUCs of probes of size, rate and format, fitted to other groups, and to other people of the group."""
    table = np.array([list(measure(row.path).features["metadata"].values()) for row in rows])
    fake = np.array([row.label == 1 for row in rows])
    groups, sources = (np.array([getattr(row, name) for row in rows]) for name in ("group", "source"))
    elsewhere = cross_validated_scores(table, fake, groups, seed=0)
    within = np.full(len(rows), 0.5)  # chance, if a group is too small for a fit
    for name in MATCHED:
        here = groups == name
        if min(len(set(sources[here & fake])), len(set(sources[here & ~fake]))) >= MIN_SOURCES:
            within[here] = cross_validated_scores(table[here], fake[here], sources[here], seed=0)
    return {
        "file format": by_group(elsewhere, rows),
        "file format, fitted within the group": by_group(within, rows),
    }


def auc(labels: Sequence[int], scores: np.ndarray) -> float:
    return round(float(roc_auc_score(labels, scores)), 4)


if __name__ == "__main__":
    tyro.cli(main)
