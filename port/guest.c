/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "port/guest.h"
#include "thread.h"

int
guests_init(struct guests *guests, unsigned int nb_workers, unsigned int limit)
{
	unsigned int i;

	memset(guests, 0, sizeof(*guests));
	guests->nb_workers = nb_workers;
	guests->limit = RTE_MIN(limit, (unsigned int)GUEST_MAX);
	guests->mirrored = ID_MAX;
	TAILQ_INIT(&guests->waiting);
	guests->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (guests->wake_fd < 0)
		return -errno;
	pthread_mutex_init(&guests->mutex, NULL);
	guests->all = calloc(1, sizeof(struct guest_set));
	guests->shared = calloc(1, sizeof(struct guest_set));
	if (guests->all == NULL || guests->shared == NULL)
		return -ENOMEM;
	for (i = 0; i < nb_workers; i++) {
		guests->of_worker[i] = calloc(1, sizeof(struct guest_set));
		if (guests->of_worker[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

void
guests_close(struct guests *guests)
{
	pthread_mutex_lock(&guests->mutex);
	guests->closing = true;
	pthread_mutex_unlock(&guests->mutex);
}

void
guests_free(struct guests *guests)
{
	unsigned int i;

	for (i = 0; i < ID_MAX; i++)
		rte_free(guests->by_id[i]);
	for (i = 0; i < guests->nb_workers; i++)
		free(guests->of_worker[i]);
	free(guests->all);
	free(guests->shared);
	ports_release(&guests->ports);
	if (guests->wake_fd >= 0)
		close(guests->wake_fd);
	guests->wake_fd = -1;
}

/* Of whom a set is, beside workers, which are 0 and up. */
#define ALL (-1)
#define SHARED (-2)

static bool
is_in_set(const struct guest *g, int of)
{
	return of == ALL || (of == SHARED && g->port == NULL) || g->worker == of;
}

/* A new set of the guests in the table: of one worker, of all, or of those without a port. */
static struct guest_set *
collect(const struct guests *guests, int of)
{
	struct guest_set *set = calloc(1, sizeof(*set) + ID_MAX * sizeof(set->guest[0]));
	unsigned int id;

	if (set == NULL)
		return NULL;
	for (id = 0; id < ID_MAX; id++) {
		struct guest *g = guests->by_id[id];

		if (g != NULL && is_in_set(g, of))
			set->guest[set->n++] = g;
	}
	return set;
}

/*
 * Make the sets agree with the table for a guest that came to or left this worker, and wait until
 * no worker uses the old ones. Returns -ENOMEM with nothing changed.
 */
static int
publish(struct guests *guests, uint16_t worker)
{
	struct guest_set *all = collect(guests, ALL);
	struct guest_set *shared = collect(guests, SHARED);
	struct guest_set *some = collect(guests, worker);
	int ret = all != NULL && shared != NULL && some != NULL ? 0 : -ENOMEM;

	if (ret == 0) {
		all = __atomic_exchange_n(&guests->all, all, __ATOMIC_ACQ_REL);
		shared = __atomic_exchange_n(&guests->shared, shared, __ATOMIC_ACQ_REL);
		some = __atomic_exchange_n(&guests->of_worker[worker], some, __ATOMIC_ACQ_REL);
		wait_for_workers(guests->rcu);
	}
	free(all);
	free(shared);
	free(some);
	return ret;
}

static uint16_t
least_loaded_worker(const struct guests *guests)
{
	uint16_t w, best = 0;

	for (w = 1; w < guests->nb_workers; w++) {
		if (guests->of_worker[w]->n < guests->of_worker[best]->n)
			best = w;
	}
	return best;
}

/* Give a guest its place in the table. Frames may come and go when this returns. */
static int
enter(struct guests *guests, struct guest *g)
{
	unsigned int i;

	/* No worker counts for this id now: its last guest left with a grace period. */
	for (i = 0; i < guests->nb_workers; i++)
		memset(&guests->counters[i]->guest[g->id], 0, sizeof(struct guest_counters));
	__atomic_store_n(&guests->by_id[g->id], g, __ATOMIC_RELEASE);
	if (publish(guests, g->worker) == 0)
		return 0;
	__atomic_store_n(&guests->by_id[g->id], NULL, __ATOMIC_RELEASE);
	rte_free(g);
	return -ENOMEM;
}

static struct guest *
new_guest(struct guests *guests, struct device *d, uint16_t id)
{
	struct guest *g = rte_zmalloc("guest", sizeof(*g), RTE_CACHE_LINE_SIZE);

	if (g == NULL)
		return NULL;
	snprintf(g->socket, sizeof(g->socket), "%s", d->path);
	g->serial = guest_serial(++guests->joined);
	g->device = d;
	g->id = id;
	g->vlan = (uint16_t)(VLAN_TAG_BASE + id);
	g->worker = least_loaded_worker(guests);
	g->mirrored = id == guests->mirrored;
	return g;
}

/* The guest that a device is, NULL: none. Under the mutex. */
static struct guest *
find_guest(const struct guests *guests, const struct device *d)
{
	unsigned int i;

	for (i = 0; i < ID_MAX; i++) {
		if (guests->by_id[i] != NULL && guests->by_id[i]->device == d)
			return guests->by_id[i];
	}
	return NULL;
}

void
guests_check_rings(struct guests *guests, struct device *d)
{
	const struct guest *g;
	uint16_t i;

	pthread_mutex_lock(&guests->mutex);
	g = find_guest(guests, d);
	for (i = 0; i < RINGS_MAX && g != NULL && d->running && !d->misplaced_logged; i++) {
		if (!device_has_enabled(d, i) || d->vq[i].usable)
			continue;
		d->misplaced_logged = true;
		RTE_LOG(WARNING, DATA, "(%u)%s virtqueue %u is not used: it is misaligned or "
			"not wholly in the guest's memory\n", g->id, g->label, i);
	}
	pthread_mutex_unlock(&guests->mutex);
}

/* It can only fail when the counter is at its end: readable. */
void
guests_wake(const struct guests *guests)
{
	uint64_t one = 1;
	ssize_t ignored = write(guests->wake_fd, &one, sizeof(one));

	RTE_SET_USED(ignored);
}

static int
join_locked(struct guests *guests, struct device *d)
{
	struct guest *g;
	uint16_t id = 0;

	if (guests->closing)
		return -ESHUTDOWN;
	/* An id whose tag is a named port's VLAN would get that one's frames. */
	while (id < guests->limit && (guests->by_id[id] != NULL ||
			ports_have_domain(&guests->ports, (uint16_t)(VLAN_TAG_BASE + id))))
		id++;
	if (id == guests->limit)
		return -ENOSPC;
	g = new_guest(guests, d, id);
	if (g == NULL)
		return -ENOMEM;
	uplink_drain(guests->uplink, id); /* its VLAN's broadcasts came in all the time */
	if (enter(guests, g) < 0)
		return -ENOMEM;
	pools_update(guests);
	RTE_LOG(INFO, DATA, "(%u) guest connected by %s, worker %u%s\n", id, g->socket, g->worker,
		d->mergeable ? ", mergeable" : "");
	guests_wake(guests); /* its memory may have gone before it was a guest */
	return 0;
}

/* The device of a named port runs. */
static int
join_port(struct guests *guests, struct device *d)
{
	struct port *p = d->port;
	struct guest *g;

	if (guests->closing || p->removed)
		return -ESHUTDOWN;
	if (p->guest != NULL)
		return -EBUSY;
	g = new_guest(guests, d, p->id);
	if (g == NULL)
		return -ENOMEM;
	g->port = p;
	g->registered = true;
	snprintf(g->label, sizeof(g->label), " port %s:", p->name);
	uplink_drain(guests->uplink, p->id);
	if (enter(guests, g) < 0)
		return -ENOMEM;
	p->guest = g;
	ports_publish(guests, p->rules);
	pools_update(guests);
	RTE_LOG(INFO, DATA, "(%u)%s guest connected by %s, worker %u%s\n", g->id, g->label,
		g->socket, g->worker, d->mergeable ? ", mergeable" : "");
	guests_wake(guests); /* its memory may have gone before it was a guest */
	return 0;
}

/* The device has gone, or has become a guest. */
static void
stop_waiting(struct guests *guests, struct device *d)
{
	if (d->is_waiting)
		TAILQ_REMOVE(&guests->waiting, d, waiting);
	d->is_waiting = false;
}

/* Let in those for whom there is a place now, unless a message of theirs failed. */
static void
admit_waiting(struct guests *guests)
{
	struct device *d, *next;

	for (d = TAILQ_FIRST(&guests->waiting); d != NULL; d = next) {
		next = TAILQ_NEXT(d, waiting);
		if (__atomic_load_n(&d->busy, __ATOMIC_RELAXED) || !d->running)
			continue;
		if (join_locked(guests, d) < 0)
			break; /* for a place, or for memory: until the next one leaves */
		stop_waiting(guests, d);
	}
}

/*
 * A device that runs waits for a place. It is logged once for a connection: it may stop and start
 * as often as its front end likes.
 */
static void
let_wait(struct guests *guests, struct device *d)
{
	stop_waiting(guests, d); /* it was started again, and is the last one now */
	TAILQ_INSERT_TAIL(&guests->waiting, d, waiting);
	d->is_waiting = true;
	if (!d->limit_logged)
		RTE_LOG(ERR, DATA, "guest refused: there can be %u guests and all are connected%s, "
			"it waits until one leaves\n", guests->limit, guests->ports.in_use
			? ", or their tags are VLANs of named ports" : "");
	d->limit_logged = true;
}

/* A device runs, or has to leave its place: it becomes a guest, or waits for a place. */
static int
join_or_wait(struct guests *guests, struct device *d)
{
	int ret;

	admit_waiting(guests); /* if any, for memory: they come first */
	ret = join_locked(guests, d);
	if (ret != -ENOSPC)
		return ret;
	let_wait(guests, d);
	return 0;
}

void
guests_mirror(struct guests *guests, uint16_t id)
{
	uint16_t i;

	pthread_mutex_lock(&guests->mutex);
	guests->mirrored = id;
	for (i = 0; i < ID_MAX; i++) {
		if (guests->by_id[i] != NULL)
			__atomic_store_n(&guests->by_id[i]->mirrored, i == id, __ATOMIC_RELAXED);
	}
	wait_for_workers(guests->rcu);
	pthread_mutex_unlock(&guests->mutex);
}

int
guests_start(struct guests *guests, struct device *d)
{
	struct guest *g;
	int ret = 0;

	pthread_mutex_lock(&guests->mutex);
	g = find_guest(guests, d);
	if (g != NULL) {
		__atomic_store_n(&g->relearn, true, __ATOMIC_RELAXED);
	} else if (d->port != NULL) {
		ret = join_port(guests, d);
	} else {
		ret = join_or_wait(guests, d);
	}
	pthread_mutex_unlock(&guests->mutex);
	guests_check_rings(guests, d);
	return ret;
}

/* The guest of a port has gone: what it has learned with it, and the port if it was removed. */
static void
leave_port(struct guests *guests, struct port *p)
{
	p->guest = NULL;
	ports_publish(guests, p->rules);
	ports_forget(guests, p, false);
	if (p->removed)
		p->in_use = false;
}

/*
 * The order matters. The guest leaves the sets first, so after one grace period nobody learns for
 * it; then its MAC leaves the FDB and its place in the table is cleared, so after a second grace
 * period nobody sends to it. Without the first, a MAC learned late would remain.
 */
static void
leave_locked(struct guests *guests, struct guest *g)
{
	int32_t position = -ENOENT;

	__atomic_store_n(&guests->by_id[g->id], NULL, __ATOMIC_RELEASE);
	while (publish(guests, g->worker) < 0)
		usleep(1000); /* a guest cannot be kept: wait for memory */
	if (g->port != NULL)
		leave_port(guests, g->port);
	else if (guest_is_registered(g) || guest_is_pending(g))
		position = fdb_remove(guests->fdb, g->mac);
	wait_for_workers(guests->rcu);
	fdb_reclaim(guests->fdb, position);
	if (g->programmed)
		guests_withdraw_address(guests, g);
	pools_update(guests);
	uplink_drain(guests->uplink, g->id);
	guests_log_reports(g);
	RTE_LOG(INFO, DATA, "(%u)%s guest left\n", g->id, g->label);
	rte_free(g);
}

void
guests_leave(struct guests *guests, struct device *d)
{
	struct guest *g;

	pthread_mutex_lock(&guests->mutex);
	g = find_guest(guests, d);
	if (g != NULL) {
		leave_locked(guests, g);
		admit_waiting(guests);
	} else {
		stop_waiting(guests, d);
	}
	pthread_mutex_unlock(&guests->mutex);
}

/*
 * Its MAC is to be learned again. A device that does not run now becomes a guest when it does, and
 * one without memory for it waits, too.
 */
static void
give_other_id(struct guests *guests, struct guest *g)
{
	struct device *d = g->device;

	RTE_LOG(WARNING, DATA, "(%u) VLAN_TAG %u is now a named port's: the guest gets another "
		"id\n", g->id, g->vlan);
	leave_locked(guests, g);
	if (__atomic_load_n(&d->running, __ATOMIC_RELAXED) && join_or_wait(guests, d) < 0)
		let_wait(guests, d);
}

void
guests_clear_vlans(struct guests *guests)
{
	unsigned int id;

	for (id = 0; id < guests->limit; id++) {
		if (guests->by_id[id] != NULL &&
				ports_have_domain(&guests->ports, (uint16_t)(VLAN_TAG_BASE + id)))
			give_other_id(guests, guests->by_id[id]);
	}
	admit_waiting(guests);
}
