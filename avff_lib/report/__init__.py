"""A page that says what was found in a file, where, and what that rests on; it loads nothing."""

from avff_lib.report.page import Page

__all__ = ["Page"]
