"""A page on the predictions for files: labels, places and evidence, without external resources."""

from avff_lib.report.page import Page

__all__ = ["Page"]
