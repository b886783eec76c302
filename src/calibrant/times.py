"""Times of headers as microseconds since 1970 UTC, without leap seconds."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from calibrant.errors import HeaderError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400_000_000  # microseconds
MJD_1970 = 40587.0
JD_1970 = 2440587.5
SCALES = ("UTC", "TAI", "TT", "TDB", "TCG", "TCB", "UT1")
_OLD_DATE = re.compile(r"^(\d{1,2})/(\d{1,2})/(\d{2})$")
_DAY_OF_YEAR = re.compile(r"^(\d{4})/(\d{3})(?: +\w+ +\d+)? +(\d\d:\d\d:\d\d)(\.\d+)?(?: *UTC|Z)?$")
_LEAP_SECOND = re.compile(r"^(.*\d\d:\d\d):60(\.\d*)?(.*)$")


def parse_time(text: str, clock: str | None = None, scale: str = "UTC") -> int:
    """Microseconds since 1970 UTC of a FITS date, with its time of day in the same or in a second card.

    No zone means the scale's own time; a zone in the text is honoured; ``DD/MM/YY`` is of before 2000.

    Parameters
    ----------
    text : str
        ``2017-10-18T04:10:07.926``, ``2017-10-18``, ``18/10/97``, or with the day of the year
        ``2017/291 Oct 18 04:10:07.92600UTC``.
    clock : str, optional
        Time of day, used where `text` has none.
    scale : str
        TIMESYS: UTC, TAI, TT, TDB, ...

    Raises
    ------
    HeaderError
        If the text is no date, or the scale is unknown.
    """
    text = text.strip()
    if len(text) <= 10:
        old = _OLD_DATE.match(text)
        if old:
            text = f"19{old[3]}-{old[2]:0>2}-{old[1]:0>2}"
        if clock and clock.strip():
            text = f"{text}T{_padded(clock.strip())}"
    ordinal = _DAY_OF_YEAR.match(text)
    if ordinal:
        first = datetime(int(ordinal[1]), 1, 1, tzinfo=UTC).date()
        text = f"{first + timedelta(days=int(ordinal[2]) - 1)}T{ordinal[3]}{(ordinal[4] or '')[:7]}"
    return to_utc(_microseconds(text), scale)


def _padded(clock: str) -> str:
    return clock if clock[1:2] != ":" else f"0{clock}"


def _microseconds(text: str) -> int:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        leap = _LEAP_SECOND.match(text)
        if leap:
            # The last second of a day with a leap second: POSIX time repeats the next one.
            return _microseconds(f"{leap[1]}:59{leap[2] or ''}{leap[3]}") + 1_000_000
        raise HeaderError("not a date", expected="YYYY-MM-DDThh:mm:ss", got=repr(text)) from None
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    return (stamp - _EPOCH) // _MICROSECOND


def from_mjd(days: float, scale: str = "UTC") -> int:
    """Microseconds since 1970 UTC of a modified Julian date."""
    return to_utc(round((days - MJD_1970) * _DAY), scale)


def from_jd(days: float, scale: str = "UTC") -> int:
    """Microseconds since 1970 UTC of a Julian date (a double holds it to about 40 microseconds)."""
    return to_utc(round((days - JD_1970) * _DAY), scale)


def to_utc(microseconds: int, scale: str) -> int:
    """UTC from a count of microseconds in another time scale: TAI read as UTC would be 37 s off.

    Raises
    ------
    HeaderError
        If the scale is none of FITS.
    """
    scale = scale.strip().upper()
    if scale in ("UTC", "UT", "GMT", "Z", ""):
        return microseconds
    scale = {"IAT": "TAI", "ET": "TT", "TDT": "TT"}.get(scale, scale)
    if scale not in SCALES:
        raise HeaderError("an unknown time scale", where="TIMESYS", expected=", ".join(SCALES), got=scale)
    return _through_astropy(microseconds, scale)


def _through_astropy(microseconds: int, scale: str) -> int:
    # Imported late: half a second, and nearly all headers are in UTC.
    from astropy.time import Time
    from astropy.utils import iers

    days, rest = divmod(microseconds, _DAY)
    origin = date(1970, 1, 1).toordinal() + 1721424.5
    with iers.conf.set_temp("auto_download", False):
        utc = Time(origin + days, rest / _DAY, format="jd", scale=scale.lower()).utc
    whole = round(float(utc.jd1 - JD_1970) * 2) * (_DAY // 2)
    return whole + round(float(utc.jd1 - JD_1970 - whole / _DAY + utc.jd2) * _DAY)
