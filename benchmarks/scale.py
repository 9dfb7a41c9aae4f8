"""How much each row does: in full, quickly, or hardly at all, for the test of the benchmark itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "TINY", "Scale"]

KIB, MIB = 1024, 1024**2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes are in bytes, times in seconds."""

    name: str
    turns: int  # of each side, A B A B
    within: float  # after this no turn is begun
    saves: Mapping[int, int]  # files, by the number of hosts
    large: int  # the file that is replicated
    upload: int  # the upload of one file
    crlf: int  # the upload of CRLF
    parts: int  # the files of the upload of many
    serving: float  # for which clients send requests
    clients: tuple[int, ...]  # connections
    bodies: tuple[int, ...]  # the files that they send
    calls: int  # of an application, in one timing
    owed: int  # deliveries
    extras: bool  # rows at the sides, without a reach, and the peer that takes 25 s for the CRLF


FULL = Scale(
    name="full",
    turns=5,
    within=840.0,
    saves={12: 200, 3: 400, 1: 600},
    large=512 * MIB,
    upload=256 * MIB,
    crlf=64 * MIB,
    parts=2000,
    serving=2.5,
    clients=(1, 8, 32),
    bodies=(10 * KIB, MIB),
    calls=20_000,
    owed=10_000,
    extras=True,
)
QUICK = Scale(
    name="quick",
    turns=3,
    within=240.0,
    saves={12: 40, 3: 100, 1: 200},
    large=64 * MIB,
    upload=32 * MIB,
    crlf=4 * MIB,
    parts=400,
    serving=0.8,
    clients=(8,),
    bodies=(10 * KIB,),
    calls=5_000,
    owed=600,
    extras=False,
)
TINY = Scale(
    name="tiny",
    turns=1,
    within=60.0,
    saves={12: 2, 3: 2, 1: 2},
    large=MIB,
    upload=MIB,
    crlf=64 * KIB,
    parts=8,
    serving=0.1,
    clients=(2,),
    bodies=(10 * KIB,),
    calls=100,
    owed=20,
    extras=False,
)
