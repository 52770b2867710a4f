"""The example election: Belitung Timur's register, its islands, and tallies made up for it.

The data and its licence lie in `data/README.md`. A tally depends on the station and the form alone, so that each run of
the demo tells the same story, and it keeps the arithmetic a real form must keep. It is fiction: no vote here was cast.
"""

from __future__ import annotations

import random
from importlib import resources

from relay.records.notice import Station, parse_register
from relay.records.tally import reserve

FORMS = ("C-HASIL-KWK-GUBERNUR", "C-HASIL-KWK-BUPATI")
"""The forms that every polling station of the example returns."""

REGENCY = "Belitung Timur"
PROVINCE = "Kepulauan Bangka Belitung"


def load_example_register() -> bytes:
    """The register as an election office would hand it over: CSV, byte for byte the file in `data/`."""
    return _data("register.csv")


def load_example_islands() -> bytes:
    """The regency's islands as CSV: name, latitude, longitude (degrees, WGS 84)."""
    return _data("islands.csv")


def load_example_map() -> bytes:
    """The islands under the names that the register gives them (see `data/README.md`): for the public site's map."""
    return load_example_islands().replace(b"Pulau Batungampar", b"Pulau Batun")


def example_stations() -> tuple[Station, ...]:
    """Every polling station of the example register, in its order."""
    return parse_register(load_example_register())


def ballots_for(registered_voters: int) -> int:
    """Ballots a station receives: one per registered voter, and the reserve."""
    return registered_voters + reserve(registered_voters)


def example_tally(tps: str, form: str, registered_voters: int) -> dict[str, object]:
    """A plausible tally in the shape of a tally file, the same whenever it is asked for.

    Both forms of a station report the same voters, as everyone who comes is handed both ballots.
    """
    station = _draws(tps)
    voters = round(registered_voters * station.triangular(0.62, 0.93, 0.79))
    race = _draws(f"{tps}/{form}")
    received = ballots_for(registered_voters)
    spoiled = min(race.choices((0, 1, 2, 3), (70, 20, 7, 3))[0], received - voters)
    invalid = round(voters * race.triangular(0.01, 0.09, 0.03))
    valid = voters - invalid
    first = round(valid * race.triangular(0.30, 0.72, 0.52))
    return {
        "registered_voters": registered_voters,
        "voters": voters,
        "ballots_received": received,
        "ballots_used": voters,
        "ballots_spoiled": spoiled,
        "ballots_unused": received - voters - spoiled,
        "votes": {"1": first, "2": valid - first},
        "valid": valid,
        "invalid": invalid,
    }


def _draws(seed: str) -> random.Random:
    return random.Random(f"example tally {seed}")  # noqa: S311  fiction that repeats itself, nothing secret


def _data(name: str) -> bytes:
    return resources.files(__package__).joinpath("data", name).read_bytes()
