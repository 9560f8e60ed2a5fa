"""The bad lines every real export holds: each one is well-formed CSV and must end in quarantine, alone."""

from __future__ import annotations

from collections.abc import Mapping

BAD_LINES: Mapping[str, tuple[str, ...]] = {
    "customers": (
        # no key
        ",2025-03-02T10:00:00Z,nobody@example.com,,,Nobody,Europe/London,en-GB,GB,,email,true,true,true,H9999001,standard",
        # a day that does not exist
        "C9999002,2025-02-30T09:15:00Z,thea.9999002@example.org,,,Thea,Europe/London,en-GB,GB,,,true,false,false,H9999002,standard",
    ),
    "orders": (
        # an amount that is a word
        "O9999001,C0000001,2025-05-04T12:30:00Z,n/a,EUR,12.10,1,coffee,,completed",
        # a time in words
        "O9999002,C0000001,yesterday,31.50,EUR,12.60,1,tea,,completed",
        # nobody bought it
        "O9999003,,2025-06-11T18:05:00Z,27.90,EUR,9.80,2,books,,completed",
        # a customer the shop does not know
        "O9999004,C9999999,2025-07-21T08:45:00Z,64.00,EUR,22.40,1,kitchen,,completed",
        # no key
        ",C0000001,2025-08-02T20:10:00Z,18.20,EUR,8.30,1,gifts,,completed",
    ),
    "events": (
        # no time
        "E9999001,C0000001,,visit,,",
        # a customer the shop does not know
        'E9999002,C9999998,2025-09-12T07:00:00Z,visit,,"{""page"": ""home""}"',
    ),
}
