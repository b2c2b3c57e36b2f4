/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "guest/guest.h"
#include "vhost/memory.h"
#include "vhost/relay.h"

/* By vid, for callbacks that know no more. Written by control. */
static struct guest *guest_of_vid[RTE_MAX_VHOST_DEVICE];

/* By vid, since a ring can become ready before its guest exists and stay so between two lives. */
static struct guest_rings rings_of_vid[RTE_MAX_VHOST_DEVICE];

/* Handles of devices that are ready and for which there was no place, the first to come first. */
static int waiting[RTE_MAX_VHOST_DEVICE];
static unsigned int nb_waiting; /* under the mutex */

int
guests_init(struct guests *guests, unsigned int nb_workers, unsigned int limit)
{
	unsigned int i;

	memset(guests, 0, sizeof(*guests));
	guests->nb_workers = nb_workers;
	guests->limit = RTE_MIN(limit, (unsigned int)GUEST_MAX);
	guests->mirrored = GUEST_MAX;
	guests->learned_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (guests->learned_fd < 0)
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

static void
free_guest(struct guest *g)
{
	if (g == NULL)
		return;
	rte_pktmbuf_free(g->first);
	rte_free(g->direct);
	rte_free(g);
}

void
guests_free(struct guests *guests)
{
	unsigned int i;

	for (i = 0; i < GUEST_MAX; i++)
		free_guest(guests->by_id[i]);
	for (i = 0; i < guests->nb_workers; i++)
		free(guests->of_worker[i]);
	free(guests->all);
	if (guests->learned_fd >= 0)
		close(guests->learned_fd);
	guests->learned_fd = -1;
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
	rte_rcu_qsbr_synchronize(guests->qsbr, RTE_QSBR_THRID_INVALID);
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
new_guest(struct guests *guests, int vid, uint16_t id)
{
	struct guest *g = rte_zmalloc("guest", sizeof(*g), RTE_CACHE_LINE_SIZE);
	const struct connection *connection = relay_find(vid);
	unsigned int i;

	if (g == NULL)
		return NULL;
	rte_vhost_get_negotiated_features(vid, &g->features);
	if (connection != NULL)
		snprintf(g->socket, sizeof(g->socket), "%s", connection->socket->path);
	g->serial = ++guests->serial;
	g->vid = vid;
	g->id = id;
	g->vlan = (uint16_t)(VLAN_TAG_BASE + id);
	g->worker = least_loaded_worker(guests);
	g->offload_csum = g->features & RTE_BIT64(VIRTIO_NET_F_GUEST_CSUM);
	g->offload_tso4 = g->features & RTE_BIT64(VIRTIO_NET_F_GUEST_TSO4);
	g->mergeable = g->features & RTE_BIT64(VIRTIO_NET_F_MRG_RXBUF);
	g->mirrored = id == guests->mirrored;
	for (i = 0; i < QUEUE_PAIR_MAX; i++)
		rte_spinlock_init(&g->rx_lock[i]);
	g->rings = &rings_of_vid[vid];
	g->direct = direct_create(vid, guests->direct_path, guests->nb_workers > 1);
	if (g->direct == NULL) {
		rte_free(g);
		return NULL;
	}
	return g;
}

static bool
is_enabled(int vid, uint16_t vring)
{
	const struct guest_rings *rings = &rings_of_vid[vid];
	const uint64_t *words = vring & 1 ? rings->tx : rings->rx;
	uint16_t pair = vring / 2;

	return words[pair / 64] & RTE_BIT64(pair % 64);
}

/* A ring of a guest that librte_vhost uses no more than we do. */
static void
check_ring(int vid, uint16_t vring)
{
	struct guest *g = guest_of_vid[vid];

	if (g == NULL || vring >= g->direct->nb_rings || g->direct->ring[vring].in_memory ||
			g->misplaced_logged)
		return;
	g->misplaced_logged = true;
	RTE_LOG(WARNING, DATA, "(%u) virtqueue %u is not used: it is misaligned or not wholly in the "
		"guest's memory\n", g->id, vring);
}

static int
join_locked(struct guests *guests, int vid)
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
	g = new_guest(guests, vid, id);
	if (g == NULL)
		return -ENOMEM;
	uplink_drain(guests->uplink, id); /* its VLAN's broadcasts came in all the time */
	/* No worker counts for this id now: its last guest left with a grace period. */
	for (i = 0; i < guests->nb_workers; i++)
		memset(&guests->counters[i]->guest[id], 0, sizeof(struct guest_counters));
	__atomic_store_n(&guests->by_id[id], g, __ATOMIC_RELEASE);
	if (publish(guests, g->worker) < 0) {
		__atomic_store_n(&guests->by_id[id], NULL, __ATOMIC_RELEASE);
		free_guest(g);
		return -ENOMEM;
	}
	guest_of_vid[vid] = g;
	memory_report(vid, &g->direct->broken, guests->learned_fd);
	RTE_LOG(INFO, DATA, "(%u) guest connected by %s, worker %u%s\n", id, g->socket, g->worker,
		g->mergeable ? ", mergeable" : "");
	for (i = 0; i < NOTIFY_RINGS_MAX; i++) {
		if (is_enabled(vid, (uint16_t)i))
			check_ring(vid, (uint16_t)i);
	}
	return 0;
}

/* The device has gone, or has become a guest. */
static void
stop_waiting(int vid)
{
	unsigned int i, left = 0;

	for (i = 0; i < nb_waiting; i++) {
		if (waiting[i] != vid)
			waiting[left++] = waiting[i];
	}
	nb_waiting = left;
}

/* Whether librte_vhost has carried out all messages of a front end. */
static bool
is_sound(int vid)
{
	const struct connection *c = relay_find(vid);

	return c != NULL && !c->busy;
}

/* Let in those for whom there is a place now. */
static void
admit_waiting(struct guests *guests)
{
	unsigned int i = 0;

	while (i < nb_waiting) {
		int vid = waiting[i];

		if (!is_sound(vid)) {
			i++;
			continue;
		}
		if (join_locked(guests, vid) < 0)
			break; /* for a place, or for memory: until the next one leaves */
		stop_waiting(vid);
	}
}

/*
 * A device that is ready waits for a place. It is logged once for a connection: its rings may stop and
 * start as often as its front end likes.
 */
static void
let_wait(const struct guests *guests, int vid)
{
	struct guest_rings *rings = &rings_of_vid[vid];

	waiting[nb_waiting++] = vid;
	if (!rings->limit_logged)
		RTE_LOG(ERR, DATA, "guest refused: there can be %u guests and all are connected, "
			"it waits until one leaves\n", guests->limit);
	rings->limit_logged = true;
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
	rte_rcu_qsbr_synchronize(guests->qsbr, RTE_QSBR_THRID_INVALID);
	pthread_mutex_unlock(&guests->mutex);
}

int
guests_join(struct guests *guests, int vid)
{
	int ret;

	pthread_mutex_lock(&guests->mutex);
	admit_waiting(guests); /* if any, for memory: they come first */
	ret = join_locked(guests, vid);
	if (ret == -ENOSPC) {
		let_wait(guests, vid);
		ret = 0;
	}
	pthread_mutex_unlock(&guests->mutex);
	return ret;
}

static struct guest *
find_vid(const struct guests *guests, int vid)
{
	unsigned int i;

	for (i = 0; i < GUEST_MAX; i++) {
		if (guests->by_id[i] != NULL && guests->by_id[i]->vid == vid)
			return guests->by_id[i];
	}
	return NULL;
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
log_broken(const struct guest *g, const char *ring)
{
	RTE_LOG(ERR, DATA, "(%u) switched off: its %s virtqueue has an index, address or "
		"chain against the rules of virtio\n", g->id, ring);
}

/* Under the mutex. */
static void
log_reports(struct guest *g)
{
	uint32_t reports = __atomic_exchange_n(&g->reports, 0, __ATOMIC_ACQUIRE);

	if (reports & RTE_BIT32(GUEST_REPORT_SOURCE_INVALID))
		log_refused(g, "no unicast address");
	if (reports & RTE_BIT32(GUEST_REPORT_MAC_TAKEN))
		log_refused(g, "registered to another guest");
	if (reports & RTE_BIT32(GUEST_REPORT_FDB_FULL))
		log_refused(g, "the MAC table is full");
	if (reports & RTE_BIT32(GUEST_REPORT_BROKEN_TRANSMIT))
		log_broken(g, "transmit");
	if (reports & RTE_BIT32(GUEST_REPORT_BROKEN_RECEIVE))
		log_broken(g, "receive");
}

/*
 * The order matters. The guest leaves the sets first, so after one grace period nobody learns for
 * it; then its MAC leaves the FDB and its place in the table is cleared, so after a second grace
 * period nobody sends to it. Without the first, a MAC learned late would stay behind.
 */
static void
leave_locked(struct guests *guests, struct guest *g)
{
	int32_t position = -ENOENT;

	guest_of_vid[g->vid] = NULL;
	memory_report(g->vid, NULL, -1);
	direct_pause(g->direct, g->vid, guests->sections);
	__atomic_store_n(&guests->by_id[g->id], NULL, __ATOMIC_RELEASE);
	while (publish(guests, g->worker) < 0)
		usleep(1000); /* a guest cannot be kept: wait for memory */
	if (guest_is_registered(g) || guest_is_pending(g))
		position = fdb_remove(guests->fdb, g->mac);
	rte_rcu_qsbr_synchronize(guests->qsbr, RTE_QSBR_THRID_INVALID);
	fdb_reclaim(guests->fdb, position);
	if (g->programmed)
		uplink_withdraw(guests->uplink, g->id, g->mac);
	uplink_drain(guests->uplink, g->id);
	direct_end(g->direct, g->vid);
	log_reports(g);
	RTE_LOG(INFO, DATA, "(%u) guest left\n", g->id);
	free_guest(g);
}

void
guests_leave(struct guests *guests, int vid)
{
	struct guest *g;

	pthread_mutex_lock(&guests->mutex);
	g = find_vid(guests, vid);
	if (g != NULL) {
		leave_locked(guests, g);
		admit_waiting(guests);
	} else {
		stop_waiting(vid);
	}
	pthread_mutex_unlock(&guests->mutex);
}

void
guests_set_call(struct guests *guests, int vid, uint16_t vring, int callfd)
{
	const struct guest *g = guest_of_vid[vid];
	int before = notify_keep_call(vid, vring, callfd);

	if (g != NULL)
		direct_set_call(g->direct, vid, vring, callfd, guests->sections);
	if (before >= 0)
		close(before);
}

bool
guests_keep_descriptor(struct guests *guests, int vid, uint16_t vring, bool call, int fd)
{
	bool in_use = is_enabled(vid, vring);

	if (call)
		guests_set_call(guests, vid, vring, fd);
	else if (in_use && fd >= 0)
		close(fd);
	return in_use;
}

/* librte_vhost frees rings that were not negotiated without a word. */
static void
forget_absent_rings(struct guests *guests, int vid)
{
	unsigned int n = rte_vhost_get_vring_num(vid), pair = n / 2, i;
	struct guest_rings *rings = &rings_of_vid[vid];

	for (i = 0; i < QUEUE_PAIR_WORDS; i++) {
		unsigned int here = pair > i * 64 ? RTE_MIN(pair - i * 64, 64u) : 0;
		uint64_t present = here == 64 ? UINT64_MAX : RTE_BIT64(here) - 1;

		__atomic_fetch_and(&rings->rx[i], present, __ATOMIC_RELEASE);
		__atomic_fetch_and(&rings->tx[i], present, __ATOMIC_RELEASE);
	}
	for (i = n; i < NOTIFY_RINGS_MAX; i++) {
		if (notify_call(vid, (uint16_t)i) >= 0)
			guests_set_call(guests, vid, (uint16_t)i, -1);
	}
}

static void
pause_guest(const struct guests *guests, int vid)
{
	const struct guest *g = guest_of_vid[vid];

	if (g != NULL)
		direct_pause(g->direct, vid, guests->sections);
}

static void
resume_guest(int vid)
{
	const struct guest *g = guest_of_vid[vid];

	if (g != NULL)
		direct_resume(g->direct, vid);
}

void
guests_pause(struct guests *guests, int vid)
{
	rings_of_vid[vid].paused = true;
	pause_guest(guests, vid);
}

void
guests_resume(struct guests *guests, int vid)
{
	if (!rings_of_vid[vid].paused)
		return;
	rings_of_vid[vid].paused = false;
	forget_absent_rings(guests, vid);
	resume_guest(vid);
}

void
guests_set_ring(struct guests *guests, int vid, uint16_t vring, bool enabled)
{
	struct guest_rings *rings = &rings_of_vid[vid];
	uint64_t *words = vring & 1 ? rings->tx : rings->rx;
	uint16_t pair = vring / 2;

	if (pair >= QUEUE_PAIR_MAX)
		return;
	pause_guest(guests, vid);
	if (enabled)
		__atomic_fetch_or(&words[pair / 64], RTE_BIT64(pair % 64), __ATOMIC_RELEASE);
	else
		__atomic_fetch_and(&words[pair / 64], ~RTE_BIT64(pair % 64), __ATOMIC_RELEASE);
	resume_guest(vid);
	if (enabled)
		check_ring(vid, vring);
}

void
guests_announce(int vid, uint64_t mac)
{
	__atomic_store_n(&rings_of_vid[vid].announce, mac, __ATOMIC_RELEASE);
}

void
guests_clear_rings(int vid)
{
	int callfd;
	unsigned int i;

	guests_announce(vid, 0);
	rings_of_vid[vid].paused = false;
	rings_of_vid[vid].limit_logged = false;
	for (i = 0; i < QUEUE_PAIR_WORDS; i++) {
		__atomic_store_n(&rings_of_vid[vid].rx[i], 0, __ATOMIC_RELEASE);
		__atomic_store_n(&rings_of_vid[vid].tx[i], 0, __ATOMIC_RELEASE);
	}
	for (i = 0; i < NOTIFY_RINGS_MAX; i++) {
		callfd = notify_keep_call(vid, (uint16_t)i, -1);
		if (callfd >= 0)
			close(callfd);
	}
}

/* It can only fail when the counter is at its end: readable. */
static void
wake_control(const struct guests *guests)
{
	uint64_t one = 1;
	ssize_t ignored = write(guests->learned_fd, &one, sizeof(one));

	RTE_SET_USED(ignored);
}

void
guests_report(struct guests *guests, struct guest *g, enum guest_report report)
{
	__atomic_fetch_or(&g->reports, RTE_BIT32(report), __ATOMIC_RELEASE);
	wake_control(guests);
}

static void
report_refused(struct guests *guests, struct guest *g, uint64_t mac, enum guest_report report)
{
	__atomic_store_n(&g->refused_mac, mac, __ATOMIC_RELAXED);
	guests_report(guests, g, report);
}

int
guests_learn(struct guests *guests, struct guest *g, const struct rte_ether_addr *mac)
{
	bool filters = uplink_has_filters(guests->uplink);
	uint64_t key = fdb_key(mac);
	int ret;

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
	__atomic_store_n(filters ? &g->pending : &g->registered, true, __ATOMIC_RELEASE);
	wake_control(guests);
	return filters ? -EINPROGRESS : 0;
}

/* The NIC refused a guest's MAC: nobody has it. Under the mutex. */
static void
forget_address(struct guests *guests, struct guest *g, int error)
{
	struct rte_ether_addr mac;
	int32_t position = fdb_remove(guests->fdb, g->mac);

	fdb_key_to_mac(g->mac, &mac);
	if (!g->nic_refusal_logged)
		RTE_LOG(ERR, DATA, "(%u) MAC_ADDRESS " MAC_FMT " refused by the NIC: %s\n", g->id,
			RTE_ETHER_ADDR_BYTES(&mac),
			error == -EADDRINUSE ? "it is the NIC's own" : strerror(-error));
	g->nic_refusal_logged = true;
	__atomic_store_n(&g->refused, true, __ATOMIC_RELAXED);
	rte_rcu_qsbr_synchronize(guests->qsbr, RTE_QSBR_THRID_INVALID);
	fdb_reclaim(guests->fdb, position);
}

/* Give a guest's MAC and VLAN to the NIC, and let its frames go. Under the mutex. */
static void
program_address(struct guests *guests, struct guest *g)
{
	int ret = uplink_admit(guests->uplink, g->id, g->mac);

	g->programmed = ret == 0;
	if (ret == 0)
		__atomic_store_n(&g->registered, true, __ATOMIC_RELEASE);
	else
		forget_address(guests, g, ret);
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
guests_program(struct guests *guests)
{
	uint64_t count;
	unsigned int i;

	if (read(guests->learned_fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&guests->mutex);
	for (i = 0; i < GUEST_MAX; i++) {
		struct guest *g = guests->by_id[i];

		if (g != NULL && memory_is_gone(g->vid) && !g->fault_logged) {
			RTE_LOG(ERR, DATA, "(%u) switched off: the file of its memory was cut off\n",
				g->id);
			g->fault_logged = true;
		}
		if (g == NULL)
			continue;
		log_reports(g);
		if (guest_is_pending(g))
			program_address(guests, g);
		if (guest_is_registered(g) && !g->registered_logged)
			log_registered(g);
	}
	pthread_mutex_unlock(&guests->mutex);
}
