"""Known vulnerabilities of what is locked: `python tools/audit.py FILE`, by pip-audit.

Exit status 0 where none is known, and where nobody could be asked, which it says; 1 where one is known;
2 where pip-audit itself failed.
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
        last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
        if _UNREACHABLE.search(stderr):
            return 0, [f"audit: could not ask whether anything is vulnerable: {last}"]
        return 2, [f"audit: pip-audit failed: {last}"]
    known = [
        f"audit: {package['name']} {package.get('version', '')} has {fault['id']}"
        + (f", mended in {', '.join(fault['fix_versions'])}" if fault.get("fix_versions") else "")
        for package in found
        for fault in package.get("vulns", ())
    ]
    skipped = [package["name"] for package in found if "skip_reason" in package]
    asked = len(found) - len(skipped)
    if known:
        return 1, [*known, f"audit: {len(known)} vulnerabilities are known"]
    if not asked:
        return 0, [f"audit: could not ask about any of {len(found)} packages"]
    lines = [f"audit: no vulnerability is known in {asked} packages"]
    if skipped:
        lines.append(f"audit: could not ask about {len(skipped)}: {', '.join(skipped)}")
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
