"""The alternatives of bench/read_noise.py.

    python bench/_reffiles.py WAY METHOD OUT FILE ...

WAY is ``reffiles`` (the package jwst_reffiles, in a virtual environment of its own) or ``numpy``: the same
published algorithm, made again of NumPy and `astropy.stats.sigma_clip`. Prints seconds and peak memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
import warnings

import numpy as np

SLICE = 50  # columns


def published(files, method, out):
    """Differences of groups, clipped in slices of columns, or file by file."""
    from astropy.io import fits

    if method == "stack":
        cols = fits.getdata(files[0], "SCI").shape[3]
        parts = [_scatter(np.concatenate([_differences(file, first) for file in files]))
                 for first in range(0, cols, SLICE)]  # fmt: skip
        noise = np.concatenate(parts, axis=1)
    else:
        noise = _clipped(np.array([_scatter(_differences(file, 0, None)) for file in files])).mean(axis=0)
    fits.writeto(out, noise.filled(np.nan), overwrite=True)


def _differences(file, first, width=SLICE):
    from astropy.io import fits

    data = fits.getdata(file, "SCI", uint=False)[..., first : None if width is None else first + width]
    return np.concatenate([one[1::2] - one[::2] for one in data])


def _clipped(values):
    from astropy.stats import sigma_clip

    return sigma_clip(values, sigma=3.0, maxiters=3, axis=0)


def _scatter(values):
    return np.std(_clipped(values), axis=0)


def reffiles(files, method, out):
    """The package itself."""
    from jwst_reffiles.readnoise import readnoise

    readnoise.make_readnoise(files, method=method, outfile=out, nproc=1)


def main():
    name, method, out, *files = sys.argv[1:]
    warnings.simplefilter("ignore")
    way = {"numpy": published, "reffiles": reffiles}[name]
    if name == "reffiles":
        import jwst_reffiles.readnoise.readnoise  # noqa: F401 - loading is not timed
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        way(files, method, out)
    seconds = time.perf_counter() - began
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": seconds, "peak": most * 1024}))


if __name__ == "__main__":
    main()
