"""Make a dark library of darks made while they are read, and print the memory that it took.

Run as a program of its own, with the root of the checkout as PYTHONPATH:
``probe_library.py SIZE DARKS BUDGET``.
"""

from __future__ import annotations

import json
import sys

from bench._darks import GAIN, READ_NOISE, darks, sources
from bench.covariance import forgotten, high_water

from calibrant.effects import dark_library


def main():
    size, count, budget = map(int, sys.argv[1:])
    options = {"gain": GAIN, "read_noise": READ_NOISE, "runner": 2}
    dark_library.measure(darks(sources(25, 64, 64), 64, 64), **options)  # kernels and libraries are loaded
    series = darks(sources(count, size, size), size, size)
    before = forgotten()
    product = dark_library.measure(series, budget=budget, **options)
    energy = product.quantity("activation_energy").value
    print(json.dumps({"used": (high_water() - before) * 1e6, "energy": energy}))


main()
