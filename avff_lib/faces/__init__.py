"""Faces: detected in single frames, tracked through clips and files, cropped."""

from avff_lib.faces.crop import crop_face
from avff_lib.faces.detect import detect_faces
from avff_lib.faces.track import FaceTrack, speaker_face, track_faces
from avff_lib.faces.tracker import FaceTracker

__all__ = ["FaceTrack", "FaceTracker", "crop_face", "detect_faces", "speaker_face", "track_faces"]
