"""The alternative of bench/registry.py, in a virtual environment of its own: lsst-daf-butler.

    python bench/_butler.py make FOLDER DETECTORS FILTERS EPOCHS     a repository with certified flats
    python bench/_butler.py open FOLDER                              open it, and nothing else
    python bench/_butler.py serve FOLDER                             answer lines of commands, timed there

One flat for each detector, filter and epoch, valid for that epoch; one science exposure in each.
"""

from __future__ import annotations

import json
import sys
import time

START = 1_730_000_000  # seconds, Unix
SPAN = 86_400  # seconds that each flat is valid
RUN, CALIBRATIONS, KIND, CAMERA = "runs/flats", "calibrations", "flat", "Cam"


def _time(seconds):
    from astropy.time import Time

    return Time(START + seconds, format="unix").tai


def make(folder, detectors, filters, epochs):
    """A repository of detectors x filters x epochs certified flats."""
    from lsst.daf.butler import Butler, CollectionType, DatasetRef, DatasetType, Timespan

    Butler.makeRepo(folder)
    butler = Butler.from_config(folder, writeable=True, run=RUN)
    registry = butler.registry
    registry.insertDimensionData(
        "instrument",
        {
            "name": CAMERA,
            "detector_max": detectors,
            "visit_max": 10**7,
            "exposure_max": 10**7,
            "class_name": "none",
        },
    )
    for number in range(detectors):
        registry.insertDimensionData(
            "detector", {"instrument": CAMERA, "id": number, "full_name": f"D{number}"}
        )
    for band in range(filters):
        registry.insertDimensionData(
            "physical_filter", {"instrument": CAMERA, "name": f"f{band}", "band": f"b{band}"}
        )
    universe = butler.dimensions
    kind = DatasetType(
        KIND, ("instrument", "detector", "physical_filter"), "StructuredDataDict",
        universe=universe, isCalibration=True,
    )  # fmt: skip
    registry.registerDatasetType(kind)
    registry.registerCollection(CALIBRATIONS, CollectionType.CALIBRATION)
    for epoch in range(epochs):
        run = f"{RUN}/{epoch}"
        registry.registerRun(run)
        span = Timespan(_time(epoch * SPAN), _time((epoch + 1) * SPAN))
        day = 20240000 + epoch
        registry.insertDimensionData("day_obs", {"instrument": CAMERA, "id": day})
        _exposures(registry, epoch, filters, day)
        refs = []
        for number in range(detectors):
            for band in range(filters):
                where = {"instrument": CAMERA, "detector": number, "physical_filter": f"f{band}"}
                refs.append(DatasetRef(kind, registry.expandDataId(where), run=run))
        registry._importDatasets(refs)
        registry.certify(CALIBRATIONS, refs, span)


def _exposures(registry, epoch, filters, day):
    """One science exposure for each filter, in the middle of the epoch."""
    from lsst.daf.butler import Timespan

    for band in range(filters):
        number = epoch * filters + band
        begin = epoch * SPAN + SPAN / 2 + band
        registry.insertDimensionData("group", {"instrument": CAMERA, "name": str(number)})
        registry.insertDimensionData(
            "exposure",
            {
                "instrument": CAMERA,
                "id": number,
                "obs_id": str(number),
                "physical_filter": f"f{band}",
                "day_obs": day,
                "group": str(number),
                "timespan": Timespan(_time(begin), _time(begin + 0.5)),
            },
        )


def serve(folder):
    """Answer commands of standard input, a JSON line each, with the seconds that they took."""
    from lsst.daf.butler import Butler, DatasetRef, Timespan

    butler = Butler.from_config(folder, writeable=True, collections=[CALIBRATIONS])
    print(json.dumps({"ready": True}), flush=True)
    kind = butler.registry.getDatasetType(KIND)
    for line in sys.stdin:
        ask = json.loads(line)
        where = {"instrument": CAMERA, "detector": ask.get("detector")}
        began = time.perf_counter()
        if ask["do"] == "time":
            where["physical_filter"] = f"f{ask['filter']}"
            begin = _time(ask["seconds"])
            began = time.perf_counter()
            found = butler.find_dataset(KIND, where, timespan=Timespan(begin, _time(ask["seconds"] + 1)))
        elif ask["do"] == "exposure":
            # What `get` does before it reads: filter and time follow from the exposure.
            found = butler._findDatasetRef(KIND, {**where, "exposure": ask["exposure"]})
        else:
            where["physical_filter"] = f"f{ask['filter']}"
            run = f"{RUN}/c{ask['seconds']}"
            butler.registry.registerRun(run)
            ref = DatasetRef(kind, butler.registry.expandDataId(where), run=run)
            butler.registry._importDatasets([ref])
            span = Timespan(_time(ask["seconds"]), _time(ask["seconds"] + SPAN))
            began = time.perf_counter()
            butler.registry.certify(CALIBRATIONS, [ref], span)
            found = ref
        taken = time.perf_counter() - began
        print(json.dumps({"seconds": taken, "found": found is not None}), flush=True)


def main():
    """What the command line asks for."""
    verb, folder, *numbers = sys.argv[1:]
    if verb == "make":
        make(folder, *map(int, numbers))
    elif verb == "open":
        from lsst.daf.butler import Butler

        Butler.from_config(folder, collections=[CALIBRATIONS])
    else:
        serve(folder)


if __name__ == "__main__":
    main()
