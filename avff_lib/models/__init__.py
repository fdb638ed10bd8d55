"""Detectors; importing this package makes every family known to `Detector.from_pretrained`."""

from avff_lib.models.avff import AVFF, AVFFConfig
from avff_lib.models.avff_mae import AVFFMAE, AVFFMAEConfig
from avff_lib.models.base import Detector

__all__ = ["AVFF", "AVFFMAE", "AVFFConfig", "AVFFMAEConfig", "Detector"]
