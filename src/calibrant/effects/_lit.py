"""Flats as they are measured: in order of time, above the zero level, saturated pixels flagged."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from calibrant.effects._input import check_kinds, prepare, with_values, without_copies
from calibrant.effects._steps import bias_step, name_of
from calibrant.effects.common import Record, Wrapping, begin, bias_for, done_by_steps, facts
from calibrant.errors import HistoryError, SelectionError
from calibrant.exposures import Exposures
from calibrant.product import Product
from calibrant.stack.source import Source

LEVELLED = frozenset({"bias", "dark", "overscan", "pedestal"})


def lit_flats(
    exposures: Exposures,
    products: Mapping[str, Product],
    kind: str,
    like: str,
    record: Record,
    *,
    saturation: float | None,
    forbids: Collection[str] = ("flat", "gain"),
) -> tuple[Exposures, list[Source]]:
    """The flats that a `kind` is measured on, and their sources.

    Parameters
    ----------
    exposures : Exposures
    products : mapping of Product
        ``bias``: subtracted.
    kind, like : str
        What is measured, and whose match keys must agree.
    record : Record
        Takes the notes on what is left out.
    saturation : float or None
        adu, of raw values; None takes the instrument's.
    forbids : collection of str
        Effects that must not have been applied.

    Raises
    ------
    SelectionError
        No flats, or mixed ones.
    HistoryError
        If nothing takes the zero level away, or a forbidden effect was applied.
    """
    if len(exposures) == 0:
        raise SelectionError(f"there are no flats to measure a {kind} from", do="check the selection")
    check_kinds(exposures, "flat")
    with_light = with_values(exposures, kind, record.notes)
    series = begin(without_copies(with_light, kind, record.notes), like, forbids=forbids)
    bias = bias_for(series, products)
    wrapped = any(isinstance(step, Wrapping) for step in series.steps)
    done = bias is not None or wrapped or done_by_steps(series) & {"bias", "pedestal"}
    for exposure in series:
        if not done and not exposure.applied & LEVELLED:
            raise HistoryError(
                f"a {kind} needs flats without their zero level",
                where=name_of(exposure),
                do="give a bias, or the flats through the step of their overscan",
            )
    limit = facts(series, {}, saturation=saturation).saturation
    steps = [() if bias is None else (bias_step(exposure, bias),) for exposure in series]
    return series, [prepare(source, own, limit) for source, own in zip(series.sources(), steps, strict=True)]
