/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include <rte_lcore.h>
#include <rte_pause.h>
#include <rte_rcu_qsbr.h>
#include <rte_version.h>
#if RTE_VERSION >= RTE_VERSION_NUM(23, 7, 0, 0)
#include <rte_thread.h>
#endif

#include "thread.h"

/* A worker's round is over in a few microseconds, if the worker has a CPU. */
#define SPINS 200
#define SLEEP_NS 20000

#if RTE_VERSION < RTE_VERSION_NUM(23, 7, 0, 0)
int
start_control_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	return abs(rte_ctrl_thread_create(thread, name, NULL, run, arg));
}
#else
struct thread_call {
	void *(*run)(void *);
	void *arg;
};

static uint32_t
enter_thread(void *arg)
{
	struct thread_call call = *(struct thread_call *)arg;

	free(arg);
	call.run(call.arg);
	return 0;
}

int
start_control_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	struct thread_call *call = malloc(sizeof(*call));
	rte_thread_t id;
	int ret;

	if (call == NULL)
		return ENOMEM;
	*call = (struct thread_call){ run, arg };
	ret = abs(rte_thread_create_control(&id, name, enter_thread, call));
	if (ret != 0)
		free(call);
	*thread = (pthread_t)id.opaque_id;
	return ret;
}
#endif

void
wait_for_workers(struct rte_rcu_qsbr *rcu)
{
	const struct timespec nap = { .tv_nsec = SLEEP_NS };
	uint64_t token = rte_rcu_qsbr_start(rcu);
	unsigned int i;

	for (i = 0; rte_rcu_qsbr_check(rcu, token, false) == 0; i++) {
		if (i < SPINS)
			rte_pause();
		else
			nanosleep(&nap, NULL);
	}
}
