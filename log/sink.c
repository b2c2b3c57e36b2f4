/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "log/sink.h"

/* How long an ending process waits for a reader: one that is only slow reads within STUCK_MS. */
#define DRAIN_MS 2000
#define STUCK_MS 300

/* Statistics may fill half of the queue, so that there is room for the log beside them. */
#define BLOCKS_MAX (TEXT_QUEUE_BYTES / 2)

/*
 * A datagram socket to syslog's daemon, or -1: there is none, which is not an error, as in
 * syslog(3).
 */
static int
connect_syslog(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* As syslog(3) does it: the daemon may have been restarted, so there is a second attempt. */
static int
send_syslog(struct sink *s, const char *bytes, size_t len)
{
	unsigned int attempt;

	for (attempt = 0; attempt < 2; attempt++) {
		if (s->fd < 0)
			s->fd = connect_syslog();
		if (s->fd < 0)
			return 0;
		if (send(s->fd, bytes, len, MSG_NOSIGNAL) >= 0) {
			__atomic_fetch_add(&s->moved, len, __ATOMIC_RELAXED);
			return 0;
		}
		close(s->fd);
		s->fd = -1;
	}
	return errno;
}

/* Returns 0 or an errno, after which a part may have been written. */
static int
write_all(struct sink *s, const char *bytes, size_t len)
{
	struct pollfd writable = { .fd = s->fd, .events = POLLOUT };
	size_t done = 0;
	int error = 0;
	ssize_t n;

	while (done < len && error == 0) {
		n = write(s->fd, bytes + done, len - done);
		if (n > 0) {
			__atomic_fetch_add(&s->moved, (uint64_t)n, __ATOMIC_RELAXED);
			done += (size_t)n;
		} else if (n == 0) {
			error = EIO;
		} else if (errno == EAGAIN) {
			poll(&writable, 1, -1); /* others share the descriptor, and made it so */
		} else if (errno != EINTR) {
			error = errno;
		}
	}
	if (done > 0)
		s->torn = error != 0 && bytes[done - 1] != '\n';
	return error;
}

/* RFC 3339, with milliseconds: 2026-11-26T01:05:55.123+01:00 and a space. */
static size_t
put_time(char *to, size_t room, uint64_t when)
{
	time_t seconds = (time_t)(when / 1000000000);
	char date[32], zone[8];
	struct tm tm;
	int n;

	localtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm);
	n = snprintf(to, room, "%s.%03u%.3s:%s ", date, (unsigned int)(when / 1000000 % 1000), zone,
		zone + 3);
	return n < 0 ? 0 : (size_t)n;
}

/* What syslog(3) of the C library puts before a message. */
static size_t
put_syslog(const struct sink *s, char *to, size_t room, const struct text *t, int priority)
{
	time_t seconds = (time_t)(t->when / 1000000000);
	char date[32];
	struct tm tm;
	int n;

	localtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%h %e %T", &tm);
	n = snprintf(to, room, "<%d>%s %.64s[%d]: ", s->facility | priority, date, s->name,
		(int)getpid());
	return n < 0 ? 0 : (size_t)n;
}

/* What goes before a text. Levels of the log are 1 to 8, priorities of syslog 0 to 7. */
static size_t
put_prefix(const struct sink *s, char *to, size_t room, const struct text *t)
{
	int priority = t->level > 0 ? (int)((t->level - 1) & LOG_PRIMASK) : LOG_EMERG;

	if (t->kind == TEXT_BLOCK || t->kind == TEXT_SCREEN)
		return 0;
	switch (s->style) {
	case SINK_FILE:
		return put_time(to, room, t->when);
	case SINK_JOURNAL:
		return (size_t)snprintf(to, room, "<%d>", priority);
	case SINK_SYSLOG:
		return put_syslog(s, to, room, t, priority);
	case SINK_PLAIN:
		break;
	}
	return 0;
}

/* bytes has PREFIX_MAX bytes of room before it. */
static int
write_text(struct sink *s, const struct text *t, char *bytes)
{
	char prefix[PREFIX_MAX];
	size_t n = 0, len = t->len;

	/* What a failed write left of a line is to stay a line of its own. */
	if (s->torn && t->kind != TEXT_SCREEN)
		prefix[n++] = '\n';
	n += put_prefix(s, prefix + n, sizeof(prefix) - n, t);
	memcpy(bytes - n, prefix, n);
	if (s->style != SINK_SYSLOG)
		return write_all(s, bytes - n, n + len);
	if (len > 0 && bytes[len - 1] == '\n')
		len--;
	return send_syslog(s, bytes - n, n + len);
}

static void
count_written(struct sink *s, const struct text *t)
{
	if (t->kind == TEXT_LINE)
		s->count.lines++;
	else if (t->kind != TEXT_REPORT)
		s->count.blocks++;
}

/* error: an errno, or 0 where there was no room. Under the lock. */
static void
count_lost(struct sink *s, const struct text *t, int error)
{
	s->error = error;
	if (t->kind == TEXT_LINE) {
		s->count.lines_lost++;
		s->lines_lost++;
	} else if (t->kind == TEXT_REPORT) {
		s->lines_lost += t->count; /* still to be reported */
	} else {
		s->count.blocks_lost++;
		s->blocks_lost += t->kind == TEXT_BLOCK; /* who misses an old screen? */
	}
}

static void
append(struct sink *s, const struct text *t, const char *bytes)
{
	bool statistics = t->kind == TEXT_BLOCK || t->kind == TEXT_SCREEN;

	if ((statistics && text_queue_used(&s->queue) + t->len > BLOCKS_MAX) ||
			(t->kind == TEXT_SCREEN && s->queue.n[TEXT_SCREEN] > 0) ||
			!text_queue_put(&s->queue, t, bytes)) {
		count_lost(s, t, 0);
		return;
	}
	__atomic_fetch_add(&s->pending, 1, __ATOMIC_RELAXED);
}

/* Half of the queue is empty again, so that the next report is not for the next line. */
static bool
has_room(const struct sink *s)
{
	return !s->failing && text_queue_used(&s->queue) < TEXT_QUEUE_BYTES / 2;
}

/* Put the report of lost lines where they are missing. Under the lock. */
static void
append_report(struct sink *s)
{
	struct text t = { .count = s->lines_lost, .kind = TEXT_REPORT, .level = LOG_WARNING + 1 };
	struct timespec now;
	char line[160];

	if (s->lines_lost == 0 || !has_room(s))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	t.when = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	t.len = (uint32_t)snprintf(line, sizeof(line), "CONFIG: %u log lines lost: %s\n", t.count,
		s->error == 0 ? "nobody read them" : strerror(s->error));
	s->lines_lost = 0;
	append(s, &t, line);
}

void
sink_put(struct sink *s, const struct text *t, const char *bytes)
{
	pthread_mutex_lock(&s->lock);
	append_report(s);
	append(s, t, bytes);
	pthread_cond_signal(&s->filled);
	pthread_mutex_unlock(&s->lock);
}

void
sink_report(struct sink *s)
{
	pthread_mutex_lock(&s->lock);
	append_report(s);
	pthread_cond_signal(&s->filled);
	pthread_mutex_unlock(&s->lock);
}

uint32_t
sink_lost_blocks(struct sink *s, int *error)
{
	uint32_t n = 0;

	pthread_mutex_lock(&s->lock);
	if (has_room(s)) {
		n = s->blocks_lost;
		*error = s->error;
		s->blocks_lost = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void *
sink_run(void *arg)
{
	struct sink *s = arg;
	char *bytes = s->in_hand + PREFIX_MAX;
	struct text t;
	int error;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		if (!text_queue_get(&s->queue, &t, bytes)) {
			pthread_cond_wait(&s->filled, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		error = write_text(s, &t, bytes);
		pthread_mutex_lock(&s->lock);
		s->failing = error != 0;
		if (error == 0)
			count_written(s, &t);
		else
			count_lost(s, &t, error);
		__atomic_fetch_sub(&s->pending, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

int
sink_start(struct sink *s, const char *name)
{
	sigset_t all, before;
	int ret;

	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->filled, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	ret = pthread_create(&s->thread, NULL, sink_run, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret != 0)
		return -ret;
	pthread_setname_np(s->thread, name);
	pthread_detach(s->thread);
	return 0;
}

/* Whether a write would do something now, if only fail. */
static bool
is_writable(const struct sink *s)
{
	struct pollfd writable = { .fd = s->fd, .events = POLLOUT };

	return s->style != SINK_SYSLOG && poll(&writable, 1, 0) > 0;
}

bool
sink_drain(struct sink *s)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	uint64_t moved = 0, now;
	unsigned int total, still = 0;

	for (total = 0; total < DRAIN_MS && still < STUCK_MS; total++) {
		if (__atomic_load_n(&s->pending, __ATOMIC_ACQUIRE) == 0)
			return true;
		now = __atomic_load_n(&s->moved, __ATOMIC_RELAXED);
		still = now != moved || is_writable(s) ? 0 : still + 1;
		moved = now;
		nanosleep(&ms, NULL);
	}
	return false;
}
