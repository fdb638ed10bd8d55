"""Audio-visual deepfake detection, from a media file to a verdict."""

__version__ = "0.1.0"
