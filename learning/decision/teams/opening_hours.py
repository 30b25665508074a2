"""Opening hours and queueing of teams: when a team is there, and when it gets to what waits.

Never by the clock: hours are read at a message's own time, so a decision that is made again has
the same result. A team's place is a time zone by its name, or a fixed distance from UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEK_MINUTES = 7 * 1440
DAYS_AHEAD = 28
"""No promise looks further ahead than this: a longer backlog is no promise."""

Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")]


class OpeningHours(BaseModel):
    """Weekly opening hours: the same on some days, such as mon to fri from 08:00 to 18:00."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    days: Annotated[
        Annotated[
            tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...],
            Field(min_length=1, max_length=7),
        ],
        Field(description="Days of the week."),
    ] = ("mon", "tue", "wed", "thu", "fri")
    opens: Annotated[Clock, Field(description="Opens at.")] = "08:00"
    closes: Annotated[Clock, Field(description="Closes at; 24:00 is midnight.")] = "18:00"

    @model_validator(mode="after")
    def _closes_later(self) -> OpeningHours:
        if minutes(self.opens) >= minutes(self.closes):
            raise ValueError(
                "closes must be later than opens; hours over midnight are two openings"
            )
        return self


class Team(BaseModel):
    """A team that is not always there, or serves only so many. Without hours it always is.

    `zone` names its place (Europe/Berlin), in whose summer and winter time the hours are; without
    one they are `utc_offset_minutes` away from UTC all year. `per_hour` is how many handoffs it
    takes in an hour that it is there: what waits longer is promised later. `priority` is that of
    its handoffs where no rule says another. `jobs` set `full` when more than `waiting_max`
    handoffs wait, and take it away at half as many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: Annotated[
        str,
        Field(min_length=1, max_length=64, description="The team's name.", examples=["billing"]),
    ]
    hours: Annotated[
        tuple[OpeningHours, ...],
        Field(max_length=50, description="When it is there; none: always."),
    ] = ()
    zone: Annotated[
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(
            description="Time zone of its hours, such as Europe/Berlin.", examples=["Europe/Berlin"]
        ),
    ] = None
    utc_offset_minutes: Annotated[
        int, Field(ge=-840, le=840, description="Distance from UTC, where no zone is named.")
    ] = 0
    per_hour: Annotated[
        Annotated[float, Field(ge=0.01, le=100_000)] | None,
        Field(description="Handoffs that it takes in an hour.", examples=[12]),
    ] = None
    priority: Annotated[
        Annotated[int, Field(ge=1, le=4)] | None,
        Field(
            description="Priority of its handoffs where no rule says another; 1 is first.",
            examples=[2],
        ),
    ] = None
    waiting_max: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        Field(description="How many may wait before it counts as full.", examples=[50]),
    ] = None
    full: Annotated[bool, Field(description="Whether it is full; jobs set it.")] = False

    @model_validator(mode="after")
    def _one_place(self) -> Team:
        if self.zone is not None and self.utc_offset_minutes:
            raise ValueError("give either zone or utc_offset_minutes: a zone knows its own offset")
        return self

    @property
    def place(self) -> tzinfo:
        """Time zone of its hours; a zone that this build does not have (any more) reads as UTC."""
        zone = None if self.zone is None else get_zone(self.zone)
        return zone or fixed_offset(self.utc_offset_minutes)

    def opens_at(self, at: float) -> float | None:
        """When the team opens next, in seconds since the epoch; None while it is there."""
        if not self.hours:
            return None
        after = [span for span in self._spans(at) if span[1] > at]
        if not after:
            return at + DAYS_AHEAD * 86_400.0
        return None if after[0][0] <= at else after[0][0]

    def serves_at(self, at: float, ahead: int) -> float | None:
        """When it gets to a handoff with so many `ahead` of it; None where that is at once.

        Those ahead take the time that the team is there for them, at `per_hour`; of a team that
        says nothing of its pace only the hours count.
        """
        left = 0.0 if self.per_hour is None else 3600.0 * ahead / self.per_hour
        if not left:
            return self.opens_at(at)
        if not self.hours:
            return at + min(left, DAYS_AHEAD * 86_400.0)
        for begins, ends in self._spans(at):
            there = ends - max(begins, at)
            if there > left:
                return max(begins, at) + left
            left -= max(there, 0.0)
        return at + DAYS_AHEAD * 86_400.0

    def away(self, at: float) -> str | None:
        """Why this team cannot take a conversation now, in words; None when it can."""
        opens_at = self.opens_at(at)
        if opens_at is not None:
            back = datetime.fromtimestamp(opens_at + 0.5, self.place)
            day = DAYS[back.weekday()].capitalize()
            return f"nobody of team {self.name} is there until {day} {back:%H:%M %Z}"
        if self.full:
            return f"team {self.name} has as many waiting as it can serve"
        return None

    def _spans(self, at: float) -> Iterator[tuple[float, float]]:
        """When it is there, from the day before a moment on, in order and without overlap."""
        place = self.place
        today = datetime.fromtimestamp(at, place).date()
        covered = 0.0
        for ahead in range(-1, DAYS_AHEAD + 1):
            day = today + timedelta(days=ahead)
            midnight = datetime.combine(day, time())
            for opening in sorted(self.hours, key=lambda slot: minutes(slot.opens)):
                if DAYS[day.weekday()] in opening.days:
                    begins = max(_timestamp(midnight, opening.opens, place), covered)
                    ends = _timestamp(midnight, opening.closes, place)
                    if ends > begins:
                        yield begins, ends
                        covered = ends


def _timestamp(midnight: datetime, clock: str, place: tzinfo) -> float:
    """A clock's time of a day at a place. One that summer time leaves out comes an hour later."""
    local = midnight + timedelta(minutes=minutes(clock))
    return local.replace(tzinfo=place).astimezone(UTC).timestamp()


def minutes(clock: str) -> int:
    """Minutes since midnight of a time such as 08:30."""
    hours, _, rest = clock.partition(":")
    return int(hours) * 60 + int(rest)


@cache
def get_zone(name: str) -> tzinfo | None:
    """Time zone by its name; None where there is no such zone."""
    parts = name.split("/")
    if not all(part.replace("_", "").replace("-", "").replace("+", "").isalnum() for part in parts):
        return None
    try:
        table = files("tzdata").joinpath("zoneinfo", *parts)
        with table.open("rb") as stream:
            return ZoneInfo.from_file(stream, key=name)
    except (ModuleNotFoundError, OSError, ValueError):
        pass
    try:
        return ZoneInfo.no_cache(name)
    except (LookupError, OSError, ValueError):
        return None


def fixed_offset(minutes: int) -> tzinfo:
    """Time zone at the same distance from UTC all year."""
    return timezone(timedelta(minutes=minutes))
