"""Real browsers killed and cut off at random moments while somebody selects: what the log lacks afterwards.

    python -m tests.data_prep.collect.browser.faults --kills=20 --cuts=20

A choice counts once the page has kept it in IndexedDB or the server has acknowledged it, which the page is asked for
before the next fault may come. Half of the kills hit a browser without a network.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_prep.collect.simulate.browser import ARGUMENTS, CHROMIUM, chromium
from tests.data_prep.collect.browser.bench import REPOSITORY, Server, accept, make_project, serving, wait_for
from tests.data_prep.collect.browser.test_imagenet_page import click

_PUPPET = """
import random, sys
from playwright.sync_api import sync_playwright
profile, link, seed, executable, *arguments = sys.argv[1:]
rng = random.Random(int(seed))
KEPT = '''async () => {
  if (document.getElementById('saved').textContent === 'All saved') return true;
  const open = await new Promise(done => {
    const r = indexedDB.open('luab-collect', 1); r.onsuccess = () => done(r.result); });
  const all = await new Promise(done => {
    const r = open.transaction('batches').objectStore('batches').getAll(); r.onsuccess = () => done(r.result); });
  open.close();
  return all.some(batch => batch.body.includes('"k":"select"') || batch.body.includes('"k":"deselect"'));
}'''
with sync_playwright() as p:
    context = p.chromium.launch_persistent_context(
        profile, executable_path=executable, args=arguments, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.goto(link)
    page.wait_for_selector("#agree, [data-screen=task]")
    if page.query_selector("#agree"):
        page.check("#agree")
        page.click("#consent-agree")
    page.wait_for_selector("[data-screen=task] .cell[data-state]")
    page.wait_for_timeout(800)
    if rng.random() < 0.5:
        context.set_offline(True)
    while True:
        page.click(f"[data-place='{rng.randrange(6)}'] img")
        while not page.evaluate(KEPT):
            pass
        print("kept", flush=True)
"""


def kill_browsers(server: Server, folder: Path, kills: int) -> tuple[int, int]:
    """Returns the choices that were kept, and those in the log after a last visit."""
    link, profile, kept = server.link(), folder / "profile", 0
    for number in range(kills):
        command = [sys.executable, "-c", _PUPPET, str(profile), link, str(number), CHROMIUM, *ARGUMENTS]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY) as puppet:
            assert puppet.stdout is not None
            for _ in range(random.Random(number).randint(1, 6)):
                kept += puppet.stdout.readline().strip() == b"kept"
            lock = profile / "SingletonLock"
            os.kill(int(str(lock.readlink()).rpartition("-")[2]), signal.SIGKILL)
            lock.unlink(missing_ok=True)
            # What was printed before the browser was dead counts as well.
            kept += puppet.stdout.read().count(b"kept")
            puppet.wait()
    with chromium() as browser:
        context = browser.browser_type.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=ARGUMENTS, viewport={"width": 1280, "height": 900}
        )
        page = context.new_page()
        page.goto(link)
        page.wait_for_selector("[data-screen=task]")
        page.wait_for_timeout(1500)
        page.wait_for_selector("#saved.is-good")
        context.close()
    return kept, sum(len(server.events(name, "select", "deselect")) for name in server.assignments())


def cut_network(server: Server, cuts: int) -> tuple[int, int]:
    """One browser whose network goes and comes; returns the choices made, and those in the log."""
    rng = random.Random(0)
    made = 0
    before = set(server.assignments())
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        accept(page, server.link())
        for _ in range(cuts):
            context.set_offline(True)
            for _ in range(rng.randint(1, 4)):
                click(page, rng.randrange(6))
                made += 1
                page.wait_for_timeout(rng.uniform(0, 400))
            context.set_offline(False)
            page.wait_for_timeout(rng.uniform(0, 1500))
        wait_for(lambda: page.query_selector("#saved.is-good"), page=page, seconds=60)
        page.wait_for_timeout(1500)
        new = [name for name in server.assignments() if name not in before]
        found = sum(len(server.events(name, "select", "deselect")) for name in new)
        context.close()
    return made, found


def main() -> None:
    """Prints the table; exits with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cuts", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name), "imagenet", pictures=12, classes=("cat",), overlap=9)
        with serving(project) as server:
            started = time.monotonic()
            kept, found = kill_browsers(server, Path(name), arguments.kills)
            print(f"{arguments.kills} browsers killed: {kept} choices kept, {found} in the log, {kept - found} lost")
            made, logged = cut_network(server, arguments.cuts)
            print(f"{arguments.cuts} network cuts: {made} choices made, {logged} in the log, {made - logged} lost")
            print(f"{time.monotonic() - started:.0f} s")
    raise SystemExit(int(found < kept or logged != made))


if __name__ == "__main__":
    main()
