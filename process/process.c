/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "log/log.h"
#include "main.h"
#include "process/process.h"

/* How long a message waits for room with the service manager: no longer than an end may take. */
#define NOTIFY_MS 1000

/* Seconds between two lines about descriptors. */
#define LACK_EVERY_S 10

static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGPWR };
static const int deadly[] = { SIGABRT, SIGSEGV, SIGILL, SIGFPE, SIGSYS };
static const int ignored[] = { SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO,
	SIGSTKFLT, SIGXFSZ, SIGTTIN, SIGTTOU };

/* SIGHUP reads settings again. Of the process, as its signals are. */
static bool reloads;

/* AddressSanitizer's, if the program was built with it. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

int
process_open_descriptors(void)
{
	int fd, got;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		got = open("/dev/null", O_RDWR);
		if (got < 0)
			return -errno;
		if (got != fd) /* the lowest free one is what open() gives */
			return -EBADF;
	}
	return 0;
}

void
process_raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static bool
has_action(int sig, void (*handler)(int))
{
	struct sigaction action;

	return sigaction(sig, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
		action.sa_handler == handler;
}

static void
get_ending(sigset_t *set)
{
	unsigned int i;

	sigemptyset(set);
	for (i = 0; i < RTE_DIM(ending); i++)
		sigaddset(set, ending[i]);
	/* A blocked signal is kept even where it is to be ignored. */
	if (has_action(SIGHUP, SIG_IGN))
		sigdelset(set, SIGHUP);
}

/*
 * The action is the default one again, so the signal comes back when the handler returns: the
 * instruction that failed runs again, or abort() goes on. One that was sent is sent again.
 */
static void
on_deadly(int sig, siginfo_t *info, void *context)
{
	RTE_SET_USED(context);
	log_drain();
	if (info->si_code <= 0)
		raise(sig);
}

static void
catch_deadly(void)
{
	struct sigaction action = { .sa_sigaction = on_deadly,
		.sa_flags = SA_SIGINFO | (int)SA_RESETHAND };
	unsigned int i;

	sigemptyset(&action.sa_mask);
	for (i = 0; i < RTE_DIM(deadly); i++) {
		if (has_action(deadly[i], SIG_DFL)) /* a sanitizer has its own */
			sigaction(deadly[i], &action, NULL);
	}
	if (__sanitizer_set_death_callback != NULL)
		__sanitizer_set_death_callback(log_drain);
}

int
process_catch_signals(void)
{
	sigset_t set;
	unsigned int i;
	int fd;

	get_ending(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (i = 0; i < RTE_DIM(ignored); i++)
		signal(ignored[i], SIG_IGN);
	catch_deadly();
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void
process_reload_on_hangup(void)
{
	reloads = true;
}

bool
process_takes_reload(int fd)
{
	struct signalfd_siginfo info;

	return read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGHUP && reloads;
}

void
process_ignore_others(void)
{
	int sig;

	for (sig = SIGRTMIN; sig <= SIGRTMAX; sig++) {
		if (has_action(sig, SIG_DFL))
			signal(sig, SIG_IGN);
	}
}

bool
process_is_to_end(void)
{
	sigset_t pending, set;

	get_ending(&set);
	if (reloads)
		sigdelset(&set, SIGHUP);
	sigpending(&pending);
	sigandset(&pending, &pending, &set);
	return !sigisemptyset(&pending);
}

bool
process_lacks_descriptors(int error)
{
	static time_t last; /* of the process, as its descriptors are; atomic */
	struct timespec now;
	struct rlimit limit = { 0 };

	if (error != EMFILE && error != ENFILE)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (last != 0 && now.tv_sec - __atomic_load_n(&last, __ATOMIC_RELAXED) < LACK_EVERY_S)
		return true;
	__atomic_store_n(&last, now.tv_sec, __ATOMIC_RELAXED);
	getrlimit(RLIMIT_NOFILE, &limit);
	if (error == ENFILE)
		RTE_LOG(ERR, CONFIG,
			"no file descriptors left on this machine (sysctl fs.file-max)\n");
	else
		RTE_LOG(ERR, CONFIG, "no file descriptors left: this process may have %llu of them "
			"(ulimit -Hn, LimitNOFILE= of a service)\n",
			(unsigned long long)limit.rlim_cur);
	return true;
}

/* A path, or with @ before it a name that is in no directory. 0: neither. */
static socklen_t
notify_address(const char *name, struct sockaddr_un *un)
{
	size_t len = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || len >= sizeof(un->sun_path))
		return 0;
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, name, len);
	if (name[0] == '@')
		un->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
}

void
process_notify(const char *state)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct pollfd writable = { .events = POLLOUT };
	struct sockaddr_un un;
	socklen_t len = name != NULL ? notify_address(name, &un) : 0;

	if (len == 0)
		return;
	writable.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (writable.fd < 0)
		return;
	if (connect(writable.fd, (struct sockaddr *)&un, len) < 0 ||
			poll(&writable, 1, NOTIFY_MS) < 0 ||
			send(writable.fd, state, strlen(state), MSG_NOSIGNAL) < 0)
		RTE_LOG(WARNING, CONFIG, "cannot notify the service manager at %s of %s: %s\n",
			name, state, strerror(errno));
	close(writable.fd);
}
