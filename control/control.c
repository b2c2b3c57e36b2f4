/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <rte_common.h>

#include "control/control.h"
#include "control/stats.h"
#include "log/log.h"
#include "port/guest.h"
#include "process/capture.h"
#include "process/process.h"
#include "switch/mirror.h"
#include "uplink/uplink.h"

/* How often it looks at the links of ports and at what the log has to report, at least. */
#define WATCH_MS 1000

int
control_open(struct control *control, unsigned int stats_period)
{
	struct itimerspec every = { .it_interval.tv_sec = stats_period,
		.it_value.tv_sec = stats_period };

	control->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (control->timer_fd < 0 || timerfd_settime(control->timer_fd, 0, &every, NULL) < 0)
		return -errno;
	return 0;
}

void *
control_run(void *arg)
{
	enum { SIGNAL, WAKE, TIMER, LINK, MIRROR };
	struct control *c = arg;
	struct pollfd fds[] = {
		[SIGNAL] = { .fd = c->signal_fd, .events = POLLIN },
		[WAKE] = { .fd = c->guests->wake_fd, .events = POLLIN },
		[TIMER] = { .fd = c->timer_fd, .events = POLLIN },
		[LINK] = { .fd = uplink_link_fd(c->uplink), .events = POLLIN },
		[MIRROR] = { .fd = mirror_link_fd(c->mirror), .events = POLLIN },
	};
	uint64_t ticks;

	for (;;) {
		if (poll(fds, RTE_DIM(fds), WATCH_MS) < 0 && errno != EINTR)
			break;
		log_report(false);
		capture_watch();
		uplink_watch_link(c->uplink);
		mirror_watch_link(c->mirror);
		if (fds[WAKE].revents & POLLIN)
			guests_update_uplink(c->guests);
		if (fds[TIMER].revents & POLLIN &&
				read(c->timer_fd, &ticks, sizeof(ticks)) == sizeof(ticks))
			stats_print(c->stats, &c->last);
		if (fds[SIGNAL].revents & POLLIN)
			break;
	}
	process_notify("STOPPING=1");
	__atomic_store_n(c->stop, true, __ATOMIC_RELAXED);
	return c;
}
