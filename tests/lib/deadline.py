# SPDX-License-Identifier: BSD-3-Clause
"""How long a test waits."""

import time


class Deadline:
    """So many seconds in which this process runs: to be stopped for a while does not count."""

    LONGEST = 0.5  # between two looks at it

    def __init__(self, seconds):
        self.left, self.last = seconds, time.monotonic()

    def is_over(self):
        now = time.monotonic()
        self.left -= min(now - self.last, self.LONGEST)
        self.last = now
        return self.left < 0
