"""Time zones by their names, such as Europe/Berlin, summer time and all.

The tables are those of the package `tzdata` where it is installed, and the machine's own where it
is not. They say what every moment's offset is, so reading one needs no clock.
"""

from __future__ import annotations

from datetime import timedelta, timezone, tzinfo
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo


@cache
def named(name: str) -> tzinfo | None:
    """The zone of a name; None where there is no such zone."""
    parts = name.split("/")
    if not all(part.replace("_", "").replace("-", "").replace("+", "").isalnum() for part in parts):
        return None
    try:
        table = files("tzdata").joinpath("zoneinfo", *parts)
        with table.open("rb") as opened:
            return ZoneInfo.from_file(opened, key=name)
    except (ModuleNotFoundError, OSError, ValueError):
        pass
    try:
        return ZoneInfo.no_cache(name)
    except (LookupError, OSError, ValueError):
        return None


def fixed(minutes: int) -> tzinfo:
    """The same distance from UTC all year."""
    return timezone(timedelta(minutes=minutes))
