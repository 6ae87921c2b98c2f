"""Write `local.txt` again from its own pins: `python requirements/lock.py NAME==VERSION ...`.

Each pin given replaces the one of that name (or is added); without any, the hashes alone are looked up again. The
hashes are those of the wheels that pip chooses on Linux for every Python and machine below; nothing is installed, and
where the index serves wheel metadata (PEP 658) nothing but that is downloaded.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).with_name("local.txt")
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC_MINORS = range(17, 37)  # 2.36 is Debian 12's


def hashes(pins: list[str], python: str, machine: str) -> dict[str, str]:
    """The sha256 of the wheel that pip chooses for each pin."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    pip += ["--no-deps", "--only-binary", ":all:", "--python-version", python, "--target", "unused"]
    pip += [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    pip += [f"--platform=manylinux2014_{machine}"]
    report = json.loads(subprocess.run([*pip, *pins], check=True, capture_output=True, text=True).stdout)
    found = {
        re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["download_info"]["archive_info"]["hashes"]
        for item in report["install"]
    }
    return {pin: found[pin.split("==")[0]]["sha256"] for pin in pins}


def main() -> None:
    """Keep the comments on top of the file, replace the rest."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    pinned = [match[0] for line in lines if (match := re.match(r"[\w-]+==[\w.]+", line))]
    by_name = {pin.split("==")[0]: pin for pin in [*pinned, *sys.argv[1:]]}
    pins = [by_name[name] for name in sorted(by_name)]
    lists = [hashes(pins, python, machine) for machine in MACHINES for python in PYTHONS]
    blocks = [" \\\n    ".join([pin, *dict.fromkeys(f"--hash=sha256:{found[pin]}" for found in lists)]) for pin in pins]
    FILE.write_text("\n".join([*comments, *blocks]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
