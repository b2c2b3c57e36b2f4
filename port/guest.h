/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PORT_GUEST_H
#define PORT_GUEST_H

/**
 * @file
 * Guests: the table of those that are connected, their life and death.
 *
 * A guest is a connection of a front end, from the first time that its virtqueues are ready until
 * it ends: its id, its VLAN and its MAC address stay while its device stops and starts. It is
 * created and freed by the vhost thread, the one that runs librte_vhost's callbacks, and by the
 * control loop where a port takes its VLAN or a place becomes free. All workers read it.
 *
 * Read side. Workers take no lock. They reach guests through the sets and the table of struct
 * guests, which are replaced under RCU: a worker may use what it found there until its next
 * quiescent state, which it reports once a round and never while it holds a guest.
 *
 * Write side. One mutex covers every change to the table. The vhost thread holds it for joining,
 * for leaving (including the wait for the grace period: no worker ever takes it), and the control
 * loop for the same, and for programming learned addresses into the uplink. Statistics and
 * telemetry take it to look at guests.
 *
 * Learning is the one change that a worker makes. It enters the MAC into the FDB, which nobody else
 * can have from then on, and wakes the control loop. On a NIC without filters the guest is
 * registered at once. Otherwise it is pending until the control loop has given MAC and VLAN to the
 * NIC: its frames wait in their virtqueue, so no answer can come back before the filter is set, and
 * what others send to it meanwhile is delivered in software. If the NIC refuses the MAC, the FDB
 * forgets it, and the guest may try again. After a device was started again the source of its first
 * frame counts again: if it is another, the control loop takes the old one back, and the guest is
 * as one that has not sent yet.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>
#include "main.h"
#include "port/fdb.h"
#include "port/limit.h"
#include "port/pools.h"
#include "port/port.h"
#include "stats/counters.h"
#include "uplink/uplink.h"
#include "vhost/vring.h"

/** What a worker finds out about a guest and the control loop logs: a worker waits for no log. */
enum guest_report {
	GUEST_REPORT_SOURCE_INVALID,
	GUEST_REPORT_MAC_TAKEN,
	GUEST_REPORT_FDB_FULL,
	GUEST_REPORT_MOVED, /**< the address is now this guest's */
	GUEST_REPORT_MACS,  /**< those before are about an address each */
	/** An address was not learned: one that is silent may give way. */
	GUEST_REPORT_NO_ROOM = GUEST_REPORT_MACS,
	GUEST_REPORT_BROKEN_TRANSMIT,
	GUEST_REPORT_BROKEN_RECEIVE,
	GUEST_REPORT_MAX
};

/** One guest. Constant while it is published, but for what is marked. */
struct guest {
	struct device *device;	 /**< its virtqueues */
	struct port *port;	 /**< its named port, NULL: none */
	uint64_t serial;	 /**< guest_serial(), + 1 when frames that wait are stale; atomic */
	uint16_t id;		 /**< device id */
	uint16_t vlan;		 /**< VLAN_TAG_BASE + id; not of a named port's guest */
	uint16_t worker;	 /**< index of the worker that polls it */
	bool registered;	 /**< has a MAC, and its filter is set; atomic, release */
	bool pending;		 /**< has a MAC that the NIC is yet to be given; atomic */
	bool relearn;		 /**< its device started again: the next source counts; atomic */
	bool forgetting;	 /**< its MAC is to be taken back by the control loop; atomic */
	bool refused;		 /**< no MAC of it was accepted when last seen; atomic */
	bool taken_logged;	 /**< that its MAC is taken was logged; its worker's own */
	bool invalid_logged;	 /**< an invalid source was logged; its worker's own */
	bool programmed;	 /**< the uplink has its MAC; under the mutex */
	bool registered_logged;	 /**< under the mutex */
	bool nic_refusal_logged; /**< under the mutex */
	uint64_t moved_logged;	 /**< TSC of the last line about a move; under the mutex */
	bool fault_logged;	 /**< that its memory has gone was logged; under the mutex */
	bool mirrored;		 /**< its frames are copied to the mirror port; atomic */
	uint64_t mac;		 /**< key of the MAC; written before pending and registered */
	uint32_t reports;	 /**< bits of enum guest_report that are to be logged; atomic */
	uint64_t reported_mac[GUEST_REPORT_MACS]; /**< key of the address of each; atomic */
	uint64_t learn_after;	 /**< TSC, no MAC is learned before; its worker's own */
	uint64_t last_source; /**< key that it sent from last, with its domain; its worker's own */
	uint32_t last_seen; /**< when that was noted, or without a port when it sent from its MAC,
			     * tenths of a second; its worker's own */
	uint32_t last_reload; /**< of the rules at that time; its worker's own */
	struct limits limits;
	uint16_t next_pair; /**< with a limit, the queue pair whose turn it is; its worker's own */
	uint32_t asked_room; /**< when room for an address was asked for; its worker's own */
	char label[PORT_NAME_SIZE + 8]; /**< for log lines after its id: "" or " port NAME:" */
	char socket[108];	 /**< path that it came by */
};

/** The first serial of a guest, of the number that no other guest ever has. */
static inline uint64_t
guest_serial(uint32_t number)
{
	return (uint64_t)number << 32;
}

/** Whether two serials are of one guest. */
static inline bool
guest_serials_match(uint64_t a, uint64_t b)
{
	return (a ^ b) >> 32 == 0;
}

/** A set of guests that workers walk; replaced, never changed. */
struct guest_set {
	unsigned int n;
	struct guest *guest[];
};

/** All guests, and what is needed to let them come and go. */
struct guests {
	struct guest *by_id[ID_MAX];		   /**< atomic */
	struct guest_set *all;			   /**< atomic */
	struct guest_set *shared;		   /**< of these, those without a port; atomic */
	struct guest_set *of_worker[RTE_MAX_LCORE]; /**< atomic; the guests that a worker polls */

	struct ports ports;
	struct pools pools; /**< under the mutex, but for what is marked */
	struct fdb *fdb;
	struct uplink *uplink;
	struct rte_rcu_qsbr *rcu;
	struct counters *counters[RTE_MAX_LCORE]; /**< one of each worker */
	unsigned int nb_workers;
	unsigned int limit; /**< how many guests there can be */
	int wake_fd;	    /**< eventfd, readable when guests_serve_requests() has work */
	pthread_mutex_t mutex;
	uint32_t joined;      /**< number of the last guest; under the mutex */
	uint16_t mirrored;    /**< device id, ID_MAX: none; under the mutex */
	TAILQ_HEAD(, device) waiting; /**< for a place, the first to come first; under the mutex */
	bool closing;		      /**< no more guests; under the mutex */
};

/**
 * Make an empty table. Main thread, before workers and sockets.
 *
 * @param[out] guests to initialise; counters[], fdb, uplink and rcu are then set by the caller
 * @param nb_workers number of workers
 * @param limit number of guests of historical sockets, at most GUEST_MAX
 * @return 0 or a negative errno
 */
int guests_init(struct guests *guests, unsigned int nb_workers, unsigned int limit);

/**
 * Refuse guests from now on. Any thread.
 *
 * @param guests the table
 */
void guests_close(struct guests *guests);

/**
 * Free the table. Main thread, when workers and sockets are gone. Guests still there are freed.
 *
 * @param guests the table
 */
void guests_free(struct guests *guests);

/**
 * A device runs. The first time it becomes a guest: lowest free id, least loaded worker. If there
 * are as many guests as there can be, which is logged, it waits, and becomes a guest when its turn
 * comes after others have left. Called by the vhost thread.
 *
 * @param guests the table
 * @param d the device
 * @return 0; -ESHUTDOWN after guests_close(), or if its port was removed; -EBUSY if its port has a
 *	guest; -ENOMEM
 */
int guests_start(struct guests *guests, struct device *d);

/**
 * Let a guest go. When this returns nothing touches it any more, its MAC is free, and the uplink
 * has forgotten it. Called by the vhost thread.
 *
 * @param guests the table
 * @param d the device of a guest, of one that waits, or of one that has never run
 */
void guests_leave(struct guests *guests, struct device *d);

/**
 * Log, once for each connection, that an enabled virtqueue of a guest cannot be used. Called by the
 * vhost thread.
 *
 * @param guests the table
 * @param d the device
 */
void guests_check_rings(struct guests *guests, struct device *d);

/**
 * Learn a guest's MAC. Called by the worker that polls the guest.
 *
 * @param guests the table
 * @param guest a guest for which guest_must_learn() holds
 * @param mac source address of a frame that it sent, inside an Ethernet header
 * @return 0 if the guest is registered; -EINPROGRESS if the frame is to wait; -EINVAL if the
 *   address is not unicast, -EEXIST if another guest has it, -ENOSPC if the FDB is full, -EAGAIN if
 *   the NIC has refused an address of this guest within the last second
 */
int guests_learn(struct guests *guests, struct guest *guest, const struct rte_ether_addr *mac);

/**
 * Disable a guest that breaks the rules of its virtqueues, and have that logged once. Called by a
 * worker.
 *
 * @param guests the table
 * @param guest one that the worker has found
 * @param report GUEST_REPORT_BROKEN_TRANSMIT or GUEST_REPORT_BROKEN_RECEIVE
 */
void guests_disable(struct guests *guests, struct guest *guest, enum guest_report report);

/**
 * Have the control loop make room for a new address of a port: an old one is forgotten if it has
 * been silent. Called by the worker that polls the guest.
 *
 * @param guests the table
 * @param g the port's guest
 */
void guests_request_eviction(struct guests *guests, struct guest *g);

/**
 * Have something about an address of a guest looked after by the control loop. Worker.
 *
 * @param guests the table
 * @param g the guest
 * @param key of the address that it is about
 * @param what of the reports that are about an address
 */
void guests_report_address(struct guests *guests, struct guest *g, uint64_t key,
	enum guest_report what);

/**
 * Give each guest without a named port whose tag is the VLAN of one another id, and with it another
 * tag; and let in those that wait for a place. Under the mutex, when domains of ports have changed.
 *
 * @param guests the table
 */
void guests_clear_vlans(struct guests *guests);

/** Make guests_serve_requests() run. Any thread. */
void guests_wake(const struct guests *guests);

/** Log what workers have reported of a guest. Under the mutex. */
void guests_log_reports(struct guest *g);

/** Have the uplink forget a guest's MAC. Under the mutex. */
void guests_withdraw_address(struct guests *guests, const struct guest *g);

/**
 * Give pending MACs to the uplink and register their guests; log who is registered, whom the NIC
 * refused, what workers report, and whose memory has gone. Control loop, when wake_fd is readable.
 *
 * @param guests the table
 */
void guests_serve_requests(struct guests *guests);

/**
 * Have a guest's frames copied to the mirror port, and nobody else's any more; in effect when this
 * returns. Any thread but workers.
 *
 * @param guests the table
 * @param id device id of a guest that is there or is to come; ID_MAX: of none
 */
void guests_mirror(struct guests *guests, uint16_t id);

/**
 * OFFLOAD_* that frames to a guest may ask for. Worker; it may be another by the time that such a
 * frame is delivered, so deliver() looks again.
 */
static inline uint8_t
guest_accepts(const struct guest *g)
{
	return __atomic_load_n(&g->device->accepts, __ATOMIC_RELAXED);
}

/** Whether a guest's frames are to be copied to the mirror port. Worker. */
static inline bool
guest_is_mirrored(const struct guest *g)
{
	return unlikely(__atomic_load_n(&g->mirrored, __ATOMIC_RELAXED));
}

/**
 * Look up a guest. Worker, until its next quiescent state.
 *
 * @param guests the table
 * @param id device id, any number
 * @return the guest if it is there, else NULL
 */
static inline struct guest *
guests_get(struct guests *guests, uint16_t id)
{
	return id < ID_MAX ? __atomic_load_n(&guests->by_id[id], __ATOMIC_ACQUIRE) : NULL;
}

/** Whether a guest has a MAC that the uplink knows. Any thread. */
static inline bool
guest_is_registered(const struct guest *g)
{
	return __atomic_load_n(&g->registered, __ATOMIC_ACQUIRE);
}

/** Whether a guest's MAC is still to be given to the NIC. Any thread. */
static inline bool
guest_is_pending(const struct guest *g)
{
	return __atomic_load_n(&g->pending, __ATOMIC_ACQUIRE);
}

/**
 * Whether the source of a guest's next frame is to be learned. Called by the worker that polls it.
 */
static inline bool
guest_must_learn(const struct guest *g)
{
	return !guest_is_registered(g) || __atomic_load_n(&g->relearn, __ATOMIC_RELAXED);
}

/** Whether a guest's frames wait for the control loop. Called by the worker that polls it. */
static inline bool
guest_must_wait(const struct guest *g)
{
	return guest_is_pending(g) || __atomic_load_n(&g->forgetting, __ATOMIC_ACQUIRE);
}

#endif /* PORT_GUEST_H */
