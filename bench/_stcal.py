"""The alternative of bench/ramp.py, in a virtual environment of its own: stcal.

    python bench/_stcal.py FOLDER GAIN NOISE FRAME     answer lines of commands, timed there

FOLDER holds `NAME.npy`, reads (groups, rows, cols) float32 [adu], and `NAME.flags.npy`, uint8 of the same
shape, JUMP_DET where a jump is. A line is {"name": ..., "do": "ols" | "search" | "likely"}: slopes by OLS_C
with the flags that are given, or with those of stcal's own search, or by LIKELY, which searches itself.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np

FLAGS = {
    "GOOD": 0, "DO_NOT_USE": 1, "SATURATED": 2, "JUMP_DET": 4, "PERSISTENCE": 32, "CHARGELOSS": 128,
    "NO_GAIN_VALUE": 2**19, "UNRELIABLE_SLOPE": 2**24, "REFERENCE_PIXEL": 2**31,
}  # fmt: skip


def searched(data, flags, gain, noise):
    """Flags of the search by two-point differences."""
    from stcal.jump.jump import detect_jumps_data
    from stcal.jump.jump_class import JumpData

    task = JumpData(gain2d=gain, rnoise2d=noise, dqflags=FLAGS)
    task.init_arrays_from_arrays(data, flags, np.zeros(data.shape[2:], np.uint32))
    task.nframes, task.dt_group, task.n_reads_groupdiff = 1, np.ones(1), np.ones(1) * 2
    task.flag_4_neighbors, task.max_cores = False, "none"
    return detect_jumps_data(task)[0]


def fitted(data, flags, gain, noise, frame, algorithm):
    """Slopes, adu/s."""
    from stcal.ramp_fitting.ramp_fit import ramp_fit_data
    from stcal.ramp_fitting.ramp_fit_class import RampData

    task, shape = RampData(), data.shape[2:]
    task.algorithm = algorithm
    dark = np.zeros(shape, np.float32)
    task.set_arrays(data=data, groupdq=flags, pixeldq=np.zeros(shape, np.uint32), average_dark_current=dark)
    task.set_meta(name="NIRCam", frame_time=frame, group_time=frame, groupgap=0, nframes=1)
    task.set_dqflags(FLAGS)
    task.start_row, task.num_rows = 0, shape[0]
    return ramp_fit_data(task, False, noise, gain, algorithm, "optimal", "none")[0]["slope"]


def main():
    """What the command lines ask for."""
    folder, (gain, noise, frame) = Path(sys.argv[1]), map(float, sys.argv[2:5])
    logging.disable(logging.CRITICAL)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        data = np.load(folder / f"{ask['name']}.npy")[None]
        given = folder / f"{ask['name']}.flags.npy"
        flags = (
            np.load(given)[None] if ask["do"] == "ols" and given.exists() else np.zeros(data.shape, np.uint8)
        )
        gains = np.full(data.shape[2:], gain, np.float32)
        noises = np.full(data.shape[2:], noise * 2**0.5, np.float32)  # of a difference of two reads
        wall, cpu = time.perf_counter(), time.process_time()
        if ask["do"] == "search":
            flags = searched(data, flags, gains, noises)
        slope = fitted(data, flags, gains, noises, frame, "LIKELY" if ask["do"] == "likely" else "OLS_C")
        answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        np.save(folder / "slope.npy", slope)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
