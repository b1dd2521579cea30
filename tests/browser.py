"""A page in a headless browser: with a script of the test's own, and in a frame as wide as a telephone or a desk."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FRAMED = ("--allow-file-access-from-files", "--window-size=1600,1000")  # what a frame needs of the browser


def browse(page: Path, tmp_path: Path, *more: str) -> tuple[str, str]:
    """The document and the log of a browser that has run the page's script."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"]
    command += ["--virtual-time-budget=3000", *more, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr


def acting(page: Path, script: str) -> Path:
    """The page with ``script`` after its own; its policy, which would forbid that, goes."""
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text())
    page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    return page


def framed(page: Path, width: int) -> Path:
    """A page beside it that shows it ``width`` pixels wide, and takes its title."""
    frame = page.with_name("frame.html")
    frame.write_text(f"<iframe src='{page.name}' style='width:{width}px;height:900px;border:0'></iframe>"
                     "<script>onload = () => { document.title = frames[0].document.title }</script>")  # fmt: skip
    return frame


def title_of(document: str) -> str:
    """What a script wrote as the page's title."""
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found is not None
    return found[1]
