"""Whether pages stay within the window at the widths of a desktop and of a phone, in headless Chromium.

python tests/python/widths.py report.html ...
"""

import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

SIZES = [(1280, 900), (390, 844)]
#: A frame as wide as the window would be, since windows of Chromium have a least width; it says how wide the page in it
#: came out, and how much outside of boxes that scroll ends beyond the window.
_FRAME = """<!DOCTYPE html><html><body>
<iframe srcdoc="{page}" style="width: {width}px; height: {height}px; border: 0"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, inner = frame.contentWindow.innerWidth;
  const beyond = [...page.querySelectorAll("body *")].filter(
    (each) => !each.closest(".scroll") && !each.closest("svg") && each.getBoundingClientRect().right > inner + 1);
  document.documentElement.dataset.found = `${{inner}} ${{page.documentElement.scrollWidth}} ${{beyond.length}}`;
}};
</script></body></html>"""


def found(page: Path, width: int, height: int) -> tuple[int, int, int]:
    """The window's width, the page's, and how many elements end beyond the window."""
    text = escape(page.read_text(encoding="utf-8"), quote=True)
    with tempfile.TemporaryDirectory() as folder:
        framed = Path(folder) / "framed.html"
        framed.write_text(_FRAME.format(page=text, width=width, height=height), encoding="utf-8")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
                   "--virtual-time-budget=5000", "--dump-dom", framed.as_uri()]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    said = re.search(r'data-found="(\d+) (\d+) (\d+)"', shown)
    if said is None:
        raise RuntimeError(f"Chromium did not open {page}")
    inner, wide, beyond = map(int, said.groups())
    return inner, wide, beyond


def main() -> int:
    failed = False
    for page in map(Path, sys.argv[1:]):
        for width, height in SIZES:
            inner, wide, beyond = found(page, width, height)
            good = wide <= inner and not beyond
            failed |= not good
            print(f"{page.name} at {inner}: {wide} wide, {beyond} elements beyond{'' if good else '  OVERFLOWS'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
