"""When a team is there: opening hours by the week, read at a message's own time.

Never by the clock: a decision that is made again finds the same hours. A team's zone is a fixed
distance from UTC; where summer time begins or ends, an engineer changes it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 1440
WEEK_MINUTES = 7 * DAY_MINUTES
_FIRST = 3 * DAY_MINUTES
"""The epoch began on a Thursday."""

Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")]


class Opening(BaseModel):
    """The same hours on some days of the week, such as mon to fri from 08:00 to 18:00."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    days: Annotated[
        tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...],
        Field(min_length=1, max_length=7),
    ] = ("mon", "tue", "wed", "thu", "fri")
    opens: Clock = "08:00"
    closes: Clock = "18:00"

    @model_validator(mode="after")
    def _closes_later(self) -> Opening:
        if minutes(self.opens) >= minutes(self.closes):
            raise ValueError(
                "closes must be later than opens; hours over midnight are two openings"
            )
        return self


class Team(BaseModel):
    """A team that is not always there. Without hours it is; `full` while too many wait for it.

    `jobs` set `full` when more than `waiting_max` handoffs wait, and take it away at half as many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=64)]
    hours: Annotated[tuple[Opening, ...], Field(max_length=50)] = ()
    utc_offset_minutes: Annotated[int, Field(ge=-840, le=840)] = 0
    waiting_max: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    full: bool = False

    def opens_at(self, at: float) -> float | None:
        """When the team opens next, in seconds since the epoch; None while it is there."""
        spans = sorted(
            (DAYS.index(day) * DAY_MINUTES + minutes(x.opens), minutes(x.closes) - minutes(x.opens))
            for x in self.hours
            for day in x.days
        )
        now = self._minute(at)
        if not spans or any(start <= now < start + length for start, length in spans):
            return None
        wait = min((start - now) % WEEK_MINUTES for start, _ in spans)
        return at + 60.0 * wait

    def away(self, at: float) -> str | None:
        """In words, why this team cannot take a conversation now; None when it can."""
        opens_at = self.opens_at(at)
        if opens_at is not None:
            day, minute = divmod(int(self._minute(opens_at) + 0.5) % WEEK_MINUTES, DAY_MINUTES)
            clock = f"{minute // 60:02}:{minute % 60:02}"
            return f"nobody of team {self.name} is there until {DAYS[day].capitalize()} {clock}"
        if self.full:
            return f"team {self.name} has as many waiting as it can serve"
        return None

    def _minute(self, at: float) -> float:
        """Minutes since the week began, at the team's own place."""
        return (at / 60.0 + self.utc_offset_minutes + _FIRST) % WEEK_MINUTES


def minutes(clock: str) -> int:
    """Minutes since midnight of a time such as 08:30."""
    hours, _, rest = clock.partition(":")
    return int(hours) * 60 + int(rest)
