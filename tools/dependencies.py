"""The heaviest packages that a user installs, of those in requirements.lock: `python -m tools.dependencies`."""

from __future__ import annotations

import argparse
import re
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"


def locked_names() -> list[str]:
    """The packages of the lock, whether they are installed here or not."""
    return re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)


def installed_bytes(name: str) -> int | None:
    """What the files of an installed package take; None if it is not installed."""
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return None
    places = [Path(str(file.locate())) for file in files]
    return sum(place.stat().st_size for place in places if place.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("--most", type=int, default=10)
    arguments = parser.parse_args()
    sizes = {name: size for name in dict.fromkeys(locked_names()) if (size := installed_bytes(name)) is not None}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[: arguments.most]:
        print(f"{size / 1e6:6.0f} MB  {name} {metadata.version(name)}")
    print(f"{sum(sizes.values()) / 1e6:6.0f} MB  all {len(sizes)} packages of requirements.lock")


if __name__ == "__main__":
    main()
