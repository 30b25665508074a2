"""Windows of an evaluation, in lessons: what `recent` means, and the points of a curve."""

from __future__ import annotations

RECENT = 500
"""The newest lessons that `recent` measures speak of."""


SPAN, SPAN_MIN = 200, 50
"""Lessons in each point of a curve, and in those of a short history."""
