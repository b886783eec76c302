"""Instrument: what a camera's headers, file names and detectors mean, read from a text file."""

from __future__ import annotations

from calibrant.instrument.check import Finding, check, load, locate, names, recognise, source_text
from calibrant.instrument.clock import Border, Clock
from calibrant.instrument.detector import Amplifier, Detector, Layout
from calibrant.instrument.focal_plane import FocalPlane
from calibrant.instrument.model import Instrument, Nominal
from calibrant.instrument.readout import Readout

__all__ = [
    "Amplifier",
    "Border",
    "Clock",
    "Detector",
    "Finding",
    "FocalPlane",
    "Instrument",
    "Layout",
    "Nominal",
    "Readout",
    "check",
    "load",
    "locate",
    "names",
    "recognise",
    "source_text",
]
