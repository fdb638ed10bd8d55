"""Faces: detected in single frames, tracked through clips and files, cropped."""

from avff_lib.faces.crop import crop_face
from avff_lib.faces.detect import detect_faces
from avff_lib.faces.mouth import speaker_face
from avff_lib.faces.track import FaceTrack, FaceTracker, track_faces
from avff_lib.faces.tracked import TrackedClip, iter_tracked

__all__ = [
    "FaceTrack",
    "FaceTracker",
    "TrackedClip",
    "crop_face",
    "detect_faces",
    "iter_tracked",
    "speaker_face",
    "track_faces",
]
