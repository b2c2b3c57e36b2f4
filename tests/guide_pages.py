#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""make check-guide: every page of the guide in headless Chromium, as readers meet it.

tests/guide_pages.py [--shots DIR] [PAGE...]

Each page is opened 1280 and 400 pixels wide, light and dark. Text, code included, must have a
contrast of 4.5 to 1 with what is under it (WCAG 2.1, 1.4.3), and nothing may be wider than the page
unless it scrolls for itself. --shots leaves pictures of each.
"""

import argparse
import base64
import glob
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HTML = os.path.join(ROOT, "build/doc/html")
WIDTHS, SCHEMES = (1280, 400), ("light", "dark")
CONTRAST = 4.5
SHOT = 1600  # pixels of a page in one picture

# Runs in the page: [[what, where], ...], one for each fault.
LOOK = r"""
const least = arguments[0], wide = document.documentElement.clientWidth, faults = [];
const rgba = text => { const v = (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
	return v.length < 4 ? [...v, 1] : v; };
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
const light = c => { const v = c.slice(0, 3).map(x => x / 255).map(
	x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
	return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
const chain = e => { const all = []; for (; e; e = e.parentElement) all.unshift(e); return all; };
const under = e => chain(e).reduce(
	(below, x) => over(rgba(getComputedStyle(x).backgroundColor), below), [255, 255, 255]);
const shown = e => chain(e).every(x => { const s = getComputedStyle(x);
	return s.visibility != 'hidden' && s.display != 'none' && s.opacity != 0; });
const scrolls = e => chain(e.parentElement).some(
	x => x !== document.documentElement && x !== document.body
		&& !x.matches('.content, .page, .main')
		&& ['auto', 'scroll', 'hidden'].includes(getComputedStyle(x).overflowX));
const name = e => e.tagName.toLowerCase() + (e.className ? '.' + e.className : '') + ' "'
	+ e.textContent.replace(/\s+/g, ' ').trim().slice(0, 40) + '"';

const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = new Set();
let lowest = 99, texts = 0;
while (walker.nextNode()) {
	const e = walker.currentNode.parentElement, r = e.getBoundingClientRect();
	if (!walker.currentNode.data.trim() || seen.has(e) || !r.width || r.right <= 0
			|| ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(e.tagName) || !shown(e))
		continue;
	seen.add(e);
	texts++;
	const below = under(e), a = light(over(rgba(getComputedStyle(e).color), below));
	const b = light(below), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
	lowest = Math.min(lowest, ratio);
	if (ratio < least)
		faults.push(['contrast ' + ratio.toFixed(2), name(e)]);
}
for (const e of document.querySelectorAll('.page *')) {
	const r = e.getBoundingClientRect();
	if (r.width && r.right > wide + 1 && r.left < wide && shown(e) && !scrolls(e))
		faults.push(['reaches to ' + Math.round(r.right) + ' of ' + wide, name(e)]);
}
for (const e of document.querySelectorAll('html, .content'))
	if (e.scrollWidth > e.clientWidth + 1)
		faults.push(['is ' + e.scrollWidth + ' wide', e.tagName]);
return [faults, lowest, texts];
"""


class Browser:
    """Headless Chromium, by WebDriver."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)
        said = (re.search(r"successfully on port (\d+)", x) for x in self.driver.stdout)
        port = next(m[1] for m in said if m)
        self.url = f"http://127.0.0.1:{port}/session"
        self.session = ""
        args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        answer = self.post("", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": args}}}})
        self.session = "/" + answer["sessionId"]

    def post(self, path, data):
        request = urllib.request.Request(self.url + self.session + path, json.dumps(data).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def cdp(self, command, **params):
        return self.post("/goog/cdp/execute", {"cmd": command, "params": params})

    def open(self, path, width, scheme):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900,
                 deviceScaleFactor=1, mobile=width < 600)
        self.cdp("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.post("/url", {"url": f"file://{path}"})

    def look(self):
        return self.post("/execute/sync", {"script": LOOK, "args": [CONTRAST]})

    def shots(self, path, width):
        """Pictures of a page, from the top to the bottom."""
        script = "return document.documentElement.scrollHeight"
        height = self.post("/execute/sync", {"script": script, "args": []})
        # what was never in view is not drawn
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 600)
        time.sleep(0.3)
        for n, top in enumerate(range(0, height, SHOT)):
            clip = {"x": 0, "y": top, "width": width, "height": min(SHOT, height - top), "scale": 1}
            image = self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
            with open(f"{path}-{n}.png", "wb") as f:
                f.write(base64.b64decode(image["data"]))

    def close(self):
        try:
            request = urllib.request.Request(self.url + self.session, method="DELETE")
            urllib.request.urlopen(request, timeout=20).close()
        finally:
            self.driver.terminate()
            self.driver.wait(20)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shots")
    parser.add_argument("pages", nargs="*")
    args = parser.parse_args()
    pages = [f"{HTML}/{p}.html" for p in args.pages] or sorted(glob.glob(f"{HTML}/*.html"))
    if not pages:
        sys.exit("there is no guide: make doc")
    wrong, least, texts = 0, 99, 0
    browser = Browser()
    try:
        for path in pages:
            page = os.path.basename(path)[:-5]
            for width in WIDTHS:
                for scheme in SCHEMES:
                    browser.open(path, width, scheme)
                    faults, lowest, count = browser.look()
                    least, texts, wrong = min(least, lowest), texts + count, wrong + len(faults)
                    for what, where in faults:
                        print(f"{page}, {width} pixels, {scheme}: {what}: {where}")
                    if args.shots:
                        os.makedirs(args.shots, exist_ok=True)
                        browser.shots(f"{args.shots}/{page}-{width}-{scheme}", width)
    finally:
        browser.close()
    print(f"{len(pages)} pages, {texts} texts, lowest contrast {least:.2f}: {wrong} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
