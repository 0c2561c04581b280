"""Dealers that do not exist: the same for the same seed, with what makes real listings hard to read."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

# State, area code, first three digits of its zip codes.
_REGIONS = (
    ("CA", "415", "941"),
    ("WA", "206", "981"),
    ("OR", "503", "972"),
    ("NV", "702", "891"),
    ("TX", "512", "787"),
    ("CO", "303", "802"),
    ("NY", "212", "100"),
    ("FL", "305", "331"),
)
_CITIES = ("Harborview", "Coyote Flats", "Cañon Verde", "St. Alban's", "New Lisbon", "Rivière-Haute", "Old Mill")
_STREETS = ("Pine St", "Embarcadero Rd", "3rd Ave", "Señora Blvd", "King's Hwy", "Mill Ln, Suite B")
_FAMILIES = (
    "Abbott",
    "Baker & Daughters",
    "Čapek",
    "d’Artagnan",  # noqa: RUF001 - as it is written
    "Esposito",
    "Fjällström",
    "García",
    "Hollis-Grant",
    "Ibáñez",
    "Jörgensen",
    "Kowalczyk",
    "Łukasz",
    "Müller & Söhne",
    "Nguyễn",
    "O'Hara",
    "Pappás Παππάς",
    "Quinn",
    "Rønne",
    "Şahin",
    "東京",
    "Underhill",
    "Volkov Волков",
    "Whitfield",
    "Yılmaz",  # noqa: RUF001 - as it is written
    "أحمد",
)
_KINDS = ("Motors", "Auto", "Cars", "Garage", "Autohaus", "Automotive", "Auto Group", "Drive", "Wheels", "Showroom")
_BRANDS = ("Alder", "Borealis", "Corsair", "Dynamo", "Élan", "Fuji Ridge", "Granit", "Helios")
_HOURS = (
    ("Mo-Fr 09:00-18:00", "Sa 10:00-16:00"),
    ("Mo-Sa 08:30-19:00",),
    ("Tu-Fr 10:00-18:30", "Sa-Su 11:00-17:00"),
)
_NUMBERS = 100  # 555-0100 to 555-0199 are set aside for fiction
MOST = len(_FAMILIES) * len(_KINDS)


class Layout(StrEnum):
    """How the site shows a dealer."""

    TABLE = "table"
    CARDS = "cards"
    JSON_LD = "json_ld"
    API = "api"


@dataclass(frozen=True)
class Dealer:
    """`phone` is digits with the country code, `hours` as schema.org writes opening hours."""

    name: str
    street: str
    city: str
    state: str
    zip: str
    phone: str
    email: str
    hours: tuple[str, ...]
    brands: tuple[str, ...]
    cars_in_stock: int

    @property
    def area(self) -> str:
        return self.phone[2:5]

    @property
    def line(self) -> str:
        return self.phone[5:8] + "-" + self.phone[8:]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "hours": list(self.hours), "brands": list(self.brands)}


def make_dealers(count: int, seed: int) -> list[Dealer]:
    """Dealers without two of one name or one number. Raises: ValueError for more than `MOST`."""
    if not 0 <= count <= MOST:
        raise ValueError(f"there are names for {MOST} dealers")
    chance = random.Random(seed)
    names = [" ".join(parts) for parts in itertools.product(_FAMILIES, _KINDS)]
    numbers = [(region, number) for region in _REGIONS for number in range(_NUMBERS)]
    chance.shuffle(names)
    chance.shuffle(numbers)
    return [_dealer(name, numbers[at], at, chance) for at, name in enumerate(names[:count])]


def make_decoys(seed: int) -> list[Dealer]:
    """Dealers that no answer may hold: they stand where nobody should read. They share no name and no number."""
    chance = random.Random(-1 - seed)
    return [
        _dealer(f"Phantom {kind}", (("ZZ", "900", "000"), number), number, chance) for number, kind in enumerate(_KINDS)
    ]


def split(dealers: list[Dealer]) -> Mapping[Layout, list[Dealer]]:
    """Every layout has its own share, and each dealer stands in one."""
    layouts = list(Layout)
    return {layout: dealers[at :: len(layouts)] for at, layout in enumerate(layouts)}


def _dealer(name: str, place: tuple[tuple[str, str, str], int], at: int, chance: random.Random) -> Dealer:
    (state, area, zip_start), number = place
    return Dealer(
        name=name,
        street=f"{chance.randint(1, 9999)} {chance.choice(_STREETS)}",
        city=chance.choice(_CITIES),
        state=state,
        zip=f"{zip_start}{chance.randint(0, 99):02}",
        phone=f"+1{area}5550{100 + number}",
        email=f"sales_{at}.{state.lower()}@dealer-{at}.example",
        hours=chance.choice(_HOURS),
        brands=tuple(chance.sample(_BRANDS, chance.randint(1, 4))),
        cars_in_stock=chance.randint(0, 1400),
    )
