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
	guests->mirrored = GUEST_MAX;
	TAILQ_INIT(&guests->waiting);
	guests->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (guests->wake_fd < 0)
		return -errno;
	pthread_mutex_init(&guests->mutex, NULL);
	guests->all = calloc(1, sizeof(struct guest_set));
	if (guests->all == NULL)
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

	for (i = 0; i < GUEST_MAX; i++)
		rte_free(guests->by_id[i]);
	for (i = 0; i < guests->nb_workers; i++)
		free(guests->of_worker[i]);
	free(guests->all);
	if (guests->wake_fd >= 0)
		close(guests->wake_fd);
	guests->wake_fd = -1;
}

/* A new set of the guests in the table: of one worker, or (worker < 0) of all. */
static struct guest_set *
collect(const struct guests *guests, int worker)
{
	struct guest_set *set = calloc(1, sizeof(*set) + GUEST_MAX * sizeof(set->guest[0]));
	unsigned int id;

	if (set == NULL)
		return NULL;
	for (id = 0; id < GUEST_MAX; id++) {
		struct guest *g = guests->by_id[id];

		if (g != NULL && (worker < 0 || g->worker == worker))
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
	struct guest_set *all = collect(guests, -1);
	struct guest_set *some = collect(guests, worker);

	if (all == NULL || some == NULL) {
		free(all);
		free(some);
		return -ENOMEM;
	}
	all = __atomic_exchange_n(&guests->all, all, __ATOMIC_ACQ_REL);
	some = __atomic_exchange_n(&guests->of_worker[worker], some, __ATOMIC_ACQ_REL);
	wait_for_workers(guests->rcu);
	free(all);
	free(some);
	return 0;
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

static struct guest *
new_guest(struct guests *guests, struct device *d, uint16_t id)
{
	struct guest *g = rte_zmalloc("guest", sizeof(*g), RTE_CACHE_LINE_SIZE);

	if (g == NULL)
		return NULL;
	snprintf(g->socket, sizeof(g->socket), "%s", d->path);
	g->serial = ++guests->serial;
	g->device = d;
	g->id = id;
	g->vlan = (uint16_t)(VLAN_TAG_BASE + id);
	g->worker = least_loaded_worker(guests);
	g->mirrored = id == guests->mirrored;
	return g;
}

/*
 * The guest that a device is, NULL: none. Called by the vhost thread, which alone lets guests come
 * and go.
 */
static struct guest *
find_guest(const struct guests *guests, const struct device *d)
{
	unsigned int i;

	for (i = 0; i < GUEST_MAX; i++) {
		if (guests->by_id[i] != NULL && guests->by_id[i]->device == d)
			return guests->by_id[i];
	}
	return NULL;
}

void
guests_check_rings(const struct guests *guests, struct device *d)
{
	const struct guest *g = find_guest(guests, d);
	uint16_t i;

	for (i = 0; i < RINGS_MAX && g != NULL && d->running && !d->misplaced_logged; i++) {
		if (!device_has_enabled(d, i) || d->vq[i].usable)
			continue;
		d->misplaced_logged = true;
		RTE_LOG(WARNING, DATA, "(%u) virtqueue %u is not used: it is misaligned or not "
			"wholly in the guest's memory\n", g->id, i);
	}
}

/* It can only fail when the counter is at its end: readable. */
static void
wake_control(const struct guests *guests)
{
	uint64_t one = 1;
	ssize_t ignored = write(guests->wake_fd, &one, sizeof(one));

	RTE_SET_USED(ignored);
}

static int
join_locked(struct guests *guests, struct device *d)
{
	struct guest *g;
	unsigned int i;
	uint16_t id = 0;

	if (guests->closing)
		return -ESHUTDOWN;
	while (id < guests->limit && guests->by_id[id] != NULL)
		id++;
	if (id == guests->limit)
		return -ENOSPC;
	g = new_guest(guests, d, id);
	if (g == NULL)
		return -ENOMEM;
	uplink_drain(guests->uplink, id); /* its VLAN's broadcasts came in all the time */
	/* No worker counts for this id now: its last guest left with a grace period. */
	for (i = 0; i < guests->nb_workers; i++)
		memset(&guests->counters[i]->guest[id], 0, sizeof(struct guest_counters));
	__atomic_store_n(&guests->by_id[id], g, __ATOMIC_RELEASE);
	if (publish(guests, g->worker) < 0) {
		__atomic_store_n(&guests->by_id[id], NULL, __ATOMIC_RELEASE);
		rte_free(g);
		return -ENOMEM;
	}
	RTE_LOG(INFO, DATA, "(%u) guest connected by %s, worker %u%s\n", id, g->socket, g->worker,
		d->mergeable ? ", mergeable" : "");
	wake_control(guests); /* its memory may have gone before it was a guest */
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
		if (d->busy || !d->running)
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
		RTE_LOG(ERR, DATA, "guest refused: there can be %u guests and all are connected, "
			"it waits until one leaves\n", guests->limit);
	d->limit_logged = true;
}

void
guests_mirror(struct guests *guests, uint16_t id)
{
	uint16_t i;

	pthread_mutex_lock(&guests->mutex);
	guests->mirrored = id;
	for (i = 0; i < GUEST_MAX; i++) {
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
	} else {
		admit_waiting(guests); /* if any, for memory: they come first */
		ret = join_locked(guests, d);
	}
	if (ret == -ENOSPC) {
		let_wait(guests, d);
		ret = 0;
	}
	pthread_mutex_unlock(&guests->mutex);
	guests_check_rings(guests, d);
	return ret;
}

static void
log_refused(const struct guest *g, const char *why)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(__atomic_load_n(&g->refused_mac, __ATOMIC_RELAXED), &mac);
	RTE_LOG(WARNING, DATA, "(%u) MAC_ADDRESS " MAC_FMT " refused: %s\n", g->id,
		RTE_ETHER_ADDR_BYTES(&mac), why);
}

static void
log_invalid(const struct guest *g, const char *ring)
{
	RTE_LOG(ERR, DATA, "(%u) disabled: invalid index, address or descriptor chain in its %s "
		"virtqueue\n", g->id, ring);
}

/* Under the mutex. */
static void
log_reports(struct guest *g)
{
	uint32_t reports = __atomic_exchange_n(&g->reports, 0, __ATOMIC_ACQUIRE);

	if (reports & RTE_BIT32(GUEST_REPORT_SOURCE_INVALID))
		log_refused(g, "not a unicast address");
	if (reports & RTE_BIT32(GUEST_REPORT_MAC_TAKEN))
		log_refused(g, "registered to another guest");
	if (reports & RTE_BIT32(GUEST_REPORT_FDB_FULL))
		log_refused(g, "the MAC table is full");
	if (reports & RTE_BIT32(GUEST_REPORT_BROKEN_TRANSMIT))
		log_invalid(g, "transmit");
	if (reports & RTE_BIT32(GUEST_REPORT_BROKEN_RECEIVE))
		log_invalid(g, "receive");
}

/* Under the mutex. */
static void
withdraw_address(struct guests *guests, const struct guest *g)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(g->mac, &mac);
	uplink_withdraw(guests->uplink, g->id, &mac);
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
	if (guest_is_registered(g) || guest_is_pending(g))
		position = fdb_remove(guests->fdb, g->mac);
	wait_for_workers(guests->rcu);
	fdb_reclaim(guests->fdb, position);
	if (g->programmed)
		withdraw_address(guests, g);
	uplink_drain(guests->uplink, g->id);
	log_reports(g);
	RTE_LOG(INFO, DATA, "(%u) guest left\n", g->id);
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

static void
report(struct guests *guests, struct guest *g, enum guest_report what)
{
	__atomic_fetch_or(&g->reports, RTE_BIT32(what), __ATOMIC_RELEASE);
	wake_control(guests);
}

void
guests_disable(struct guests *guests, struct guest *g, enum guest_report why)
{
	if (!__atomic_exchange_n(&g->device->disabled, true, __ATOMIC_RELAXED))
		report(guests, g, why);
}

static void
report_refused(struct guests *guests, struct guest *g, uint64_t mac, enum guest_report what)
{
	__atomic_store_n(&g->refused_mac, mac, __ATOMIC_RELAXED);
	report(guests, g, what);
}

/* The device of a registered guest was started again, and this is the source of its first frame. */
static int
learn_again(struct guests *guests, struct guest *g, const struct rte_ether_addr *mac)
{
	uint64_t key = fdb_key(mac);

	if (key == g->mac) {
		__atomic_store_n(&g->relearn, false, __ATOMIC_RELAXED);
		return 0;
	}
	if (!rte_is_valid_assigned_ether_addr(mac))
		return -EINVAL;
	if (fdb_lookup(guests->fdb, key) != FDB_NONE)
		return -EEXIST;
	__atomic_store_n(&g->forgetting, true, __ATOMIC_RELEASE);
	wake_control(guests);
	return -EINPROGRESS;
}

int
guests_learn(struct guests *guests, struct guest *g, const struct rte_ether_addr *mac)
{
	bool filters = uplink_has_filters(guests->uplink);
	uint64_t key = fdb_key(mac);
	int ret;

	if (guest_is_registered(g))
		return learn_again(guests, g, mac);

	if (filters && rte_rdtsc() < g->learn_after)
		return -EAGAIN;
	if (!rte_is_valid_assigned_ether_addr(mac)) {
		if (!g->invalid_logged)
			report_refused(guests, g, key, GUEST_REPORT_SOURCE_INVALID);
		g->invalid_logged = true;
		return -EINVAL;
	}
	ret = fdb_add(guests->fdb, key, g->id);
	if (ret < 0) {
		if (!g->taken_logged)
			report_refused(guests, g, key, ret == -EEXIST ? GUEST_REPORT_MAC_TAKEN
								      : GUEST_REPORT_FDB_FULL);
		g->taken_logged = true;
		__atomic_store_n(&g->refused, true, __ATOMIC_RELAXED);
		return ret;
	}
	g->taken_logged = false;
	__atomic_store_n(&g->refused, false, __ATOMIC_RELAXED);
	g->mac = key;
	g->learn_after = rte_rdtsc() + rte_get_tsc_hz();
	__atomic_store_n(&g->relearn, false, __ATOMIC_RELAXED);
	__atomic_store_n(filters ? &g->pending : &g->registered, true, __ATOMIC_RELEASE);
	wake_control(guests);
	return filters ? -EINPROGRESS : 0;
}

/* Nobody has a guest's MAC any more. Under the mutex. */
static void
forget_address(struct guests *guests, struct guest *g)
{
	int32_t position = fdb_remove(guests->fdb, g->mac);

	wait_for_workers(guests->rcu);
	fdb_reclaim(guests->fdb, position);
}

/*
 * A guest has another MAC since its device was started again: it may learn that. Under the mutex.
 */
static void
take_back_address(struct guests *guests, struct guest *g)
{
	__atomic_store_n(&g->registered, false, __ATOMIC_RELEASE);
	forget_address(guests, g);
	if (g->programmed)
		withdraw_address(guests, g);
	g->programmed = false;
	g->registered_logged = false;
	__atomic_store_n(&g->relearn, false, __ATOMIC_RELAXED);
	__atomic_store_n(&g->forgetting, false, __ATOMIC_RELEASE);
}

static void
refuse_address(struct guests *guests, struct guest *g, int error)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(g->mac, &mac);
	if (!g->nic_refusal_logged)
		RTE_LOG(ERR, DATA, "(%u) MAC_ADDRESS " MAC_FMT " refused by the NIC: %s\n", g->id,
			RTE_ETHER_ADDR_BYTES(&mac),
			error == -EADDRINUSE ? "it is the NIC's own" : strerror(-error));
	g->nic_refusal_logged = true;
	__atomic_store_n(&g->refused, true, __ATOMIC_RELAXED);
	forget_address(guests, g);
}

/* Give a guest's MAC and VLAN to the NIC, and let its frames go. Under the mutex. */
static void
program_address(struct guests *guests, struct guest *g)
{
	struct rte_ether_addr mac;
	int ret;

	fdb_key_to_mac(g->mac, &mac);
	ret = uplink_admit(guests->uplink, g->id, &mac);
	g->programmed = ret == 0;
	if (ret == 0)
		__atomic_store_n(&g->registered, true, __ATOMIC_RELEASE);
	else
		refuse_address(guests, g, ret);
	__atomic_store_n(&g->pending, false, __ATOMIC_RELEASE);
}

static void
log_registered(struct guest *g)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(g->mac, &mac);
	RTE_LOG(INFO, DATA, "(%u) MAC_ADDRESS " MAC_FMT " and VLAN_TAG %u registered\n", g->id,
		RTE_ETHER_ADDR_BYTES(&mac), g->vlan);
	g->registered_logged = true;
}

void
guests_update_uplink(struct guests *guests)
{
	uint64_t count;
	unsigned int i;

	if (read(guests->wake_fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&guests->mutex);
	for (i = 0; i < GUEST_MAX; i++) {
		struct guest *g = guests->by_id[i];

		if (g != NULL && !g->fault_logged &&
				__atomic_load_n(&g->device->memory_gone, __ATOMIC_ACQUIRE)) {
			RTE_LOG(ERR, DATA, "(%u) disabled: its memory file was truncated\n",
				g->id);
			g->fault_logged = true;
		}
		if (g == NULL)
			continue;
		log_reports(g);
		if (__atomic_load_n(&g->forgetting, __ATOMIC_ACQUIRE))
			take_back_address(guests, g);
		if (guest_is_pending(g))
			program_address(guests, g);
		if (guest_is_registered(g) && !g->registered_logged)
			log_registered(g);
	}
	pthread_mutex_unlock(&guests->mutex);
}
