/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "main.h"
#include "vhost/notify.h"

/* Completions that a context has room for: one is enough, as each is consumed at once. */
#define EVENTS 8

/* How long a write may block where there is no asynchronous I/O. */
#define BLOCKED_MAX_NS 1000000

/*
 * The head of the ring of completions that the kernel maps at the context's address: fs/aio.c,
 * struct aio_ring. The head is user space's to move.
 */
struct completions {
	unsigned int id;
	unsigned int nr;
	unsigned int head;
	unsigned int tail;
	unsigned int magic;
	unsigned int compat_features;
	unsigned int incompat_features;
};
#define COMPLETIONS_MAGIC 0xa10a10a1

static __thread struct notifier {
	enum { UNTRIED, AIO, TIMER, NOTHING } kind;
	aio_context_t aio;
	timer_t timer;
} notifier;

/* An operation on it completes at once. Of the file: pthread_once() passes no argument. */
static int dev_null = -1;

static void
interrupt_nothing_but_the_write(int sig)
{
	RTE_SET_USED(sig);
}

/* Once for all threads: a signal without SA_RESTART, so that it ends a write that blocks. */
static void
prepare(void)
{
	struct sigaction action = { .sa_handler = interrupt_nothing_but_the_write };

	dev_null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigemptyset(&action.sa_mask);
	sigaction(SIGRTMAX, &action, NULL);
}

static void
use_timer(struct notifier *n, int why)
{
	static bool logged;
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMAX };
	sigset_t set;

	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	n->kind = timer_create(CLOCK_MONOTONIC, &event, &n->timer) == 0 ? TIMER : NOTHING;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	if (!__atomic_exchange_n(&logged, true, __ATOMIC_RELAXED))
		RTE_LOG(WARNING, DATA, "no asynchronous I/O, guests are notified by slower means: "
			"io_setup: %s\n", strerror(why));
}

static void
set_up(struct notifier *n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, prepare);
	if (dev_null >= 0 && syscall(SYS_io_setup, EVENTS, &n->aio) == 0)
		n->kind = AIO;
	else
		use_timer(n, errno);
}

/* Consume the completion. Nobody else reads this thread's ring. */
static void
reap(aio_context_t aio)
{
	struct completions *c = (struct completions *)aio;
	struct io_event event;
	struct timespec none = { 0, 0 };

	if (likely(c->magic == COMPLETIONS_MAGIC && c->incompat_features == 0))
		__atomic_store_n(&c->head, __atomic_load_n(&c->tail, __ATOMIC_ACQUIRE),
			__ATOMIC_RELEASE);
	else
		syscall(SYS_io_getevents, aio, 0L, 1L, &event, &none);
}

static bool
send_by_aio(aio_context_t aio, int callfd)
{
	struct iocb operation = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)dev_null,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)callfd,
	};
	struct iocb *list = &operation;

	if (unlikely(syscall(SYS_io_submit, aio, 1L, &list) != 1))
		return errno != EINVAL && errno != EBADF;
	reap(aio);
	return true;
}

/* The timer repeats: the first signal may come before the write begins. */
static bool
send_by_write(timer_t timer, int callfd)
{
	struct itimerspec limit = { { 0, BLOCKED_MAX_NS }, { 0, BLOCKED_MAX_NS } };
	struct itimerspec off = { { 0, 0 }, { 0, 0 } };
	bool sent;

	if (timer_settime(timer, 0, &limit, NULL) < 0)
		return false;
	sent = eventfd_write(callfd, 1) == 0 || errno == EAGAIN; /* at its end: readable */
	timer_settime(timer, 0, &off, NULL);
	return sent;
}

bool
notify_send(int callfd)
{
	struct notifier *n = &notifier;

	if (unlikely(n->kind == UNTRIED))
		set_up(n);
	if (likely(n->kind == AIO))
		return send_by_aio(n->aio, callfd);
	return n->kind == TIMER && send_by_write(n->timer, callfd);
}

void
notify_end(void)
{
	struct notifier *n = &notifier;

	if (n->kind == AIO)
		syscall(SYS_io_destroy, n->aio);
	else if (n->kind == TIMER)
		timer_delete(n->timer);
	*n = (struct notifier){ .kind = UNTRIED };
}
