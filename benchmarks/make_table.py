"""Write the table of docs/benchmarks.md from the comparisons in results/.

python benchmarks/make_table.py            # after a suite was run
python benchmarks/make_table.py --check    # only says whether the table is current
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import RESULTS

DOCUMENT = RESULTS.parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin of the generated table -->", "<!-- end of the generated table -->"
OURS = "bevstack"
HEADER = "| Suite and load | Case | Peer | Ours: times faster | Outputs | Command |\n|---|---|---|---|---|---|\n"


def main() -> None:
    """Rewrite the document, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    old = DOCUMENT.read_text()
    new = with_table(old, table())
    if not parser.parse_args().check:
        DOCUMENT.write_text(new)
    elif new != old:
        raise SystemExit(f"{DOCUMENT} is not current: run python benchmarks/make_table.py")


def with_table(document: str, content: str) -> str:
    """The document with its generated part replaced."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + "\n" + content + END + rest.split(END)[1]


def table(results: Path = RESULTS) -> str:
    """A row for every case and peer; results that are no comparison (a single record) have none."""
    suites = (json.loads(path.read_text()) for path in sorted(results.glob("*.json")))
    return HEADER + "".join(
        row for suite in suites if isinstance(suite, list) for result in suite for row in _rows(result)
    )


def _rows(result: dict[str, Any]) -> Iterator[str]:
    fastest_ms = {name: timing["min_ms"] for name, timing in result["timings"].items()}
    ours = {name: ms for name, ms in fastest_ms.items() if name.startswith(OURS)}
    suite = result["suite"]
    label = f"`{suite}`, load {result['machine']['load']}"
    for peer, peer_ms in fastest_ms.items():
        if peer in ours:
            continue
        ratios = [
            f"{name.removeprefix(OURS)} **{_factor(peer_ms / ms)}** ({_milliseconds(ms)})".strip()
            for name, ms in ours.items()
        ]
        cells = (label, result["case"], f"{peer} ({_milliseconds(peer_ms)})", ", ".join(ratios), result["equality"])
        yield f"| {' | '.join(cells)} | `python benchmarks/{suite}.py` |\n"


def _factor(ratio: float) -> str:
    """Two digits or more, never more than measured ratios are worth."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


if __name__ == "__main__":
    main()
