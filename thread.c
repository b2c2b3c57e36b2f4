/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <rte_lcore.h>
#include <rte_version.h>
#if RTE_VERSION >= RTE_VERSION_NUM(23, 7, 0, 0)
#include <rte_thread.h>
#endif

#include "main.h"

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
