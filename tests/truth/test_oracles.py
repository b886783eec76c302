"""The chain of the notebook, number for number, and ccdproc as a second opinion."""

from __future__ import annotations

import astropy.units as u
import ccdproc
import numpy as np
import pytest
from astropy.nddata import CCDData

from calibrant.effects import bias, dark, flat

PLAIN = {"method": "median", "reject": "none"}


def cube(series):
    return np.array([np.asarray(frame.load().data, np.float64) for frame in series.frames()])


@pytest.fixture
def night(camera):
    one = camera(7, shape=(64, 96))
    series = {
        "bias": one.series("bias", 9),
        "dark": one.series("dark", 7, 60.0),
        "flat": one.series("flat", 5, 4.0, 20000.0),
    }
    return one, series, one.expose("light", 120.0, 500.0)


@pytest.fixture
def notebook(night):
    """Median bias; median of (dark - bias)/t; median of (flat - bias - dark t), normalised: in float64."""
    _, series, _ = night
    zero = np.median(cube(series["bias"]), axis=0)
    current = np.median((cube(series["dark"]) - zero) / 60.0, axis=0)
    light = np.median(cube(series["flat"]) - zero - current * 4.0, axis=0)
    return zero, current, light / np.median(light)


@pytest.fixture
def ours(night):
    _, series, _ = night
    zero = bias.measure(series["bias"], **PLAIN)
    current = dark.measure(series["dark"], products={"bias": zero}, level="keep", **PLAIN)
    response = flat.measure(
        series["flat"], products={"bias": zero, "dark": current}, scale="none", saturation=1e9, **PLAIN
    )
    return zero, current, response


def test_the_chain_of_the_notebook(night, notebook, ours):
    _, _, light = night
    zero, current, response = notebook
    np.testing.assert_array_equal(ours[0].data, zero.astype(np.float32))
    np.testing.assert_allclose(ours[1].data, current, rtol=3e-7, atol=1e-9)
    np.testing.assert_allclose(ours[2].data, response, rtol=3e-7)
    done = flat.apply(dark.apply(bias.apply(light, ours[0]), ours[1]), ours[2])
    expected = (light.data - zero - current * 120.0) / response
    np.testing.assert_allclose(done.data, expected, rtol=1e-6, atol=1e-3)
    assert [step.effect for step in done.history] == ["bias", "dark", "flat"]
    assert [step.product for step in done.history] == [product.identity for product in ours]


def test_scaled_flats_agree_with_the_notebook_where_levels_are_equal(night, notebook, ours):
    """Scaling each flat by its own median changes nothing but the noise of that median."""
    _, series, _ = night
    scaled = flat.measure(
        series["flat"], products={"bias": ours[0], "dark": ours[1]}, saturation=1e9, **PLAIN
    )
    np.testing.assert_allclose(scaled.data, notebook[2], rtol=2e-3)


def test_the_notebook_is_wrong_where_levels_differ(camera):
    """The twin: of three twilight flats it takes the middle one, and we do better."""
    one = camera(8, shape=(64, 96))
    zero = bias.measure(one.series("bias", 9))
    series = one.series("flat", 3, 0.0, (8000.0, 16000.0, 32000.0))
    truth = one.flat / np.median(one.flat)
    light = np.median(cube(series) - zero.data, axis=0)
    theirs = np.std(light / np.median(light) / truth)
    ours = np.std(flat.measure(series, products={"bias": zero}).data / truth)
    assert ours < 0.8 * theirs


def ccd(array, **meta):
    return CCDData(np.asarray(array, np.float64), unit=u.adu, meta=meta)


def test_ccdproc_agrees(night, ours):
    """Bias, dark scaled by exposure time, flat: within float32."""
    _, series, light = night
    zero, current, response = ours
    ccds = [ccd(image) for image in cube(series["bias"])]
    master = ccdproc.combine(ccds, method="median")
    np.testing.assert_allclose(zero.data, master.data, rtol=1e-7)
    science = ccdproc.subtract_bias(ccd(light.data), ccd(zero.data))
    science = ccdproc.subtract_dark(
        science,
        ccd(current.data * np.float32(60.0)),
        dark_exposure=60.0 * u.s,
        data_exposure=120.0 * u.s,
        scale=True,
    )
    science = ccdproc.flat_correct(science, ccd(response.data), norm_value=1.0)
    done = flat.apply(dark.apply(bias.apply(light, zero), current), response)
    np.testing.assert_allclose(done.data, science.data, rtol=1e-5, atol=1e-3)


def test_ccdproc_agrees_on_the_errors(night, ours):
    """Uncertainties of bias and flat propagate as independent ones do."""
    _, _, light = night
    zero, _, response = ours
    ours_done = flat.apply(bias.apply(light, zero), response)

    def with_error(product):
        variance = product.planes["propagated"] + product.planes.get("systematic", np.float32(0))
        made = ccd(product.data)
        made.uncertainty = ccdproc.core.StdDevUncertainty(np.sqrt(variance))
        return made

    science = ccdproc.subtract_bias(ccd(light.data), with_error(zero))
    science.uncertainty = with_error(zero).uncertainty
    science = ccdproc.flat_correct(science, with_error(response), norm_value=1.0)
    np.testing.assert_allclose(np.sqrt(ours_done.systematic), science.uncertainty.array, rtol=1e-4)


def test_agreement_has_teeth(night, notebook, ours):
    """The twin: a chain that forgets the dark time is seen."""
    _, _, light = night
    done = flat.apply(dark.apply(bias.apply(light, ours[0]), ours[1]), ours[2])
    wrong = (light.data - notebook[0] - notebook[1] * 60.0) / notebook[2]
    assert not np.allclose(done.data, wrong, rtol=1e-6, atol=1e-3)
