"""The errors that the library raises for its users."""

from __future__ import annotations


class AVFFError(Exception):
    """Base of all errors for users: one sentence with what was found, what was expected, what to do."""


class MediaError(AVFFError):
    """A media file cannot be read or scored; the sentence gives the reason."""
