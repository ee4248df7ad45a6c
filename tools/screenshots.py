"""Pictures of a page as readers see it: `python -m tools.screenshots PAGE.html... --out=docs/screenshots`.

Each page is drawn at two widths, a desk's and a phone's, in light and in dark, by Chromium without a window and
without a network. Needs `pip install playwright` and a Chromium (--chromium, default /usr/bin/chromium). Long pages
are cut below `--height` pixels. A width at which a page scrolls sideways is an error.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from data_prep.collect.simulate.browser import CHROMIUM, chromium
from luab_jax.io.atomic import write_bytes

WIDTHS = (1280, 375)
SCHEMES = ("light", "dark")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+", type=Path, help="HTML files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures: NAME-WIDTH-SCHEME.jpg")
    parser.add_argument("--height", type=int, default=2600, help="most pixels of a picture (default: 2600)")
    parser.add_argument("--quality", type=int, default=80, help="of the JPEG (default: 80)")
    parser.add_argument("--chromium", default=CHROMIUM)
    arguments = parser.parse_args(argv)
    too_wide = False
    for page, width, scheme, picture, overflow in shots(arguments.pages, arguments.chromium):
        path = arguments.out / f"{page.stem}-{width}-{scheme}.jpg"
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        image = image.crop((0, 0, image.width, min(image.height, arguments.height)))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=arguments.quality, optimize=True, progressive=True)
        write_bytes(path, buffer.getvalue(), make_folder=True)
        print(f"{path}  {image.width} x {image.height}, {len(buffer.getvalue()) / 1000:.0f} kB")
        if overflow:
            print(f"{page}: scrolls sideways by {overflow} pixels at a width of {width}", file=sys.stderr)
            too_wide = True
    return int(too_wide)


def shots(pages: Sequence[Path], executable: str) -> Iterator[tuple[Path, int, str, bytes, int]]:
    """Page, width, scheme, PNG, and by how many pixels the page is wider than the window."""
    with chromium(executable=executable) as browser:
        for page, width, scheme in itertools.product(pages, WIDTHS, SCHEMES):
            context = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme, device_scale_factor=1, offline=True
            )
            view = context.new_page()
            view.goto(page.resolve().as_uri())
            overflow = view.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            yield page, width, scheme, view.screenshot(full_page=True), max(0, int(overflow))
            context.close()


if __name__ == "__main__":
    raise SystemExit(main())
