"""Robust location and scale, with the factors of small samples and of clipping: arrays in, arrays out."""

from calibrant.stats.clipping import ClippedStats, clipped_stats, mad_std, percentiles
from calibrant.stats.display import zscale, zscale_lines
from calibrant.stats.factors import MAD_TO_STD, clip_factor, median_factor, std_bias
from calibrant.stats.lines import Line, robust_line, weighted_line
from calibrant.stats.modes import half_sample_mode, mode
from calibrant.stats.values import finite_median

__all__ = [
    "MAD_TO_STD",
    "ClippedStats",
    "Line",
    "clip_factor",
    "clipped_stats",
    "finite_median",
    "half_sample_mode",
    "mad_std",
    "median_factor",
    "mode",
    "percentiles",
    "robust_line",
    "std_bias",
    "weighted_line",
    "zscale",
    "zscale_lines",
]
