"""Known vulnerabilities in the locked packages: `python tools/audit.py FILE`, by pip-audit.

Exit status 0 if none is known, or if the service could not be reached, which is reported; 1 if one is known;
2 if pip-audit itself failed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

_UNREACHABLE = re.compile(
    r"connect|connection|timed? ?out|resolv|proxy|certificate|SSL|unreachable|HTTP ?Error|\b(?:403|5\d\d)\b",
    re.I,
)
_OPTIONS = ("--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off", "--timeout=10")


def verdict(stdout: str, stderr: str) -> tuple[int, list[str]]:
    """The exit status and the lines to print, from what pip-audit said."""
    try:
        found = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (stderr.strip().splitlines() or ["no output"])[-1]
        if _UNREACHABLE.search(stderr):
            return 0, [f"audit: could not check for vulnerabilities: {last}"]
        return 2, [f"audit: pip-audit failed: {last}"]
    known = [
        f"audit: {package['name']} {package.get('version', '')} has {fault['id']}"
        + (f", fixed in {', '.join(fault['fix_versions'])}" if fault.get("fix_versions") else "")
        for package in found
        for fault in package.get("vulns", ())
    ]
    skipped = [package["name"] for package in found if "skip_reason" in package]
    asked = len(found) - len(skipped)
    if known:
        return 1, [*known, f"audit: {len(known)} known vulnerabilities"]
    if not asked:
        return 0, [f"audit: could not check any of {len(found)} packages"]
    lines = [f"audit: no known vulnerabilities in {asked} packages"]
    if skipped:
        lines.append(f"audit: could not check {len(skipped)}: {', '.join(skipped)}")
    return 0, lines


def main(locked: Path) -> int:
    """Ask pip-audit, print what it found."""
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "-r", str(locked), *_OPTIONS],
        capture_output=True,
        text=True,
        check=False,
    )
    status, lines = verdict(done.stdout, done.stderr)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
