"""Evaluation windows, in lessons: `recent`, and the span of a curve's points."""

from __future__ import annotations

RECENT = 500
"""The newest lessons that `recent` measures speak of."""


SPAN, SPAN_MIN = 200, 50
"""Lessons in each point of a curve, and in those of a short history."""
