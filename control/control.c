/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_cycles.h>

#include "control/control.h"
#include "control/reload.h"
#include "control/stats.h"
#include "log/log.h"
#include "port/guest.h"
#include "process/capture.h"
#include "process/process.h"
#include "switch/mirror.h"
#include "uplink/uplink.h"

/* How often it looks at the links of ports and at what the log has to report, at least. */
#define WATCH_MS 1000

/* How often the NIC's filters follow the FDB. Until then the default pool has the frames. */
#define FOLLOW_MS 100

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

/* Once in WATCH_MS. */
static bool
is_time(uint64_t *last)
{
	uint64_t now = rte_rdtsc();

	if (now - *last < WATCH_MS * rte_get_tsc_hz() / MS_PER_S)
		return false;
	*last = now;
	return true;
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
	int wait_ms = c->uplink->assigns_pools ? FOLLOW_MS : WATCH_MS;
	uint64_t ticks, watched = 0;
	bool watch;
	int ready;

	for (;;) {
		ready = poll(fds, RTE_DIM(fds), wait_ms);
		if (ready < 0 && errno == EINTR)
			continue; /* what revents say is of the round before */
		if (ready < 0) {
			RTE_LOG(ERR, CONFIG, "the control loop cannot wait: %s\n",
				strerror(errno));
			break;
		}
		watch = is_time(&watched);
		if (watch || ready != 0 || wait_ms == WATCH_MS) {
			log_report(false);
			capture_watch();
			uplink_watch_link(c->uplink);
			mirror_watch_link(c->mirror);
		}
		if (fds[WAKE].revents & POLLIN)
			guests_serve_requests(c->guests);
		if (fds[TIMER].revents & POLLIN &&
				read(c->timer_fd, &ticks, sizeof(ticks)) == sizeof(ticks))
			stats_print(c->stats, &c->last);
		if (fds[SIGNAL].revents & POLLIN) {
			if (!process_takes_reload(c->signal_fd))
				break;
			process_notify("RELOADING=1");
			reload_again(c->cfg, c->guests);
			process_notify("READY=1");
		}
		if (watch)
			reload_age_addresses(c->guests);
		pools_follow(c->guests);
	}
	process_notify("STOPPING=1");
	__atomic_store_n(c->stop, true, __ATOMIC_RELAXED);
	return c;
}
