/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "port/guest.h"
#include "thread.h"

/* The address that a report is about. */
static struct rte_ether_addr
reported_mac(const struct guest *g, enum guest_report what)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(__atomic_load_n(&g->reported_mac[what], __ATOMIC_RELAXED), &mac);
	return mac;
}

static void
log_refused(const struct guest *g, enum guest_report what, const char *why)
{
	struct rte_ether_addr mac = reported_mac(g, what);

	RTE_LOG(WARNING, DATA, "(%u)%s MAC_ADDRESS " MAC_FMT " refused: %s\n", g->id,
		g->label, RTE_ETHER_ADDR_BYTES(&mac), why);
}

static void
log_invalid(const struct guest *g, const char *ring)
{
	RTE_LOG(ERR, DATA, "(%u)%s disabled: invalid index, address or descriptor chain in its "
		"%s virtqueue\n", g->id, g->label, ring);
}

/* A line a second at most: two ports may take an address from each other all the time. */
static void
log_moved(struct guest *g)
{
	uint64_t now = rte_rdtsc();
	struct rte_ether_addr mac = reported_mac(g, GUEST_REPORT_MOVED);

	if (g->moved_logged != 0 && now - g->moved_logged < rte_get_tsc_hz())
		return;
	g->moved_logged = now;
	RTE_LOG(INFO, DATA, "(%u)%s MAC_ADDRESS " MAC_FMT " moved here\n", g->id, g->label,
		RTE_ETHER_ADDR_BYTES(&mac));
}

void
guests_log_reports(struct guest *g)
{
	uint32_t reports = __atomic_exchange_n(&g->reports, 0, __ATOMIC_ACQUIRE);

	if (reports & RTE_BIT32(GUEST_REPORT_SOURCE_INVALID))
		log_refused(g, GUEST_REPORT_SOURCE_INVALID, "not a unicast address");
	if (reports & RTE_BIT32(GUEST_REPORT_MAC_TAKEN))
		log_refused(g, GUEST_REPORT_MAC_TAKEN, "registered to another guest");
	if (reports & RTE_BIT32(GUEST_REPORT_FDB_FULL))
		log_refused(g, GUEST_REPORT_FDB_FULL, "the MAC table is full");
	if (reports & RTE_BIT32(GUEST_REPORT_MOVED))
		log_moved(g);
	if (reports & RTE_BIT32(GUEST_REPORT_BROKEN_TRANSMIT))
		log_invalid(g, "transmit");
	if (reports & RTE_BIT32(GUEST_REPORT_BROKEN_RECEIVE))
		log_invalid(g, "receive");
}

void
guests_withdraw_address(struct guests *guests, const struct guest *g)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(g->mac, &mac);
	uplink_withdraw(guests->uplink, g->id, &mac);
}

static void
report(struct guests *guests, struct guest *g, enum guest_report what)
{
	__atomic_fetch_or(&g->reports, RTE_BIT32(what), __ATOMIC_RELEASE);
	guests_wake(guests);
}

void
guests_disable(struct guests *guests, struct guest *g, enum guest_report why)
{
	if (!__atomic_exchange_n(&g->device->disabled, true, __ATOMIC_RELAXED))
		report(guests, g, why);
}

void
guests_request_eviction(struct guests *guests, struct guest *g)
{
	report(guests, g, GUEST_REPORT_NO_ROOM);
}

void
guests_report_address(struct guests *guests, struct guest *g, uint64_t key,
	enum guest_report what)
{
	__atomic_store_n(&g->reported_mac[what], key & FDB_MAC_MASK, __ATOMIC_RELAXED);
	report(guests, g, what);
}

/*
 * A guest may not have an address, which is logged once. Returns why: -EINVAL, -EEXIST or -ENOSPC.
 */
static int
refuse(struct guests *guests, struct guest *g, uint64_t key, int why)
{
	bool *logged = why == -EINVAL ? &g->invalid_logged : &g->taken_logged;

	if (!*logged)
		guests_report_address(guests, g, key, why == -EINVAL ? GUEST_REPORT_SOURCE_INVALID
			: why == -EEXIST ? GUEST_REPORT_MAC_TAKEN : GUEST_REPORT_FDB_FULL);
	*logged = true;
	return why;
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
		return refuse(guests, g, key, -EINVAL);
	if (fdb_lookup(guests->fdb, key) != FDB_NONE)
		return refuse(guests, g, key, -EEXIST);
	g->learn_after = 0; /* the NIC has refused nothing */
	__atomic_store_n(&g->forgetting, true, __ATOMIC_RELEASE);
	guests_wake(guests);
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
	if (!rte_is_valid_assigned_ether_addr(mac))
		return refuse(guests, g, key, -EINVAL);
	ret = fdb_add(guests->fdb, key, g->id);
	if (ret < 0) {
		__atomic_store_n(&g->refused, true, __ATOMIC_RELAXED);
		return refuse(guests, g, key, ret);
	}
	g->taken_logged = false;
	__atomic_store_n(&g->refused, false, __ATOMIC_RELAXED);
	g->mac = key;
	g->learn_after = rte_rdtsc() + rte_get_tsc_hz();
	__atomic_store_n(&g->relearn, false, __ATOMIC_RELAXED);
	__atomic_store_n(filters ? &g->pending : &g->registered, true, __ATOMIC_RELEASE);
	guests_wake(guests);
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
		guests_withdraw_address(guests, g);
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

static void
log_lost_memory(struct guest *g)
{
	if (g->fault_logged || !__atomic_load_n(&g->device->memory_gone, __ATOMIC_ACQUIRE))
		return;
	RTE_LOG(ERR, DATA, "(%u)%s disabled: its memory file was truncated\n", g->id, g->label);
	g->fault_logged = true;
}

/* What a guest has to be done for or said of. Under the mutex. */
static void
serve_guest(struct guests *guests, struct guest *g)
{
	log_lost_memory(g);
	if (__atomic_load_n(&g->reports, __ATOMIC_RELAXED) & RTE_BIT32(GUEST_REPORT_NO_ROOM))
		fdb_evict_oldest(guests->fdb, guests->rcu, g->id, ADDRESS_SILENCE, fdb_now());
	guests_log_reports(g);
	if (__atomic_load_n(&g->forgetting, __ATOMIC_ACQUIRE))
		take_back_address(guests, g);
	if (guest_is_pending(g))
		program_address(guests, g);
	if (g->port == NULL && guest_is_registered(g) && !g->registered_logged)
		log_registered(g);
}

void
guests_serve_requests(struct guests *guests)
{
	uint64_t count;
	unsigned int i;

	if (read(guests->wake_fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&guests->mutex);
	for (i = 0; i < ID_MAX; i++) {
		if (guests->by_id[i] != NULL)
			serve_guest(guests, guests->by_id[i]);
	}
	pthread_mutex_unlock(&guests->mutex);
}
