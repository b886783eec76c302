"""The viewer in a headless browser that paints in software: ours, and JS9 beside it, of the same file.

A float32 file of 4096 x 4096 is written first. A server is started anew for each round; measured are the time
from navigation to the first picture and to full resolution, a change of stretch (until the colours can be
read back), and the memory of the page with many files open, blinking. JS9 comes from npm (3.9.0), once, into
.bench/js9; where it cannot be had, that is said. Rounds are interleaved, the ratio is of the minima.

    python bench/viewer.py [--size 4096] [--frames 16] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / ".bench" / "js9"
JS9 = "js9@3.9.0"
LIMITS = {"picture": 1.0, "whole": 3.0, "stretch": 0.05}  # seconds
MEMORY = 320 * 2**20  # bytes of tiles
HERTZ = 4
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTH, HEIGHT = 1280, 800
WATCH = """(() => {
  const times = window.times = {};
  const look = () => {
    const app = window.__calibrant?.app, frame = app?.frame();
    const painted = app?.stage?.painted.some(({ draws }) => draws.length);
    if (painted) times.picture ??= performance.now();
    if (frame && app.pixels(frame).complete) times.whole = performance.now();
    if (!times.whole) setTimeout(look, 4);
  };
  look();
})()"""
CHANGES = """async ([zoom, rounds]) => {
  const { app } = __calibrant, stage = app.stage, took = [];
  app.set({ view: zoom ? { fit: false, zoom, row: 2047.5, col: 2047.5 } : { fit: true } });
  do await new Promise((done) => setTimeout(done, 100)); while (!__calibrant.idle());
  for (let i = 0; i < rounds; i++) {
    const name = ['log', 'asinh', 'sqrt', 'linear', 'equalise', 'power'][i % 6];
    const began = performance.now();
    app.set({ stretch: { name }, limits: { mode: 'typed', low: 900 + i, high: 1200 } });
    stage.paint();
    stage.renderer.read(0, 0, 1, 1);
    took.push((performance.now() - began) / 1000);
    await new Promise((done) => setTimeout(done, 30));
  }
  return took }"""
PAGE = """<!DOCTYPE html><html><head><link rel="stylesheet" href="js9support.css">
<link rel="stylesheet" href="js9.css"><script src="js9prefs.js"></script>
<script src="js9support.min.js"></script><script src="js9.min.js"></script>
<script src="js9plugins.js"></script>
<script src="bench.js"></script></head><body>
<div class="JS9" data-width="1280px" data-height="640px"></div></body></html>"""
SCRIPT = """window.times = {};
$(document).on('JS9:ready', () => JS9.Load('frame.fits',
  { onload: () => { window.times.picture = performance.now(); } }));"""
JS9_CHANGES = """(rounds) => { const took = [];
  for (let i = 0; i < rounds; i++) {
    const began = performance.now();
    JS9.SetScale(['log', 'asinh', 'sqrt', 'linear', 'histeq', 'power'][i % 6], 900 + i, 1200);
    took.push((performance.now() - began) / 1000); }
  return took }"""


def js9():
    """Folder of JS9, or None where it cannot be had."""
    found = PLACE / "package"
    if found.is_dir():
        return found
    PLACE.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["npm", "pack", "--silent", JS9], cwd=PLACE, check=True, capture_output=True, timeout=180
        )
        with tarfile.open(next(PLACE.glob("js9-*.tgz"))) as packed:
            packed.extractall(PLACE, filter="data")
    except (OSError, subprocess.SubprocessError, StopIteration, tarfile.TarError):
        shutil.rmtree(PLACE, ignore_errors=True)
        return None
    return found


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a log."""

    def log_message(self, *words):
        """Say nothing."""


@contextlib.contextmanager
def folder_served(folder):
    """Address of a plain server of files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def viewed(*files):
    """Address of our viewer, in a process of its own."""
    command = [sys.executable, "-m", "calibrant", "view", "--no-browser", *map(str, files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            words = (word for line in process.stdout for word in line.split())
            yield next(word for word in words if word.startswith("http://"))
        finally:
            process.terminate()


@contextlib.contextmanager
def tab(driver, path):
    """A page in a browser process of its own."""
    browser = driver.chromium.launch(executable_path=path, args=[*FLAGS])
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    yield page
    browser.close()


def until(page, expression, seconds=60):
    """Wait without eval, which our pages forbid."""
    for _ in range(seconds * 10):
        if page.evaluate(f"() => Boolean({expression})"):
            return
        page.wait_for_timeout(100)
    raise TimeoutError(expression)


def ours(driver, path, file):
    """Seconds to the first picture, to full resolution, of a change of stretch, also in imitated WebGL2."""
    with viewed(file) as url, tab(driver, path) as page:
        page.add_init_script(WATCH)
        page.goto(url)
        until(page, "window.times.whole")
        found = {name: value / 1000 for name, value in page.evaluate("window.times").items()}
        fitted, pixels = (page.evaluate(CHANGES, [zoom, 12]) for zoom in (0, 1))
    with viewed(file) as url, tab(driver, path) as page:
        page.goto(f"{url}?renderer=webgl2")
        until(page, "window.__calibrant?.app.stage?.renderer.kind === 'webgl2' && __calibrant.idle()")
        imitated = page.evaluate(CHANGES, [1, 12])
    stretch = max(float(np.median(fitted)), float(np.median(pixels)))
    return found | {"stretch": stretch, "stretch, WebGL2": float(np.median(imitated))}


def theirs(driver, path, file, folder):
    """The same of JS9, as far as it has it."""
    for name, text in (("bench.html", PAGE), ("bench.js", SCRIPT)):
        (folder / name).write_text(text)
    (folder / "frame.fits").unlink(missing_ok=True)
    (folder / "frame.fits").symlink_to(file)
    with folder_served(folder) as url, tab(driver, path) as page:
        page.goto(f"{url}bench.html")
        until(page, "window.times?.picture")
        picture = page.evaluate("window.times.picture") / 1000
        return {"picture": picture, "stretch": float(np.median(page.evaluate(JS9_CHANGES, 12)))}


def resident(page, kinds=("renderer", "GPU")):
    """Bytes of the largest process of each kind behind a page, pages of memory that are shared by shares."""
    session = page.context.browser.new_browser_cdp_session()
    told = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    found = dict.fromkeys(kinds, 0)
    for one in told:
        if one["type"] in found:
            rollup = Path(f"/proc/{int(one['id'])}/smaps_rollup").read_text()
            size = int(rollup.partition("\nPss:")[2].split()[0]) * 1024
            found[one["type"]] = max(found[one["type"]], size)
    return found


def many(driver, path, file, folder, count):
    """That many files of full size open, each looked at, then blinking: pictures per second, and memory."""
    files = [folder / f"frame{number:02d}.fits" for number in range(count)]
    for one in files:
        one.unlink(missing_ok=True)
        os.link(file, one)
    with viewed(*files) as url, tab(driver, path) as page:
        page.goto(url)
        until(page, f"window.__calibrant?.app.state.frames.length === {count}")
        for number in range(1, count + 1):
            page.evaluate("(current) => __calibrant.app.page({ current })", number)
            until(page, "__calibrant.idle()")
        page.evaluate("(rate) => __calibrant.app.page({ blink: { on: true, rate } })", HERTZ)
        page.wait_for_timeout(1000)
        before = page.evaluate("__calibrant.blinker.count")
        page.wait_for_timeout(4000)
        rate = (page.evaluate("__calibrant.blinker.count") - before) / 4
        return {"rate": rate, **page.evaluate("__calibrant.memory()"), **resident(page)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("size", 4096), ("frames", 16), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    path = shutil.which("chromium") or shutil.which("google-chrome")
    other = js9()
    if path is None:
        print("SKIPPED: there is no Chromium on the PATH")
        return 1
    if other is None:
        print(f"SKIPPED: {JS9} could not be had from npm; ours is measured alone")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="calibrant-bench-") as place, sync_playwright() as driver:
        file = make(Path(place), given.size)
        told = {"ours": [], "JS9": []}
        for _ in range(given.rounds):
            told["ours"].append(ours(driver, path, file))
            if other is not None:
                told["JS9"].append(theirs(driver, path, file, other))
        crowd = many(driver, path, file, Path(place), given.frames)
    return report(given, told, crowd)


def make(folder, size):
    """A frame of noise with a slope and a few stars."""
    from astropy.io import fits

    rng = np.random.default_rng(8)
    data = (
        1000 + 10 * rng.standard_normal((size, size), np.float32) + np.linspace(0, 80, size, dtype=np.float32)
    )
    at = rng.integers(0, size, (2, 400))
    data[at[0], at[1]] += 5000
    fits.writeto(folder / "frame.fits", data.astype(np.float32))
    return folder / "frame.fits"


def report(given, told, crowd):
    """Print what was found; 1 if something falls short."""
    best = {
        who: {name: min(one[name] for one in rounds) for name in rounds[0]}
        for who, rounds in told.items()
        if rounds
    }
    mine, theirs = best["ours"], best.get("JS9", {})
    fine = all(mine[name] < limit for name, limit in LIMITS.items()) and crowd["tiles"] <= MEMORY
    fine &= abs(crowd["rate"] - HERTZ) < 0.5
    if given.json:
        print(json.dumps({"seconds": best, "crowd": crowd}))
        return 0 if fine else 1
    print(f"  {given.size} x {given.size} float32, page of {WIDTH} x {HEIGHT}, painted in software")
    for name, limit in LIMITS.items():
        verdict = f"must be < {1e3 * limit:g} ms: {'yes' if mine[name] < limit else 'NO'}"
        beside = (
            f"   JS9 {1e3 * theirs[name]:6.0f} ms, ratio {theirs[name] / mine[name]:.1f}"
            if name in theirs
            else ""
        )
        print(f"  {name:18s} {1e3 * mine[name]:7.0f} ms ({verdict}){beside}")
    imitated = 1e3 * mine["stretch, WebGL2"]
    print(f"  {'same in WebGL2':18s} {imitated:7.0f} ms (asked for, imitated by the processor)")
    sizes = ", ".join(
        f"{name} {crowd[key] / 1e6:.0f} MB"
        for name, key in (
            ("tiles", "tiles"),
            ("textures", "textures"),
            ("page", "renderer"),
            ("painting", "GPU"),
        )
    )
    print(f"  {given.frames} frames open, blinking at {crowd['rate']:.2f} Hz (asked {HERTZ}): {sizes}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
