/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef THREAD_H
#define THREAD_H

/**
 * @file
 * Threads beside the workers, and how they wait for the workers.
 */

#include <pthread.h>

struct rte_rcu_qsbr;

/**
 * Start a thread that sleeps most of its time, off the lcores of the workers. Called by any thread
 * but a worker.
 *
 * @param[out] thread to be joined
 * @param name at most 15 characters
 * @param run what it does
 * @param arg passed to run
 * @return 0 or an errno
 */
int start_control_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);

/**
 * Wait for a grace period: until each worker has reported quiescent once, and so has dropped what
 * it read from shared tables before. Sleeps meanwhile: where there are fewer CPUs than threads, the
 * worker may need the caller's. Called by any thread but a worker.
 *
 * @param rcu of the workers
 */
void wait_for_workers(struct rte_rcu_qsbr *rcu);

#endif /* THREAD_H */
