"""The browser that the page is tried in: the system's Chromium, by apt where it is missing and may be.

    python -m tests.page.browser

Playwright's own browser builds are not used: they come from a site of their own, and Debian's is kept up to
date with the system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
HOW = (
    "the tests of the page need a browser: apt-get install chromium (as root, on Debian), "
    "or have one of these on PATH: " + ", ".join(NAMES)
)
INSTALL = (
    ("apt-get", "update", "-qq"),
    ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"),
)


def find() -> str | None:
    """The path of a browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> int:
    """0 if there is one now; else says what to do and gives 1."""
    if find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stdout.write("Installing Chromium with apt-get, for the tests of the page; only once\n")
        sys.stdout.flush()
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in INSTALL:
            subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False)
    if find() is None:
        sys.stderr.write(HOW + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
