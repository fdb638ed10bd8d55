"""A page on the predictions for files: what, where, and on which evidence; it loads nothing."""

from avff_lib.report.page import Page

__all__ = ["Page"]
