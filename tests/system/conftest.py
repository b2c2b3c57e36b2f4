# SPDX-License-Identifier: BSD-3-Clause
import subprocess

import pytest

pytest.register_assert_rewrite("frames", "harness", "messages", "traffic", "vhostuser")

from harness import hugepages, reserved_hugepages  # noqa: E402
from vhostuser import Guest  # noqa: E402


@pytest.fixture
def guests():
    """A function that connects guests and closes them at the end of the test."""
    made = []

    def connect(switch, n=1, **kw):
        new = []
        for _ in range(n):
            mac = kw.pop("mac", None) or f"02:00:00:00:01:{len(made) % 256:02x}"
            before = len(switch.guests())
            new.append(Guest(switch.sock, mac, **kw))
            new[-1].switch = switch
            made.append(new[-1])
            if kw.get("enable", True):
                switch.wait_guests(before + 1)
        return new[0] if n == 1 else new

    yield connect
    for guest in made:
        if not guest.mem.closed:
            guest.close()


@pytest.fixture
def hugetlbfs(tmp_path):
    """Hugepages that a secondary process can share: a mount of one's own."""
    with reserved_hugepages(600):
        if hugepages() < 500:
            pytest.skip("no hugepages here, and this cannot do without")
        mount = tmp_path / "huge"
        mount.mkdir()
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", mount], check=True)
        yield str(mount)
        subprocess.run(["umount", mount], check=True)
