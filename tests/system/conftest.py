# SPDX-License-Identifier: BSD-3-Clause
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

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
            made.append(new[-1])
            switch.wait_guests(before + 1)
        return new[0] if n == 1 else new

    yield connect
    for guest in made:
        if not guest.mem.closed:
            guest.close()
