/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_version.h>

#include "log/limit.h"
#include "log/log.h"
#include "log/sink.h"
#include "main.h"

/* Longest line: a socket's path, a reason and a line of EAL's have room. The rest is a new line. */
#define LINE_BYTES 1024

/*
 * A QEMU guest's start is 60 lines of librte_vhost and 3 of our own: ten guests of a host that
 * starts may have all of the former, and as many guests as there can be all of the latter.
 */
#define VHOST_BURST 600
#define OWN_BURST 512

/* Warnings and errors, and lines of EAL and drivers, that come while the switch runs. */
#define ALERT_BURST 64
#define OTHER_BURST 256

/* Lines a second after that. */
#define PER_S 4

#define LIMIT(lines) { .burst = (lines), .per_s = PER_S }

/* Lines by what they begin with. The last row is for all others. */
static struct line_class {
	const char *prefix;
	struct line_limit info, alert;
} classes[] = {
	{ "VHOST_", LIMIT(VHOST_BURST), LIMIT(ALERT_BURST) },
	{ "DATA:", LIMIT(OWN_BURST), LIMIT(ALERT_BURST) },
	{ "CUSE:", LIMIT(OWN_BURST), LIMIT(ALERT_BURST) },
	{ "", LIMIT(OTHER_BURST), LIMIT(OTHER_BURST) },
};

#define OTHERS (&classes[RTE_DIM(classes) - 1])

/* Where a line comes from. */
enum source { FROM_LOG, FROM_STDERR, SOURCES };

/* Lines are put together in the thread that writes them: the C library may give them in pieces. */
static __thread struct line {
	size_t len;
	char bytes[LINE_BYTES];
} line_of_thread[SOURCES];

/* Of the file: streams of the C library and the handlers of a crash know no argument. */
static struct sink sink_stderr = { .fd = STDERR_FILENO };
static struct sink sink_stdout = { .fd = STDOUT_FILENO };
static struct sink sink_syslog = { .fd = -1, .style = SINK_SYSLOG };

static struct {
	bool open;
	bool has_syslog;
	bool limit_all;	    /* atomic */
	struct sink *out;   /* of statistics */
	pthread_mutex_t lock; /* of the limits */
	uint64_t suppressed;
} output = { .out = &sink_stdout, .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t
nanoseconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct line_class *
class_of(const char *bytes, size_t len)
{
	struct line_class *c = classes;
	size_t n;

	for (; c != OTHERS; c++) {
		n = strlen(c->prefix);
		if (len >= n && memcmp(bytes, c->prefix, n) == 0)
			break;
	}
	return c;
}

/* Lines of this program that are about itself, and not about a guest, are few. */
static bool
is_trusted(const char *bytes, size_t len)
{
	return len >= 7 && (memcmp(bytes, "CONFIG:", 7) == 0 || memcmp(bytes, "UPLINK:", 7) == 0);
}

static bool
may_be_written(const char *bytes, size_t len, uint32_t level)
{
	struct line_class *c = class_of(bytes, len);
	bool may;

	if (level > RTE_LOG_INFO || is_trusted(bytes, len))
		return true;
	if (c == OTHERS && !__atomic_load_n(&output.limit_all, __ATOMIC_RELAXED))
		return true;
	pthread_mutex_lock(&output.lock);
	may = line_limit_take(level <= RTE_LOG_WARNING ? &c->alert : &c->info,
		nanoseconds(CLOCK_MONOTONIC));
	output.suppressed += !may;
	pthread_mutex_unlock(&output.lock);
	return may;
}

static void
put_line(enum source from, const char *bytes, size_t len)
{
	struct text t = { .len = (uint32_t)len, .kind = TEXT_LINE, .level = RTE_LOG_ERR,
		.when = nanoseconds(CLOCK_REALTIME) };

	if (from == FROM_LOG && rte_log_cur_msg_loglevel() > 0)
		t.level = (uint32_t)rte_log_cur_msg_loglevel();
	if (!may_be_written(bytes, len, t.level))
		return;
	sink_put(&sink_stderr, &t, bytes);
	if (from == FROM_LOG && output.has_syslog)
		sink_put(&sink_syslog, &t, bytes);
}

/* What the C library calls for both streams (fopencookie(3)). */
static ssize_t
take(void *cookie, const char *bytes, size_t size)
{
	enum source from = *(const enum source *)cookie;
	struct line *line = &line_of_thread[from];
	size_t i;

	for (i = 0; i < size; i++) {
		line->bytes[line->len++] = bytes[i];
		if (bytes[i] != '\n' && line->len < sizeof(line->bytes) - 1)
			continue;
		if (bytes[i] != '\n')
			line->bytes[line->len++] = '\n';
		put_line(from, line->bytes, line->len);
		line->len = 0;
	}
	return (ssize_t)size;
}

static FILE *
open_stream(const enum source *from)
{
	FILE *f = fopencookie((void *)(uintptr_t)from, "w",
		(cookie_io_functions_t){ .write = take });

	if (f != NULL)
		setvbuf(f, NULL, _IONBF, 0);
	return f;
}

static bool
is_same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
		st_a.st_ino == st_b.st_ino;
}

/* systemd.exec(5): whoever has this descriptor as stderr may log to the journal through it. */
static bool
is_journal(int fd)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return text != NULL && sscanf(text, "%llu:%llu", &dev, &ino) == 2 && fstat(fd, &st) == 0 &&
		st.st_dev == dev && st.st_ino == ino;
}

static enum sink_style
style_of(int fd)
{
	struct stat st;

	if (is_journal(fd))
		return SINK_JOURNAL;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? SINK_FILE : SINK_PLAIN;
}

/* The names that --syslog accepts, as EAL has them. */
static const struct {
	const char *name;
	int value;
} facilities[] = {
	{ "auth", LOG_AUTH }, { "cron", LOG_CRON }, { "daemon", LOG_DAEMON }, { "ftp", LOG_FTP },
	{ "kern", LOG_KERN }, { "lpr", LOG_LPR }, { "mail", LOG_MAIL }, { "news", LOG_NEWS },
	{ "syslog", LOG_SYSLOG }, { "user", LOG_USER }, { "uucp", LOG_UUCP },
	{ "local0", LOG_LOCAL0 }, { "local1", LOG_LOCAL1 }, { "local2", LOG_LOCAL2 },
	{ "local3", LOG_LOCAL3 }, { "local4", LOG_LOCAL4 }, { "local5", LOG_LOCAL5 },
	{ "local6", LOG_LOCAL6 }, { "local7", LOG_LOCAL7 },
};

/* EAL's option --syslog, which takes no effect in EAL since it has a stream given. */
static bool
find_facility(int argc, char **argv, int *facility)
{
	const char *name = NULL;
	unsigned int i;
	int arg;

	for (arg = 1; arg < argc && strcmp(argv[arg], "--") != 0; arg++) {
		if (strncmp(argv[arg], "--syslog=", 9) == 0)
			name = argv[arg] + 9;
		else if (strcmp(argv[arg], "--syslog") == 0)
			name = arg + 1 < argc ? argv[arg + 1] : "";
	}
	for (i = 0; i < RTE_DIM(facilities) && name != NULL; i++) {
		if (strcmp(name, facilities[i].name) == 0)
			*facility = facilities[i].value;
	}
	return name != NULL;
}

static int
open_syslog(int argc, char **argv)
{
	/* Newer releases of EAL log to syslog only where --syslog is given. */
	bool always = RTE_VERSION < RTE_VERSION_NUM(24, 11, 0, 0);
	bool wanted;

	sink_syslog.facility = LOG_DAEMON;
	sink_syslog.name = program_invocation_short_name;
	wanted = find_facility(argc, argv, &sink_syslog.facility);
	/* The journal is where syslog leads to as well: one of them is enough. */
	output.has_syslog = (always || wanted) && sink_stderr.style != SINK_JOURNAL;
	return output.has_syslog ? sink_start(&sink_syslog, "log-syslog") : 0;
}

int
log_open(int argc, char **argv)
{
	static const enum source from_log = FROM_LOG, from_stderr = FROM_STDERR;
	FILE *log = open_stream(&from_log), *err = open_stream(&from_stderr);
	int ret;

	if (log == NULL || err == NULL)
		return -ENOMEM;
	sink_stderr.style = style_of(STDERR_FILENO);
	ret = sink_start(&sink_stderr, "log-stderr");
	if (ret == 0 && is_same_file(STDOUT_FILENO, STDERR_FILENO))
		output.out = &sink_stderr; /* so that a table is not torn by a line */
	else if (ret == 0)
		ret = sink_start(&sink_stdout, "log-stdout");
	if (ret == 0)
		ret = open_syslog(argc, argv);
	if (ret < 0)
		return ret;
	output.open = true;
	atexit(log_drain);
	stderr = err;
	rte_openlog_stream(log);
	return 0;
}

void
log_move(void)
{
	cpu_set_t cpus;

	if (pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus) != 0)
		return;
	pthread_setaffinity_np(sink_stderr.thread, sizeof(cpus), &cpus);
	if (output.out == &sink_stdout)
		pthread_setaffinity_np(sink_stdout.thread, sizeof(cpus), &cpus);
	if (output.has_syslog)
		pthread_setaffinity_np(sink_syslog.thread, sizeof(cpus), &cpus);
}

void
log_limit_all(void)
{
	__atomic_store_n(&output.limit_all, true, __ATOMIC_RELAXED);
}

static void
report_suppressed(const struct line_class *c, struct line_limit *limit, const char *what,
	bool last)
{
	uint32_t n;

	pthread_mutex_lock(&output.lock);
	n = line_limit_report(limit, nanoseconds(CLOCK_MONOTONIC), last);
	pthread_mutex_unlock(&output.lock);
	if (n > 0)
		RTE_LOG(WARNING, CONFIG, "%u %s%s%s suppressed: more than %u a second\n", n, what,
			c == OTHERS ? "" : " that begin with ", c->prefix, limit->per_s);
}

void
log_report(bool last)
{
	struct line_class *c;
	uint32_t blocks;
	int error = 0;

	for (c = classes; c <= OTHERS; c++) {
		report_suppressed(c, &c->info, "log lines", last);
		report_suppressed(c, &c->alert, "warnings", last);
	}
	sink_report(&sink_stderr);
	if (output.has_syslog)
		sink_report(&sink_syslog);
	blocks = sink_lost_blocks(output.out, &error);
	if (blocks > 0)
		RTE_LOG(WARNING, CONFIG, "%u blocks of statistics lost: %s\n", blocks,
			error == 0 ? "nobody read them" : strerror(error));
}

void
log_statistics(const char *text, size_t len, bool screen)
{
	struct text t = { .len = (uint32_t)len, .kind = screen ? TEXT_SCREEN : TEXT_BLOCK,
		.when = nanoseconds(CLOCK_REALTIME) };

	sink_put(output.out, &t, text);
}

/* Of one sink, under its lock. */
static struct sink_counters
count_of(struct sink *s)
{
	struct sink_counters count;

	pthread_mutex_lock(&s->lock);
	count = s->count;
	pthread_mutex_unlock(&s->lock);
	return count;
}

void
log_count(struct log_counters *sum)
{
	struct sink_counters err = count_of(&sink_stderr), out = count_of(output.out);

	*sum = (struct log_counters){ .lines = err.lines, .lines_lost = err.lines_lost,
		.blocks = out.blocks, .blocks_lost = out.blocks_lost };
	if (output.has_syslog)
		sum->syslog_lost = count_of(&sink_syslog).lines_lost;
	pthread_mutex_lock(&output.lock);
	sum->lines_suppressed = output.suppressed;
	pthread_mutex_unlock(&output.lock);
}

void
log_drain(void)
{
	if (!output.open)
		return;
	sink_drain(&sink_stderr);
	if (output.out == &sink_stdout)
		sink_drain(&sink_stdout);
	if (output.has_syslog)
		sink_drain(&sink_syslog);
}
