/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUEST_DIRECT_H
#define GUEST_DIRECT_H

/**
 * @file
 * A guest's split virtqueues in the hands of the switch itself.
 *
 * librte_vhost copies a frame from the sender's memory into an mbuf and from there into the
 * receiver's memory. Who knows the rings of both copies once (switch/direct.c). This file has what
 * that needs of a guest: its memory table, its rings, and the rules by which a ring changes hands.
 *
 * Ownership. A ring's indices belong either to librte_vhost or to us. We take them with
 * rte_vhost_get_vring_base(), and hand them back with rte_vhost_set_vring_base(): whenever one
 * burst has to go through librte_vhost (direct_lend(), direct_return()), and before control changes
 * anything about the guest (direct_pause()). Both sides leave every element that they have
 * taken written into the used ring, so an index is all there is to hand over. A burst's elements are
 * shown to the drivers at its end, or when a ring is handed back before that.
 *
 * Notifications are always ours, whoever has the indices: librte_vhost gets no call descriptors, as it
 * would write to them (guest/notify.h). After each of its calls, and after a pause, the used index is
 * compared with the one of the last notification. The flag by which drivers are told not
 * to kick is written here too, once the whole ring is known to be in the guest's memory.
 *
 * Threads. Workers touch rings only in a section: between direct_enter() and direct_pass() or
 * direct_leave(), by an RCU variable of its own. Control sets paused and waits until every worker
 * has left the section that it was in, before librte_vhost acts on a message of the guest's front
 * end; direct_resume() looks at the guest anew when it has. A message may pause a guest that is
 * paused already, since librte_vhost reports a ring that stops in the middle of it: the outermost
 * pair counts. A worker leaves its section around
 * rte_vhost_enqueue_burst(), which waits for a lock that control holds in that time; every other
 * call of a section is one that waits for nobody.
 * A transmit ring is used by the one worker that polls its guest, a receive ring by all: under its
 * lock.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_rcu_qsbr.h>
#include <rte_spinlock.h>

#include "guest/notify.h"
#include "guest/vhost_user.h"
#include "virtio_net_defs.h"

/** Why a guest's frames cannot be copied directly; the first is that they can. */
#define FOREACH_DIRECT_BAR(_)                                                                      \
	_(NONE, "")                                                                                \
	_(MODE, "--vm2vm is not 1")                                                                \
	_(PACKED, "packed virtqueues")                                                             \
	_(LOGGING, "memory writes are logged, a migration is under way")                           \
	_(MEMORY, "memory in more regions than are kept")                                          \
	_(PAUSED, "the front end is changing the device")                                          \
	_(MIRRORED, "mirrored")                                                                    \
	_(RINGS, "not exactly one receive ring is enabled")                                        \
	_(BROKEN, "switched off, the log says why")

#define DIRECT_ENUM(upper, text) DIRECT_BAR_##upper,
enum direct_bar { FOREACH_DIRECT_BAR(DIRECT_ENUM) DIRECT_BAR_MAX };

/** The texts of the list above. */
extern const char *const direct_bar_text[DIRECT_BAR_MAX];

/** One region of a guest's memory: where the guest has it and where we have. */
struct direct_region {
	uint64_t guest;
	uint64_t size;
	uint8_t *host;
};

/** One virtqueue. Of a packed one avail and used are the driver's and the device's event area. */
struct direct_ring {
	rte_spinlock_t lock;
	bool in_memory; /**< all of it is in the guest's memory; written by control while paused */
	bool usable;   /**< and it can be ours; the same */
	bool ours;     /**< we have the indices; under the lock */
	uint8_t skip;  /**< polls to go before we look again who frames are for; its worker's own */
	uint16_t lent; /**< calls of librte_vhost under way; under the lock */
	uint16_t size;
	uint16_t next_avail; /**< next element of the available ring to take */
	uint16_t next_used;  /**< next element of the used ring to write */
	uint16_t shown;	     /**< next_used when the driver was last let see it */
	uint16_t signalled;  /**< used index when the driver was last thought of, as librte_vhost has it */
	bool signalled_valid;
	uint16_t used_before; /**< used index when the call descriptor was set; control's own */
	int callfd; /**< atomic; closed after a grace period of sections */
	const struct vring_desc *desc;
	const struct vring_avail *avail;
	struct vring_used *used;
} __rte_cache_aligned;

/** What the direct path knows of a guest. Constant while it is not paused, but for what is marked. */
struct direct {
	bool paused; /**< atomic, written by control */
	bool gave_up; /**< atomic; a worker has waited for the end of this pause for long enough */
	bool broken; /**< atomic, written once by a worker or by vhost/memory.c */
	bool wanted; /**< --vm2vm 1; constant */
	uint8_t bar; /**< enum direct_bar, as far as control knows */
	unsigned int pauses; /**< direct_pause() less direct_resume(); control's own */
	unsigned int changes; /**< atomic; pauses there have been */
	bool shared; /**< several workers use its receive rings; constant */
	bool never;  /**< nothing short of a new guest makes its rings ours; constant */
	bool packed; /**< packed virtqueues; constant */
	bool event_idx;
	bool mergeable;
	bool host_offloads; /**< the sender's header may ask for something */
	uint8_t hdr_len;
	uint8_t nb_regions;
	uint16_t nb_rings;
	struct direct_region region[VHOST_USER_REGIONS_MAX];
	struct direct_ring ring[];
};

/**
 * Describe a guest whose rings are ready. Control.
 *
 * @param vid librte_vhost's handle
 * @param wanted whether there is a direct path at all
 * @param shared whether there are several workers
 * @return it, to be freed with rte_free() after a grace period, or NULL without memory
 */
struct direct *direct_create(int vid, bool wanted, bool shared);

/**
 * Before librte_vhost changes anything about a guest: wait until no worker is at its rings, and
 * hand all indices back. Pauses nest. Control; locks of librte_vhost may be held.
 *
 * @param d the guest's
 * @param vid librte_vhost's handle
 * @param sections what workers are online in
 */
void direct_pause(struct direct *d, int vid, struct rte_rcu_qsbr *sections);

/**
 * After the change: look at the guest anew. Control.
 *
 * @param d the guest's
 * @param vid librte_vhost's handle
 */
void direct_resume(struct direct *d, int vid);

/**
 * Another call descriptor for a virtqueue. The driver is notified by it if it has been by the one before,
 * since that may have been lost. Control.
 *
 * @param d the guest's
 * @param vid librte_vhost's handle
 * @param vring virtqueue index
 * @param callfd the descriptor, -1: none. The one before it can be closed when this returns
 * @param sections what workers are online in
 */
void direct_set_call(struct direct *d, int vid, uint16_t vring, int callfd,
	struct rte_rcu_qsbr *sections);

/**
 * The last look at a guest that no worker knows any more: notify its driver of what a worker, that
 * found the guest paused, did not. Control.
 *
 * @param d the guest's
 * @param vid librte_vhost's handle
 */
void direct_end(struct direct *d, int vid);

/** A worker in the scheme of sections. The worker's own. */
struct direct_section {
	struct rte_rcu_qsbr *qsbr;
	unsigned int worker;
	bool inside;
};

/** Begin to work with rings, if that has not begun. Worker. */
static inline void
direct_enter(struct direct_section *s)
{
	if (likely(s->inside))
		return;
	rte_rcu_qsbr_thread_online(s->qsbr, s->worker);
	s->inside = true;
}

/** One section ends and the next begins: costs nothing unless control waits. Worker. */
static inline void
direct_pass(struct direct_section *s)
{
	if (s->inside)
		rte_rcu_qsbr_quiescent(s->qsbr, s->worker);
}

/** Stop working with rings. Worker. */
static inline void
direct_leave(struct direct_section *s)
{
	if (!s->inside)
		return;
	s->inside = false;
	rte_rcu_qsbr_thread_offline(s->qsbr, s->worker);
}

/** Whether the guest's front end is changing the device just now. Worker. */
static inline bool
direct_is_paused(const struct direct *d)
{
	return unlikely(__atomic_load_n(&d->paused, __ATOMIC_ACQUIRE));
}

/**
 * Let librte_vhost have a ring for calls. Called by a worker in a section: for a receive ring under
 * guest.rx_lock, for a transmit ring by the worker that polls it.
 *
 * @param d the guest's
 * @param vid librte_vhost's handle
 * @param vring virtqueue index
 * @return how many frames each call may be given; 0: the ring is not to be used just now; -EINVAL:
 *   its available index is further ahead than the ring is long. direct_return() is due if positive
 */
int direct_lend(struct direct *d, int vid, uint16_t vring);

/**
 * Whether a ring that was lent may be used for several calls. A packed one has to be looked at again before
 * each if a frame can move its index beyond its end, by chains longer than the ring: librte_vhost ends
 * a chain after VHOST_CHAIN_MAX descriptors, and spreads a mergeable frame over many.
 *
 * @param d the guest's
 * @param vring virtqueue index
 */
static inline bool
direct_lends_for_long(const struct direct *d, uint16_t vring)
{
	return !d->packed || (!d->mergeable && d->ring[vring].size >= VHOST_CHAIN_MAX);
}

/**
 * The calls are over: notify the driver if it wants to know. Called as direct_lend(); in a section
 * afterwards.
 *
 * @param d the guest's
 * @param vid librte_vhost's handle
 * @param vring virtqueue index
 * @param s the worker's
 */
void direct_return(struct direct *d, int vid, uint16_t vring, struct direct_section *s);

/**
 * Take a ring's indices over. Worker, in a section, under the ring's lock or for a transmit ring
 * as its worker.
 *
 * @param d the guest's
 * @param vid librte_vhost's handle
 * @param vring virtqueue index
 * @return whether the ring is ours now
 */
bool direct_take_slow(struct direct *d, int vid, uint16_t vring);

/** direct_take_slow(), or nothing when the ring is ours already. */
static inline bool
direct_take(struct direct *d, int vid, uint16_t vring)
{
	if (unlikely(vring >= d->nb_rings || direct_is_paused(d)))
		return false;
	return likely(d->ring[vring].ours) || direct_take_slow(d, vid, vring);
}

/**
 * Find guest memory. Worker, in a section, guest not paused.
 *
 * @param d the guest's
 * @param addr the guest's address
 * @param len bytes
 * @return the memory if all of it is one region's, else NULL
 */
static inline void *
direct_translate(const struct direct *d, uint64_t addr, uint64_t len)
{
	const struct direct_region *r = d->region;
	unsigned int i = d->nb_regions;

	for (; i > 0; i--, r++) {
		uint64_t off = addr - r->guest;

		if (likely(off < r->size))
			return likely(len <= r->size - off) ? r->host + off : NULL;
	}
	return NULL;
}

/**
 * Let the driver see all elements that have been written into the used ring: nothing to do if it
 * was lent meanwhile. Worker, under the ring's lock or for a transmit ring as its worker.
 *
 * @param r the ring
 */
static inline void
direct_show(struct direct_ring *r)
{
	if (r->shown == r->next_used)
		return;
	r->shown = r->next_used;
	__atomic_store_n(&r->used->idx, r->shown, __ATOMIC_RELEASE);
}

/**
 * Tell the driver of what it has been shown, if it wants to know (VIRTIO 1.1, 2.6.7 and 2.6.10).
 * Worker, as direct_show(), with a full fence in between: the index is to be seen before we look
 * whether anybody waits for it.
 *
 * @param d the guest's
 * @param r the ring
 */
static inline void
direct_tell(const struct direct *d, struct direct_ring *r)
{
	uint16_t old = r->signalled;
	int callfd = __atomic_load_n(&r->callfd, __ATOMIC_RELAXED);

	if (r->shown == old)
		return;
	r->signalled = r->shown;
	if (d->event_idx) {
		uint16_t event = __atomic_load_n(&r->avail->ring[r->size], __ATOMIC_RELAXED);
		bool valid = r->signalled_valid;

		r->signalled_valid = true;
		if (valid && !vring_need_event(event, r->shown, old))
			return;
	} else if (__atomic_load_n(&r->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT) {
		return;
	}
	if (callfd >= 0 && !notify_send(callfd))
		__atomic_store_n(&r->callfd, -1, __ATOMIC_RELAXED);
}

#endif /* GUEST_DIRECT_H */
