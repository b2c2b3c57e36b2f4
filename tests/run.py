#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Run every test and close with one line: N passed, N failed.

Arguments are passed on to pytest: tests/run.py -k vlan -x. If one is a file it stands for all the
tests but the unit tests. Without any, two files run at a time, as most tests wait most of the time,
and then those marked "alone": tests/conftest.py.
"""

import glob
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPORT = os.path.join(ROOT, "build/pytest.log")


def unit(passed_failed):
    for path in sorted(glob.glob(os.path.join(ROOT, "build/unit/test_*[!.d]"))):
        if path.endswith((".d", ".o")):
            continue
        r = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=120, check=False)
        ok = len(re.findall(r"^\[       OK \]", r.stdout, re.M))
        # a test program that died counts as one failure at least
        failed = max(len(set(re.findall(r"^\[  FAILED  \] (\w+)$", r.stdout, re.M))),
                     1 if r.returncode else 0)
        print(f"{os.path.basename(path)}: {ok} passed, {failed} failed", flush=True)
        if failed:
            print(r.stdout)
        passed_failed[0] += ok
        passed_failed[1] += failed


def system(passed_failed, args):
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    places = [] if any(map(os.path.exists, args)) else [os.path.join(ROOT, "tests")]
    with subprocess.Popen([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v",
                           "--durations=16", *places, *args],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
                          cwd=ROOT) as proc, open(REPORT, "a", encoding="utf-8") as log:
        text = ""
        for line in proc.stdout:
            print(line, end="", flush=True)
            log.write(line)
            text += line
    summary = text.strip().splitlines()[-1] if text.strip() else ""
    counts = {word: int(n) for n, word in
              re.findall(r"(\d+) (passed|failed|error|skipped)", summary)}
    passed_failed[0] += counts.get("passed", 0)
    passed_failed[1] += counts.get("failed", 0) + counts.get("error", 0)
    passed_failed[2] += counts.get("skipped", 0)
    if proc.returncode not in (0, 1):
        passed_failed[1] += 1


def main():
    start, result = time.monotonic(), [0, 0, 0]
    # Under nohup, or in the background of a shell, programs that are started would ignore them too.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    if os.path.exists(REPORT):
        os.remove(REPORT)
    unit(result)
    if sys.argv[1:]:
        system(result, sys.argv[1:])
    else:
        system(result, ["-n", "2", "--dist", "loadgroup", "-m", "not alone"])
        system(result, ["-m", "alone"])
    print(f"in {time.monotonic() - start:.0f} s:")
    print(f"{result[0]} passed, {result[1]} failed" +
          (f", {result[2]} skipped" if result[2] else ""))
    return 1 if result[1] or not result[0] else 0


if __name__ == "__main__":
    sys.exit(main())
