# SPDX-License-Identifier: BSD-3-Clause
"""make demo where QEMU cannot be had: it ends with a rate, and leaves nothing."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from harness import APP, ROOT, cpus, runtime_dir


@pytest.mark.skipif(len(set(cpus())) < 2, reason="a rate needs two CPUs")
def test_the_demo_ends_with_a_rate_and_leaves_nothing(tmp_path):
    os.symlink(shutil.which("taskset"), tmp_path / "taskset")
    r = subprocess.run([sys.executable, os.path.join(ROOT, "tests/system/demo.py"), APP],
                       env=dict(os.environ, PATH=str(tmp_path)), capture_output=True, text=True,
                       timeout=120, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    *_, outcome, rate = r.stdout.splitlines()
    assert "demo succeeded: 1000 of 1000 frames" in outcome
    of = r"bytes: ([\d.]+ Mpps, [\d.]+ Gbit/s|no rate, other programs use the two CPUs)"
    assert re.search(rf"one worker between two guests, 64 {of}; 1518 {of}", rate), rate
    place = re.search(r"guests connect to (\S+)/vhost-net", r.stdout)[1]
    assert not os.path.exists(place)
    assert not os.path.exists(os.path.join(runtime_dir(), os.path.basename(place)))
