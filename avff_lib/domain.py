"""Whether a file looks and sounds like the clips that a detector was calibrated on.

A detector answers every input with a number, also where it has never met anything alike. Distance among the
features of its own encoders shows that: files of another world lie outside of the cloud of the validation
clips. Sound and picture have a cloud each, since either may be strange alone. It is a warning, not a proof:
a file inside of both clouds can be strange in ways that the encoders do not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import GroupKFold

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError

INSIDE = 0.99  # share of the validation clips, of people held out, that lies within the limit
FOLDS = 5
STREAMS = ("sound", "picture")


@dataclass(frozen=True, eq=False)
class Cloud:
    """Clips in the space of the features of one stream.

    The distance is Mahalanobis's, with a covariance shrunk as far as so few clips ask for. Sources: Lee et
    al. 2018, section 2.1 (distance, one class here); Ledoit and Wolf 2004 (shrinkage).

    Attributes:
        mean: ``(D,)`` of the features.
        precision: ``(D, D)``, the inverse of their covariance.
        limit: the distance within which `INSIDE` of the clips lie, each measured by a cloud of other people.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float = 1.0

    @classmethod
    def fit(cls, features: np.ndarray, people: Sequence[str]) -> Cloud:
        """From features ``(N, D)`` of N clips, and who is in each: `FOLDS` people or more."""
        held_out = np.empty(len(features))
        for rest, part in GroupKFold(FOLDS).split(features, groups=people):
            held_out[part] = cls._of(features[rest]).distances(features[part])
        found = cls._of(features)
        return cls(found.mean, found.precision, float(np.quantile(held_out, INSIDE, method="higher")))

    @classmethod
    def _of(cls, features: np.ndarray) -> Cloud:
        found = LedoitWolf().fit(features)
        return cls(found.location_, found.precision_)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Of features ``(N, D)`` from the mean: ``(N,)``, about 1 for clips like those of the cloud."""
        apart = features - self.mean
        return np.sqrt(np.einsum("nd,de,ne->n", apart, self.precision, apart) / len(self.mean))


@dataclass(frozen=True, eq=False)
class Domain:
    """A cloud for each stream."""

    sound: Cloud
    picture: Cloud

    @classmethod
    def fit(cls, sound: np.ndarray, picture: np.ndarray, people: Sequence[str]) -> Domain | None:
        """From features of N clips, each ``(N, D)``, and who is in them; None with less than `FOLDS` people.

        Each is the mean over a clip's windows, and over the time in these.
        """
        if len(set(people)) < FOLDS:
            return None
        return cls(Cloud.fit(sound, people), Cloud.fit(picture, people))

    def strangeness(self, sound: np.ndarray, picture: np.ndarray) -> dict[str, float]:
        """How far a file's features, each ``(D,)``, lie from the clips, as multiples of the clouds' limits.

        Returns:
            By `STREAMS`; above 1 the file lies outside.

        Raises:
            AVFFError: there are more or fewer features than the clouds were made of.
        """
        found = {}
        for name, features in zip(STREAMS, (sound, picture), strict=True):
            cloud: Cloud = getattr(self, name)
            if features.shape != cloud.mean.shape:
                raise AVFFError(
                    f"the checkpoint's domain has {len(cloud.mean)} features of the {name}, the model gives "
                    f"{len(features)}; take both files from one checkpoint"
                )
            found[name] = float(cloud.distances(features[None])[0] / cloud.limit)
        return found

    def save(self, path: Path) -> None:
        """Write into a safetensors file, in one atomic step."""
        arrays = {}
        for name in STREAMS:
            cloud: Cloud = getattr(self, name)
            arrays[f"{name}.mean"] = torch.from_numpy(cloud.mean).float()
            arrays[f"{name}.precision"] = torch.from_numpy(cloud.precision).float()
            arrays[f"{name}.limit"] = torch.tensor([cloud.limit])
        with atomic_write(path) as partial:
            save_file(arrays, partial)

    @classmethod
    def load(cls, path: Path) -> Domain:
        """Read what `save` wrote.

        Raises:
            AVFFError: it is something else.
        """
        try:
            arrays = {name: tensor.double().numpy() for name, tensor in load_file(path).items()}
            clouds = []
            for name in STREAMS:
                mean, precision = arrays[f"{name}.mean"], arrays[f"{name}.precision"]
                (limit,) = arrays[f"{name}.limit"]
                if precision.shape != mean.shape * 2 or not limit > 0:
                    raise ValueError(f"shapes {mean.shape} and {precision.shape}, limit {limit}")
                clouds.append(Cloud(mean, precision, float(limit)))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise AVFFError(f"{path} cannot be read ({error}); copy the checkpoint anew") from None
        return cls(*clouds)
