"""`python -m bench.chaos`: run the faults, print the table, and leave with 1 where anything did not hold.

With CHAOS_JSON set, the cases are written there as one JSON object besides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import django

from bench.chaos.servers import PROCESSES, WORKERS, CannotStart, Servers
from bench.chaos.sizes import Size

NUMBERS = ("readers", "sent", "lost", "twice", "in_doubt", "bound", "unlisted")


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--readers", type=int, default=10_000, help="of the case that kills workers; others a tenth")
    parser.add_argument("--kills", type=int, default=100, help="how often a worker is killed while rows are SENDING")
    parser.add_argument("--chunk", type=int, default=10, help="CHUNK_SIZE: what one kill may leave in doubt")
    parser.add_argument("--only", action="append", metavar="FAULT", help="this fault; may be given several times")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="masthead-chaos-"))
    servers = None
    try:
        servers = Servers(folder, chunk=chosen.chunk)
        sound = _run(servers, Size(chosen.readers, chosen.kills), chosen.only or [])
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if servers is not None:
            servers.close()
    if not sound:
        print(f"What every program wrote is in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


def _run(servers: Servers, size: Size, only: list[str]) -> bool:
    os.environ |= servers.environment
    django.setup()
    # What imports models can only be imported now.
    from django.core.management import call_command

    from bench.chaos.faults import FAULTS
    from bench.chaos.sends import StillNot
    from newsletter import commands

    if unknown := [name for name in only if name not in FAULTS]:
        raise CannotStart(f"There is no fault {unknown[0]}; there are {', '.join(FAULTS)}.")
    call_command("migrate", verbosity=0)
    print(f"{os.cpu_count()} cores, {servers.what}; {WORKERS} workers of {PROCESSES} processes.")
    print(
        f"Chunk size {servers.environment['CHUNK_SIZE']}, lease {servers.environment['LEASE_SECONDS']} s.", flush=True
    )
    verdicts, wrong = [], []
    for name in only or FAULTS:
        began = time.monotonic()
        try:
            verdict = FAULTS[name](servers, name, size)
        except StillNot as error:
            wrong.append(f"{name}: {error}")
            print(wrong[-1], flush=True)
            continue
        verdicts.append(verdict)
        wrong += [f"{name}: {sentence}" for sentence in verdict.faults()]
        print(f"{name}: {time.monotonic() - began:.0f} s {' '.join(verdict.faults())}", flush=True)
    rows = [[verdict.fault, *(getattr(verdict, number) for number in NUMBERS)] for verdict in verdicts]
    print(commands.table(["fault", *(number.replace("_", " ") for number in NUMBERS)], rows))
    print("\n".join(wrong) if wrong else "Nobody lost, nobody mailed twice, every doubt named.")
    if path := os.environ.get("CHAOS_JSON"):
        cases = [dataclasses.asdict(verdict) for verdict in verdicts]
        Path(path).write_text(json.dumps({"cases": cases}, indent=2), encoding="utf-8")
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
