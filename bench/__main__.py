"""All figures that the documents state: `make bench`, or those of PARTS by name.

    python -m bench [NAME …]

With BENCH_JSON set, writes one JSON object of the figures there. Each part is a process of its own, for Django's
settings are read once in each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PARTS = {
    "sending": ["-m", "bench.sending"],
    "provider": ["-m", "bench.provider"],
    "pixel": ["-m", "bench.pixel"],
    "webhooks": ["-m", "bench.webhooks"],
    "admin": ["-m", "bench.admin_pages"],
    "report": ["-m", "bench.report"],
}


def main() -> None:
    """Run the parts that are named, or all."""
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        raise SystemExit(f"There is no {', '.join(sorted(unknown))}: name any of {', '.join(PARTS)}.")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            print(f"\n## {name}\n", flush=True)
            part = Path(folder) / f"{name}.json"
            subprocess.run([sys.executable, *PARTS[name]], env=os.environ | {"BENCH_JSON": str(part)}, check=True)
            found |= json.loads(part.read_text())
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps(found) + "\n")
    print(f"\n{os.cpu_count()} cores shared by all of it, load {os.getloadavg()[0]:.1f}\n{json.dumps(found)}")


if __name__ == "__main__":
    main()
