"""What each evaluation found of the whole, carried from report to report: curves over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LENGTH = 200

RATES = ("missed_rate", "false_escalation_rate", "automation_rate")


def longer(
    trail: Sequence[Mapping[str, Any]],
    position: int,
    at: float,
    rates: Mapping[str, Any] | None,
    drift: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """The trail with one point more; of the older half of a long one, every second point stays.

    A point has the rates around the newest outcomes, each `{rate, low, high}` or None, and the
    drift detector's evidence with its bar.
    """
    recent = (rates or {}).get("recent") or {}
    loss = (drift or {}).get("loss") or {}
    point: dict[str, Any] = {"position": position, "at": at}
    for name in RATES:
        found = recent.get(name)
        point[name] = found and {bound: found[bound] for bound in ("rate", "low", "high")}
    point["kept"], point["judged"] = recent.get("kept"), recent.get("judged")
    point["evidence"], point["alarm_at"] = loss.get("evidence"), loss.get("alarm_at")
    kept = [dict(one) for one in trail]
    if len(kept) >= LENGTH:
        half = LENGTH // 2
        kept = kept[:half:2] + kept[half:]
    return [*kept, point]
