/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

/**
 * @file
 * Guests: the table of those that are connected, their life and death.
 *
 * A guest is a virtio-net device whose rings are ready. It is created by the thread that runs
 * librte_vhost's callbacks ("control" below), read by all workers, and freed by control again.
 *
 * Read side. Workers take no lock. They reach guests through the sets and the table of struct
 * guests, which control replaces under RCU: a worker may use what it found there until its next
 * quiescent state, which it reports once a round and never while it holds a guest. The vid of a
 * guest is valid for exactly as long as the guest is: read it where it is used.
 *
 * Write side. One mutex covers every change to the table. Control holds it for joining, for
 * leaving (including the wait for the grace period: no worker ever takes it), and for programming
 * learned addresses into the uplink. Statistics and telemetry take it to look at guests.
 *
 * Learning is the one change that a worker makes. It enters the MAC into the FDB, which nobody else
 * can have from then on, and wakes the control loop. On a NIC without filters the guest is registered at
 * once. Otherwise it is pending until the control loop has given MAC and VLAN to the NIC: its first
 * frame waits in struct guest and the others in their ring, so no answer can come back before
 * the filter stands, and what others send to it meanwhile is delivered in software. If the NIC refuses the
 * MAC, the FDB forgets it, and the guest may try again.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>
#include <rte_vhost.h>

#include "guest/direct.h"
#include "main.h"
#include "stats/counters.h"
#include "switch/fdb.h"
#include "uplink/uplink.h"

/** printf format of a MAC, for RTE_ETHER_ADDR_BYTES(): lower case, as ip(8) writes it. */
#define MAC_FMT "%02x:%02x:%02x:%02x:%02x:%02x"

/** Queue pairs that a guest can have, librte_vhost's limit (VHOST_MAX_QUEUE_PAIRS). */
#define QUEUE_PAIR_MAX 128
#define QUEUE_PAIR_WORDS (QUEUE_PAIR_MAX / 64)

/** The queue pairs of a connection that are enabled, a bit each. Written by control, atomic. */
struct guest_rings {
	uint64_t rx[QUEUE_PAIR_WORDS];
	uint64_t tx[QUEUE_PAIR_WORDS];
	uint64_t announce; /**< key of a MAC to be announced by a RARP, 0: none; atomic */
	bool limit_logged; /**< that there was no place for it was logged; under the mutex */
	bool paused; /**< between guests_pause() and guests_resume(); control's own */
};

/** What a worker finds out about a guest and the control loop logs: a worker waits for no log. */
enum guest_report {
	GUEST_REPORT_SOURCE_INVALID,
	GUEST_REPORT_MAC_TAKEN,
	GUEST_REPORT_FDB_FULL,
	GUEST_REPORT_BROKEN_TRANSMIT,
	GUEST_REPORT_BROKEN_RECEIVE,
	GUEST_REPORT_MAX
};

/** One guest. Constant while it is published, but for what is marked. */
struct guest {
	int vid;		 /**< librte_vhost's handle */
	uint64_t serial;	 /**< no other guest ever has the same */
	uint16_t id;		 /**< device id */
	uint16_t vlan;		 /**< VLAN_TAG_BASE + id */
	uint16_t worker;	 /**< index of the worker that polls it */
	bool offload_csum;	 /**< takes partial checksums (VIRTIO_NET_F_GUEST_CSUM) */
	bool offload_tso4;	 /**< takes unsegmented TCP over IPv4 */
	bool mergeable;		 /**< spreads a frame over several buffers */
	bool registered;	 /**< has a MAC, and its filter stands; atomic, written once, release */
	bool pending;		 /**< has a MAC that the NIC is yet to be given; atomic */
	bool refused;		 /**< no MAC of it was accepted when last seen; atomic */
	bool taken_logged;	 /**< that its MAC is taken was logged; its worker's own */
	bool invalid_logged;	 /**< an invalid source was logged; its worker's own */
	bool programmed;	 /**< the uplink has its MAC; under the mutex */
	bool registered_logged;	 /**< under the mutex */
	bool nic_refusal_logged; /**< under the mutex */
	bool misplaced_logged;	 /**< that a ring is not in its memory was logged; control's own */
	bool fault_logged;	 /**< that its memory has gone was logged; under the mutex */
	bool mirrored;		 /**< its frames are copied to the mirror port; atomic, control's */
	uint64_t mac;		 /**< key of the MAC; written before pending and registered */
	uint32_t reports;	 /**< bits of enum guest_report that are to be logged; atomic */
	uint64_t refused_mac;	 /**< key of the address of those reports; atomic */
	uint64_t learn_after;	 /**< TSC, no MAC is learned before; its worker's own */
	struct rte_mbuf *first;	 /**< frame that waits while the guest is pending; its worker's own */
	struct guest_rings *rings;	 /**< may change at any time */
	struct direct *direct;		 /**< its rings in our hands */
	rte_spinlock_t rx_lock[QUEUE_PAIR_MAX]; /**< one worker at a time fills a ring by librte_vhost */
	uint64_t features;		 /**< negotiated virtio features */
	char socket[108];		 /**< path that it came by */
};

/** A set of guests that workers walk; replaced, never changed. */
struct guest_set {
	unsigned int n;
	struct guest *guest[];
};

/** All guests, and what is needed to let them come and go. */
struct guests {
	struct guest *by_id[GUEST_MAX];		   /**< atomic */
	struct guest_set *all;			   /**< atomic */
	struct guest_set *of_worker[RTE_MAX_LCORE]; /**< atomic; the guests that a worker polls */

	struct fdb *fdb;
	struct uplink *uplink;
	struct rte_rcu_qsbr *qsbr;
	struct counters *counters[RTE_MAX_LCORE]; /**< one of each worker */
	unsigned int nb_workers;
	struct rte_rcu_qsbr *sections; /**< workers that are at rings, see direct.h */
	bool direct_path;   /**< --vm2vm 1: frames may be copied straight from guest to guest */
	unsigned int limit; /**< how many guests there can be */
	int learned_fd;	    /**< eventfd, readable when guests_program() has work */
	pthread_mutex_t mutex;
	uint64_t serial;      /**< of the last guest; under the mutex */
	uint16_t mirrored;    /**< device id, GUEST_MAX: none; under the mutex */
	bool closing; /**< no more guests; under the mutex */
};

/**
 * Walk the set bits of a ring mask: ring is the queue pair. The mask is read once a word, a ring
 * that is disabled meanwhile is no harm: librte_vhost checks under its own lock.
 */
#define FOREACH_RING(ring, mask)                                                                   \
	for (unsigned int w_ = 0; w_ < QUEUE_PAIR_WORDS; w_++)                                     \
		for (uint64_t b_ = __atomic_load_n(&(mask)[w_], __ATOMIC_RELAXED);                 \
			b_ != 0 && ((ring) = (uint16_t)(w_ * 64 + (unsigned int)__builtin_ctzll(b_)), true); \
			b_ &= b_ - 1)

/**
 * Make an empty table. Main thread, before workers and sockets.
 *
 * @param[out] guests to initialise; counters[], fdb, uplink, qsbr and sections are then set by the caller
 * @param nb_workers number of workers
 * @param limit number of guests, at most GUEST_MAX
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
 * Let a guest in: lowest free id, least loaded worker. If there are as many guests as there can be, which is
 * logged, the device waits, and becomes a guest when its turn comes after others have left. Control.
 *
 * @param guests the table
 * @param vid librte_vhost's handle of a device whose rings are ready
 * @return 0, -ESHUTDOWN after guests_close(), -ENOMEM
 */
int guests_join(struct guests *guests, int vid);

/**
 * Let a guest go. When this returns nothing touches it any more, its MAC is free, and the uplink
 * has forgotten it. Control.
 *
 * @param guests the table
 * @param vid handle that guests_join() took, of a guest or of a device that waits
 */
void guests_leave(struct guests *guests, int vid);

/**
 * Note that a ring became ready to use or ceased to be. Control, from a callback that holds the
 * virtqueue's lock: waits for sections of workers (direct.h) at most.
 *
 * @param guests the table
 * @param vid librte_vhost's handle
 * @param vring virtqueue index, even: receive, odd: transmit
 * @param enabled the new state
 */
void guests_set_ring(struct guests *guests, int vid, uint16_t vring, bool enabled);

/**
 * A message of a guest's front end is about to take effect: no worker is at the guest's rings when
 * this returns, until guests_resume(). Control, locks of librte_vhost may be held.
 *
 * @param guests the table
 * @param vid librte_vhost's handle, maybe of a device that is no guest
 */
void guests_pause(struct guests *guests, int vid);

/**
 * It has taken effect. Nothing happens if the guest was not paused for it. Control.
 *
 * @param guests the table
 * @param vid librte_vhost's handle, maybe of a device that is no guest
 */
void guests_resume(struct guests *guests, int vid);

/**
 * Another call descriptor for a virtqueue. Its traffic is not paused for that. Called by the vhost
 * thread.
 *
 * @param guests the table
 * @param vid librte_vhost's handle, maybe of a device that is not a guest
 * @param vring virtqueue index
 * @param callfd an eventfd, which belongs to the table from now on; -1: none
 */
void guests_set_call(struct guests *guests, int vid, uint16_t vring, int callfd);

/**
 * A message brings a call or kick descriptor. librte_vhost would write to a call descriptor
 * (guest/notify.h), so it gets none; and it would stop a virtqueue in use until the message has been
 * dealt with, which is not necessary. Called by the vhost thread.
 *
 * @param guests the table
 * @param vid librte_vhost's handle
 * @param vring virtqueue index
 * @param call whether it is a call descriptor
 * @param fd the descriptor, or -1 where the message has none. A call descriptor belongs to the
 *   table from now on; a kick descriptor is closed if the result is true
 * @return whether librte_vhost is not to see the message at all, since the virtqueue is in use
 */
bool guests_keep_descriptor(struct guests *guests, int vid, uint16_t vring, bool call, int fd);

/**
 * Have a MAC announced in a guest's name, since it has moved here (SEND_RARP). Its worker does so when
 * the guest is there. Called by the vhost thread.
 *
 * @param vid librte_vhost's handle, maybe of a device that is not a guest yet
 * @param mac key of the MAC, see fdb_key()
 */
void guests_announce(int vid, uint64_t mac);

/**
 * Forget the rings of a connection that has ended, and its call descriptors. Control.
 *
 * @param vid librte_vhost's handle
 */
void guests_clear_rings(int vid);

/**
 * Learn a guest's MAC. The worker that polls the guest.
 *
 * @param guests the table
 * @param guest a guest that is not registered
 * @param mac source address of a frame that it sent, inside an Ethernet header
 * @return 0 if the guest is registered; -EINPROGRESS if it is pending; -EINVAL if the address is not
 *   unicast, -EEXIST if another guest has it, -ENOSPC if the FDB is full, -EAGAIN if the NIC has
 *   refused an address of this guest within the last second
 */
int guests_learn(struct guests *guests, struct guest *guest, const struct rte_ether_addr *mac);

/**
 * Have something logged about a guest. Called by a worker.
 *
 * @param guests the table
 * @param guest one that the worker has found
 * @param report what
 */
void guests_report(struct guests *guests, struct guest *guest, enum guest_report report);

/**
 * Give pending MACs to the uplink and register their guests; log who is registered, whom the NIC
 * refused, what workers report, and whose memory has gone. Control loop, when learned_fd is readable.
 *
 * @param guests the table
 */
void guests_program(struct guests *guests);

/**
 * Have a guest's frames copied to the mirror port, and nobody else's any more; in effect when this
 * returns. Any thread but workers.
 *
 * @param guests the table
 * @param id device id of a guest that is there or is to come; GUEST_MAX: of none
 */
void guests_mirror(struct guests *guests, uint16_t id);

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
	return id < GUEST_MAX ? __atomic_load_n(&guests->by_id[id], __ATOMIC_ACQUIRE) : NULL;
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
 * Look up a registered guest. Worker, until its next quiescent state.
 *
 * @param guests the table
 * @param id device id, any number
 * @return the guest if it is there and registered, else NULL
 */
static inline struct guest *
guests_find(struct guests *guests, uint16_t id)
{
	struct guest *g = guests_get(guests, id);

	return g != NULL && guest_is_registered(g) ? g : NULL;
}

#endif /* GUEST_GUEST_H */
