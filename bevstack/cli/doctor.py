"""`bevstack doctor`."""

import argparse
from pathlib import Path

MARKS = {"ok": "ok  ", "note": "note", "problem": "FAIL"}


def run(arguments: list[str]) -> int:
    """Print what works and how to mend the rest; exit code 1 where something needed is broken."""
    parser = argparse.ArgumentParser(
        prog="bevstack doctor",
        description="Check Python, torch, GPU, compiled libraries, optional parts, memory, disk and data roots.",
        epilog="example: bevstack doctor --data worlds/train --workers 4",
    )
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="ROOT", help="a data root to look at")
    parser.add_argument("--workers", type=int, default=None, help="planned data-loading processes (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)

    from bevstack.doctor import as_json, examine

    findings = examine(options.data, options.workers)
    if options.json:
        print(as_json(findings))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{MARKS[finding.status]}  {finding.name:<{width}}  {finding.detail}")
            if finding.remedy and finding.status != "ok":
                print(f"      {'':<{width}}  -> {finding.remedy}")
    problems = sum(finding.status == "problem" for finding in findings)
    if not options.json:
        print("everything needed works" if not problems else f"{problems} problem(s) to mend")
    return 1 if problems else 0
