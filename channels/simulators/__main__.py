"""`python -m channels.simulators --port 8800 --seed 1 --fault too_many=0.03`: the simulator as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys

from channels.simulators.faults import FaultPlan
from channels.simulators.server import Simulator


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted; the base address is the first line of standard output."""
    parser = argparse.ArgumentParser(prog="python -m channels.simulators", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=SHARE", help="e.g. too_many=0.03")
    parser.add_argument("--tls", action="store_true", help="https, with a certificate shown by GET /__sim/keys")
    given = parser.parse_args(arguments)
    try:
        rates = {name: float(share) for name, _, share in (fault.partition("=") for fault in given.fault)}
        plan = FaultPlan(given.seed, rates)
    except ValueError as error:
        parser.error(str(error))
    asyncio.run(_serve(plan, given.port, with_tls=given.tls))


async def _serve(plan: FaultPlan, port: int, *, with_tls: bool) -> None:
    simulator = Simulator(plan=plan, with_tls=with_tls)
    sys.stdout.write(await simulator.start(port) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
