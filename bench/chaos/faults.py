"""The faults by name, in the order of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.chaos import outages, traffic, workers
from bench.chaos.servers import Servers
from bench.chaos.sizes import Size
from bench.chaos.verdict import Verdict

FAULTS: dict[str, Callable[[Servers, str, Size], Verdict]] = {
    "worker-killed": workers.killed,
    "worker-terminated": workers.terminated,
    "worker-frozen": workers.frozen,
    "worker-frozen-claiming": workers.frozen_claiming,
    "worker-killed-preparing": workers.killed_preparing,
    "broker-killed": outages.broker_killed,
    "broker-emptied": outages.broker_emptied,
    "database-restarted": outages.database_restarted,
    "disk-full": outages.disk_full,
    "writes-refused": outages.writes_refused,
    "backup-restored": outages.backup_restored,
    "relay-killed": outages.relay_killed,
    "relay-says-later": traffic.put_off,
    "relay-hangs-up": traffic.hung_up,
    "relay-hangs-up-chunking": partial(traffic.hung_up, chunking=True),
    "paused-and-resumed": traffic.paused,
    "two-beats": traffic.two_beats,
    "rung-often": traffic.rung_often,
    "readers-change": traffic.readers_change,
}
