/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_VRING_H
#define VHOST_VRING_H

/**
 * @file
 * The virtio-net device of a front end, and its virtqueues.
 *
 * librte_vhost keeps sockets, messages, memory mappings and negotiation. The virtqueues belong to
 * the switch: workers read descriptors, write used elements and notify drivers themselves.
 * librte_vhost has the indices of a virtqueue only while it deals with a message.
 *
 * The life of a virtqueue, and who may touch its memory:
 *
 *     unused     not set up by the front end, or not wholly in the guest's memory: nobody.
 *     ready      it is set up (usable) and may be enabled, but its device does not run: nobody.
 *     running    its bit is in rx[] or tx[]: workers. A transmit virtqueue is used by the worker
 *                that polls the guest, a receive virtqueue by any worker under its lock.
 *     paused     a message that changes the device is being dealt with: the vhost thread.
 *     disabled   the driver broke the rules of virtio, or the guest's memory was truncated: nobody,
 *                until the device is started again. Memory that was truncated stays disabled.
 *     gone       the connection has ended, and every worker has passed a quiescent state: nobody.
 *
 * device_pause() sets paused, waits until every worker has passed a quiescent state, which it does
 * once a round and never in the middle of a burst, and hands the indices to librte_vhost.
 * device_resume() reads everything about the device again, the indices last. A worker looks at
 * paused before it uses anything else of a device, so all that it then finds stays as it is until
 * its next quiescent state. A worker never waits for a lock of librte_vhost, so the vhost thread
 * may hold all of them meanwhile.
 *
 * Packed virtqueues keep both indices as librte_vhost's interface has them: the index, and the wrap
 * counter in bit 15 (VIRTIO 1.1, 2.7.1).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <rte_branch_prediction.h>
#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_rcu_qsbr.h>
#include <rte_spinlock.h>

#include "vhost/notify.h"
#include "vhost/vhost_user.h"
#include "virtio_net_defs.h"

/** Queue pairs of a device, librte_vhost's limit (VHOST_MAX_QUEUE_PAIRS). */
#define QUEUE_PAIR_MAX 128
#define QUEUE_PAIR_WORDS (QUEUE_PAIR_MAX / 64)

/** Virtqueues of a device, and their indices: the guest receives by the even ones. */
#define RINGS_MAX (2 * QUEUE_PAIR_MAX)
#define VRING_RX(pair) ((uint16_t)(2 * (pair)))
#define VRING_TX(pair) ((uint16_t)(2 * (pair) + 1))

/** An index of a packed virtqueue; bit 15 beside it is the wrap counter. */
#define PACKED_INDEX 0x7fff
#define PACKED_WRAP 0x8000

/** Bits of a packed descriptor that say whose it is (VIRTIO 1.1, 2.7.1). */
#define PACKED_BOTH ((1 << VRING_PACKED_DESC_F_AVAIL) | (1 << VRING_PACKED_DESC_F_USED))

struct port;

/** Where a region of the guest's memory is, for the guest and for this process. */
struct region {
	uint64_t guest;
	uint64_t size; /**< bytes */
	uint8_t *host;
};

/** One virtqueue. Constant while its device is not paused, but for what is marked. */
struct virtqueue {
	rte_spinlock_t lock; /**< of a receive virtqueue: of its indices and buffers */
	bool usable;	     /**< set up, aligned and wholly in the guest's memory */
	bool packed;
	bool signalled_valid;	 /**< signalled_used is; under the lock */
	uint16_t size;		 /**< entries */
	uint16_t last_avail_idx; /**< of the next chain to take; under the lock */
	uint16_t last_used_idx;	 /**< of the next used element to write; under the lock */
	uint16_t published;	 /**< last_used_idx as the driver can see it; under the lock */
	uint16_t signalled_used; /**< published at the last vring_notify(); under the lock */
	uint16_t first_flags; /**< packed: of the first unpublished element; under the lock */
	int notify_fd;	      /**< the call descriptor, -1: none that can be used; atomic */
	union {
		const struct vring_desc *desc;
		struct vring_packed_desc *packed_desc;
	};
	union {
		const struct vring_avail *avail;
		const struct vring_packed_desc_event *driver_event;
	};
	union {
		struct vring_used *used;
		struct vring_packed_desc_event *device_event;
	};
	int callfd;	      /**< the call descriptor, -1: none; the vhost thread's own */
	uint16_t used_before; /**< last_used_idx when that was set; the vhost thread's own */
} __rte_cache_aligned;

/**
 * The device of a connection. Written by the vhost thread, and constant while it is not paused, but
 * for what is marked.
 */
struct device {
	bool paused;   /**< atomic; a message is changing it */
	bool disabled; /**< atomic; written by workers and by the SIGBUS handler too */
	bool memory_gone; /**< atomic; memory was truncated; written by the SIGBUS handler */
	bool running; /**< librte_vhost has called it ready, and not stopped it since */
	bool packed;
	bool event_idx;
	bool mergeable;	    /**< a frame may be spread over several buffers */
	uint8_t may_ask;    /**< OFFLOAD_*: what the header of a frame of the guest may ask for */
	uint8_t accepts;    /**< OFFLOAD_*: what frames to it may leave to the guest */
	bool logging;	    /**< writes to the guest's memory must be logged: it migrates */
	uint8_t hdr_len;    /**< bytes of the virtio-net header */
	uint8_t nb_regions;
	unsigned int changes;		/**< atomic; how often it was paused */
	uint64_t rx[QUEUE_PAIR_WORDS];	/**< pairs whose receive virtqueue runs, as bits; atomic */
	uint64_t tx[QUEUE_PAIR_WORDS];	/**< the same of transmit virtqueues */
	struct region region[VHOST_USER_REGIONS_MAX];
	uint64_t announce; /**< key of a MAC that a RARP is to be sent for, 0: none; atomic */
	uint64_t features; /**< negotiated virtio features */
	int vid;	   /**< librte_vhost's handle */
	TAILQ_ENTRY(device) waiting; /**< port/'s: the device waits for a place among the guests */
	bool is_waiting;
	const char *path;  /**< socket that the front end came by */
	struct port *port; /**< its named port, NULL: none; port/'s */

	/* The vhost thread's own. */
	struct rte_rcu_qsbr *rcu; /**< of the workers */
	bool has_memory;	  /**< a memory table is there */
	bool is_message_paused;	  /**< device_pause() was called for the message in hand */
	/** A message is being dealt with, or librte_vhost failed to. Atomic: others read it. */
	bool busy;
	bool limit_logged; /**< that there was no place for it was logged */
	bool misplaced_logged; /**< that a virtqueue is not in its memory was logged */
	unsigned int pauses; /**< device_pause() less device_resume() */
	uint16_t nb_rings;   /**< virtqueues that librte_vhost knows */
	uint64_t enabled[2][QUEUE_PAIR_WORDS]; /**< pairs whose RX or TX is enabled, as bits */

	struct virtqueue vq[RINGS_MAX];
};

/**
 * Begin with the device of a new connection. Called by the vhost thread.
 *
 * @param d the device
 * @param vid librte_vhost's handle
 * @param path socket that the front end came by; must stay
 * @param port the named port of that socket, or NULL
 * @param rcu in which workers report quiescent states
 */
void device_open(struct device *d, int vid, const char *path, struct port *port,
	struct rte_rcu_qsbr *rcu);

/**
 * End with a device that no worker knows any more: close its call descriptors. Called by the vhost
 * thread.
 *
 * @param d the device
 */
void device_close(struct device *d);

/**
 * Before librte_vhost changes anything about a device: wait until no worker uses it, and hand the
 * indices of its virtqueues to librte_vhost. Pauses nest, since librte_vhost reports a virtqueue
 * that stops in the middle of a message. Called by the vhost thread; locks of librte_vhost may be
 * held.
 *
 * @param d the device
 */
void device_pause(struct device *d);

/**
 * After the change: read everything about the device again, and let workers use it if this is the
 * outermost pause. Called by the vhost thread.
 *
 * @param d the device
 */
void device_resume(struct device *d);

/**
 * All virtqueues that the front end has set up are ready, or one of them has stopped. Workers use
 * none unless the device runs. A start ends a time as disabled. Called by the vhost thread.
 *
 * @param d the device
 * @param running whether it runs from now on
 */
void device_set_running(struct device *d, bool running);

/**
 * A virtqueue was enabled or disabled. Called by the vhost thread, which may hold the lock that
 * librte_vhost has for the virtqueue.
 *
 * @param d the device
 * @param vring its index
 * @param enabled the new state
 */
void device_enable_ring(struct device *d, uint16_t vring, bool enabled);

/** Whether a virtqueue is enabled. Called by the vhost thread. */
static inline bool
device_has_enabled(const struct device *d, uint16_t vring)
{
	return d->enabled[vring & 1][vring / 128] >> (vring / 2 % 64) & 1;
}

/**
 * Forget virtqueues that librte_vhost has freed, since they were not negotiated. Called by the
 * vhost thread, after a message.
 *
 * @param d the device
 */
void device_forget_absent(struct device *d);

/**
 * Another call descriptor for a virtqueue. The driver is notified by it if it has been by the one
 * before, since that may have been lost. Frames go on meanwhile. Called by the vhost thread.
 *
 * @param d the device
 * @param vring index of a virtqueue
 * @param callfd the descriptor, which belongs to the device from now on; -1: none
 */
void device_set_call(struct device *d, uint16_t vring, int callfd);

/**
 * Note that guest memory was written, for the migration that is under way. After the write: a page
 * that is sent between the two is sent again then. Called by a worker, the device is not paused.
 *
 * @param d a device with logging set
 * @param host what was written
 * @param len bytes
 */
void device_log_write(const struct device *d, const void *host, uint64_t len);

/**
 * Whether workers must keep away from a device. Called by a worker, before it uses anything of it.
 */
static inline bool
device_is_paused(const struct device *d)
{
	return unlikely(__atomic_load_n(&d->paused, __ATOMIC_ACQUIRE));
}

/** Whether the device is disabled. Any thread. */
static inline bool
device_is_disabled(const struct device *d)
{
	return unlikely(__atomic_load_n(&d->disabled, __ATOMIC_RELAXED));
}

/**
 * Translate an address of the guest. Called by a worker, the device is not paused.
 *
 * @param d the device
 * @param addr the guest's address
 * @param len bytes
 * @return the memory if all of it is in one region, else NULL
 */
static inline void *
device_translate(const struct device *d, uint64_t addr, uint64_t len)
{
	const struct region *r = d->region;
	unsigned int i = d->nb_regions;

	for (; i > 0; i--, r++) {
		uint64_t off = addr - r->guest;

		if (unlikely(off >= r->size))
			continue;
		if (r->host == NULL) /* saves callers a comparison: no region is there */
			__builtin_unreachable();
		return likely(len <= r->size - off) ? r->host + off : NULL;
	}
	return NULL;
}

/** The queue pair of the lowest bit that is set in a word. */
static inline uint16_t
pair_of_bit(unsigned int word, uint64_t bits)
{
	return (uint16_t)(word * 64 + (unsigned int)__builtin_ctzll(bits));
}

/**
 * Walk the set bits of d->rx or d->tx: pair is the queue pair.
 */
#define FOREACH_PAIR(pair, mask)                                                                   \
	for (unsigned int w_ = 0; w_ < QUEUE_PAIR_WORDS; w_++)                                     \
		for (uint64_t b_ = __atomic_load_n(&(mask)[w_], __ATOMIC_RELAXED);                 \
			b_ != 0 && ((pair) = pair_of_bit(w_, b_), true);                           \
			b_ &= b_ - 1)

/** How many bits of d->rx or d->tx are set. Any thread. */
static inline unsigned int
device_count_pairs(const uint64_t *mask)
{
	unsigned int i, n = 0;

	for (i = 0; i < QUEUE_PAIR_WORDS; i++)
		n += (unsigned int)__builtin_popcountll(
			__atomic_load_n(&mask[i], __ATOMIC_RELAXED));
	return n;
}

/* VIRTIO 1.1, 1.4: virtqueues are little-endian; and so are keys of the FDB (port/fdb.h). */
_Static_assert(RTE_BYTE_ORDER == RTE_LITTLE_ENDIAN, "split virtqueues are read as they are");

/** An index of a virtqueue, n entries on; n is at most its size if it is packed. */
static inline uint16_t
vring_advance(const struct virtqueue *vq, uint16_t index, uint16_t n)
{
	uint32_t at;

	if (likely(!vq->packed))
		return (uint16_t)(index + n);
	at = (uint32_t)(index & PACKED_INDEX) + n;
	if (at < vq->size)
		return (uint16_t)(at | (index & PACKED_WRAP));
	return (uint16_t)((at - vq->size) | (~index & PACKED_WRAP));
}

/**
 * Write a used element of a packed virtqueue, as vring_put_used(), for a caller who keeps the index
 * of the next one while it writes several.
 *
 * @param vq the virtqueue
 * @param at the element's index: last_used_idx, and from then on what this returned
 * @param id of the chain's buffer
 * @param len bytes written to it
 * @param count entries that it takes
 * @return last_used_idx after it
 */
static inline uint16_t
vring_write_used_packed(struct virtqueue *vq, uint16_t at, uint16_t id, uint32_t len,
	uint16_t count)
{
	typedef uint64_t __attribute__((may_alias)) whole;
	struct vring_packed_desc *desc = &vq->packed_desc[at & PACKED_INDEX];
	uint16_t flags = (uint16_t)((len > 0 ? VRING_DESC_F_WRITE : 0) |
		(at & PACKED_WRAP ? PACKED_BOTH : 0));

	/*
	 * The driver goes from one element to the next, so the first one's flags hide the others,
	 * which are written as one number each.
	 */
	if (at == vq->published) {
		vq->first_flags = flags;
		desc->id = rte_cpu_to_le_16(id);
		desc->len = rte_cpu_to_le_32(len);
	} else {
		_Static_assert(offsetof(struct vring_packed_desc, len) == 8 &&
			offsetof(struct vring_packed_desc, id) == 12 &&
			offsetof(struct vring_packed_desc, flags) == 14, "VIRTIO 1.1, 2.7.13");
		__atomic_store_n((whole *)(void *)&desc->len,
			rte_cpu_to_le_64(len | (uint64_t)id << 32 | (uint64_t)flags << 48),
			__ATOMIC_RELEASE);
	}
	return vring_advance(vq, at, count);
}

/**
 * Write the next used element. The driver cannot see it before vring_publish(). Called by a worker,
 * under the virtqueue's lock or as the worker that polls it.
 *
 * @param vq the virtqueue
 * @param id the chain's: its head, or the id of its buffer
 * @param len bytes written to it
 * @param count entries that it takes in a packed virtqueue, 1 in a split one
 */
static inline void
vring_put_used(struct virtqueue *vq, uint16_t id, uint32_t len, uint16_t count)
{
	if (unlikely(vq->packed)) {
		vq->last_used_idx = vring_write_used_packed(vq, vq->last_used_idx, id, len, count);
		return;
	}
	vq->used->ring[vq->last_used_idx & (vq->size - 1)] = (struct vring_used_elem){ id, len };
	vq->last_used_idx++;
}

/** What vring_publish() does for a packed virtqueue, or while writes are logged. */
void vring_publish_slow(const struct device *d, struct virtqueue *vq);

/**
 * Let the driver see all used elements. Called by a worker, as vring_put_used().
 *
 * @param d the device
 * @param vq its virtqueue
 */
static inline void
vring_publish(const struct device *d, struct virtqueue *vq)
{
	if (vq->published == vq->last_used_idx)
		return;
	if (unlikely(vq->packed || d->logging)) {
		vring_publish_slow(d, vq);
		return;
	}
	vq->published = vq->last_used_idx;
	__atomic_store_n(&vq->used->idx, vq->published, __ATOMIC_RELEASE);
}

/**
 * Whether the driver of a packed virtqueue wants to know of elements from old on, if that is valid.
 */
bool vring_packed_wants_notification(const struct device *d, const struct virtqueue *vq,
	uint16_t old, bool valid);

/**
 * Notify the driver of what was published, if it wants to know (VIRTIO 1.1, 2.6.7 and 2.6.10).
 * Called by a worker, as vring_put_used(), with a full fence after vring_publish(): the index must
 * be visible before we read whether the driver waits for it.
 *
 * @param d the device
 * @param vq its virtqueue
 */
static inline void
vring_notify(const struct device *d, struct virtqueue *vq)
{
	uint16_t old = vq->signalled_used, now = vq->published;
	int fd = __atomic_load_n(&vq->notify_fd, __ATOMIC_RELAXED);
	bool valid = vq->signalled_valid;

	if (now == old)
		return;
	vq->signalled_used = now;
	vq->signalled_valid = true;
	if (unlikely(vq->packed)) {
		if (!vring_packed_wants_notification(d, vq, old, valid))
			return;
	} else if (d->event_idx) {
		uint16_t event = __atomic_load_n(&vq->avail->ring[vq->size], __ATOMIC_RELAXED);

		if (valid && !vring_need_event(event, now, old))
			return;
	} else if (__atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED) &
			VRING_AVAIL_F_NO_INTERRUPT) {
		return;
	}
	if (fd >= 0 && !notify_send(fd)) /* unless it is another one by now */
		__atomic_compare_exchange_n(&vq->notify_fd, &fd, -1, false, __ATOMIC_RELAXED,
			__ATOMIC_RELAXED);
}

#endif /* VHOST_VRING_H */
