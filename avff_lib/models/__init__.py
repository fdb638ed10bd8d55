"""Detectors; importing this package makes every family known to `Detector.from_pretrained`."""

from avff_lib.models.avff import AVFF
from avff_lib.models.avff_mae import AVFFMAE
from avff_lib.models.base import Detector
from avff_lib.models.configs import AVFFConfig, AVFFMAEConfig, SyncNetConfig
from avff_lib.models.sync_net import SyncNet

__all__ = ["AVFF", "AVFFMAE", "AVFFConfig", "AVFFMAEConfig", "Detector", "SyncNet", "SyncNetConfig"]
