"""Flats of the simulated raft as products, made in memory: parts of the truth, photons, gains; no files."""

from __future__ import annotations

import numpy as np

from calibrant.frame import DQ
from calibrant.product import Product, Quantity
from calibrant.simulate.camera import load
from calibrant.simulate.flat_structure import amplitudes, flat
from calibrant.simulate.raft import make_sensor

COMCAM = load("comcam")
BANDS = "ugrizy"
OFF = {
    "amplifiers": {"scatter": {"gain": 0.0}},
    "vignetting": {"structure": {"vignetting": 0.0}},
    "dust": {"structure": {"dust": 0}},
    "pixels": {"structure": {"prnu": 0.0}},
    "columns": {"detector": {"bad_columns": 0}},
    **{part: {"bands": {part: 0.0}} for part in ("tree_rings", "edges", "coating", "fringes")},
}


def without(*parts: str):
    """The camera with some structures switched off."""
    camera = COMCAM
    for part in parts:
        ((room, change),) = OFF[part].items()
        if room == "bands":
            bands = {name: band.model_copy(update=change) for name, band in camera.bands.items()}
            camera = camera.model_copy(update={"bands": bands})
        elif room == "detector":
            camera = camera.model_copy(update={"detector": {**camera.detector, **change}})
        else:
            camera = camera.model_copy(update={room: getattr(camera, room).model_copy(update=change)})
        if part == "dust":
            epochs = tuple(epoch.model_copy(update={"dust": ()}) for epoch in camera.epochs)
            camera = camera.model_copy(update={"epochs": epochs})
    return camera


def sensor(camera, number, seed):
    return make_sensor(camera, camera.size("small"), number, seed)


def master(camera, sensor, band, *, frames=5, dim=1.0, seed=0, additive=None):
    """The master flat that so many frames would give; `dim` times the usual light, `additive` adu on top."""
    passband = camera.bands[band]
    rng = np.random.default_rng((seed, sensor.number, "ugrizy".index(band), int(1000 * dim)))
    response = flat(sensor.parts, amplitudes(passband), 1)
    dark = sensor.detector.dark * passband.exptime  # electron, whatever the light
    electrons = response * passband.level * dim + dark
    gain = np.asarray(sensor.detector.gain)
    read = np.asarray(sensor.detector.read_noise) * gain
    total, squares = np.zeros(response.shape), np.zeros(response.shape)
    for _ in range(frames):
        one = (rng.poisson(electrons) + rng.normal(0.0, read)) / gain
        one += 0.0 if additive is None else additive
        total += one
        squares += one * one
    mean = total / frames
    variance = (squares / frames - mean**2) / (frames - 1)
    level = float(np.median(mean))
    data = mean / level
    dq = np.zeros(data.shape, np.uint32)
    low = data < 0.05
    data[low] = 0.05
    dq[low] |= np.uint32(DQ.UNRELIABLE_FLAT)
    return Product(
        "flat",
        instrument=camera.name,
        keys={"detector": str(sensor.number), "filter": band},
        planes={
            "data": data.astype(np.float32),
            "variance": (variance / level**2).astype(np.float32),
            "dq": dq,
        },
        units={"data": "", "variance": ""},
        quantities=(Quantity("level", level, None, "adu"),),
    )


def masters(camera=COMCAM, detectors=(0, 4), bands=BANDS, seed=5, **options):
    """Flats, and the sensors that they are of."""
    sensors = [sensor(camera, number, seed) for number in detectors]
    return [master(camera, one, band, **options) for one in sensors for band in bands], sensors
