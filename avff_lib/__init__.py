"""Audio-visual deepfake detection, from a media file to a prediction.

>>> import avff_lib
>>> detector = avff_lib.Detector.from_pretrained("avff-people")  # doctest: +SKIP
>>> detector.predict("some.mp4").label  # doctest: +SKIP
'in sync'

The names below are the public interface; ``book/public_api.md`` has an example of each. They are imported on
first use, since torch alone takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from avff_lib.utils.extras import explain_missing_extra

if TYPE_CHECKING:
    from avff_lib.data.dataset import AVDataset as AVDataset
    from avff_lib.errors import AVFFError as AVFFError
    from avff_lib.evaluation.evaluate import evaluate as evaluate
    from avff_lib.inference.predictor import predict as predict
    from avff_lib.inference.predictor import process_video as process_video
    from avff_lib.media.decode import read_clip as read_clip
    from avff_lib.models import AVFF as AVFF
    from avff_lib.models import AVFFMAE as AVFFMAE
    from avff_lib.models import Detector as Detector
    from avff_lib.training.loop import fit as fit

__version__ = "0.2.0"

_MODULES = {
    "AVFF": "models",
    "AVFFMAE": "models",
    "AVFFError": "errors",
    "AVDataset": "data.dataset",
    "Detector": "models",
    "evaluate": "evaluation.evaluate",
    "fit": "training.loop",
    "predict": "inference.predictor",
    "process_video": "inference.predictor",
    "read_clip": "media.decode",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'avff_lib' has no attribute {name!r}")
    with explain_missing_extra(f"avff_lib.{name}"):
        return getattr(importlib.import_module(f"avff_lib.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
