"""Exposures: a table of frames, known by their headers, to filter, group and read; and `combine`."""

from __future__ import annotations

from calibrant.exposures.facade import combine, debug_pixel
from calibrant.exposures.scan import Problem
from calibrant.exposures.table import Exposures

__all__ = ["Exposures", "Problem", "combine", "debug_pixel"]
