"""Times, durations, shares and numbers as the language in force writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from babel.numbers import get_decimal_symbol

from service.web.console.language.translations import current, gettext, is_source


def clock(at: float) -> str:
    """A moment for people; the page's script shows it in their own time zone."""
    moment = datetime.fromtimestamp(at, UTC)
    if is_source():
        return moment.strftime("%a %H:%M UTC")
    days = current().locale.days["format"]["abbreviated"]
    return f"{days[moment.weekday()]} {moment:%H:%M} UTC"


def format_wait(seconds: float) -> str:
    """A waiting time, in the largest unit that says enough."""
    minutes = int(max(0.0, seconds) // 60)
    if minutes < 1:
        return gettext("< 1 min")
    if minutes < 60:
        return gettext("%(n)s min") % {"n": minutes}
    if minutes < 600:
        return gettext("%(n)s h %(m)s min") % {"n": minutes // 60, "m": f"{minutes % 60:02}"}
    if minutes < 48 * 60:
        return gettext("%(n)s h") % {"n": minutes // 60}
    return gettext("%(n)s days") % {"n": minutes // 1440}


def format_duration(seconds: float) -> str:
    """A duration; a short one in seconds."""
    return gettext("%(n)s s") % {"n": f"{seconds:.0f}"} if seconds < 90 else format_wait(seconds)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def format_share(share: float) -> str:
    """A rate in percent; a small one with a digit more."""
    return f"{decimal(100 * share, 1)} %" if 0 < share < 0.1 else percent(share)


def decimal(number: float, digits: int = 2) -> str:
    """A number with so many digits after the point."""
    return _with_point(f"{number:.{digits}f}")


def plain(number: float) -> str:
    """A number with the digits that it has."""
    return _with_point(f"{number:g}")


def _with_point(number: str) -> str:
    return number if is_source() else number.replace(".", get_decimal_symbol(current().locale))
