"""Labelled pseudo-fakes for training, made from genuine recordings: `forge`."""

from avff_lib.forge.methods import FAKES, METHODS
from avff_lib.forge.write import Forged, forge

__all__ = ["FAKES", "METHODS", "Forged", "forge"]
