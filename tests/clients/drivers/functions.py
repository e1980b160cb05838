"""The tools as functions, for clients that make schemas of those."""

from __future__ import annotations

from typing import Any, Literal

import garden
from pydantic import BaseModel


class Place(BaseModel):
    """Where the garden lies."""

    country: Literal["DK", "NO", "SE"]
    name: str


class Bed(BaseModel):
    """A bed, and the water for it."""

    bed: str
    litres: float


def with_models(session: garden.Session) -> list[Any]:
    """Functions whose parameters are models of pydantic."""

    def get_forecast(place: Place, days: int) -> str:
        """How much rain is coming to a place.

        Args:
            place: Where the garden lies.
            days: How many days ahead.
        """
        return session.use("get_forecast", {"place": place.model_dump(), "days": days})

    def water_beds(beds: list[Bed], dry_run: bool = False) -> str:
        """Waters beds, or says what it would do.

        Args:
            beds: Which beds, and how much.
            dry_run: Only say it.
        """
        arguments = {"beds": [bed.model_dump() for bed in beds], "dry_run": dry_run}
        return session.use("water_beds", arguments)

    # Names of types are looked up where a function stands, which a client does not see.
    get_forecast.__annotations__ = {"place": Place, "days": int, "return": str}
    water_beds.__annotations__ = {"beds": list[Bed], "dry_run": bool, "return": str}
    return [get_forecast, water_beds]


def with_dicts(session: garden.Session) -> list[Any]:
    """Functions whose parameters are plain dictionaries."""

    def get_forecast(place: dict, days: int) -> str:
        """How much rain is coming to a place.

        Args:
            place: Where the garden lies.
            days: How many days ahead.
        """
        return session.use("get_forecast", {"place": place, "days": days})

    def water_beds(beds: list, dry_run: bool = False) -> str:
        """Waters beds, or says what it would do.

        Args:
            beds: Which beds, and how much.
            dry_run: Only say it.
        """
        return session.use("water_beds", {"beds": beds, "dry_run": dry_run})

    get_forecast.__annotations__ = {"place": dict, "days": int, "return": str}
    water_beds.__annotations__ = {"beds": list, "dry_run": bool, "return": str}
    return [get_forecast, water_beds]
