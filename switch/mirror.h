/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_MIRROR_H
#define SWITCH_MIRROR_H

/**
 * @file
 * The mirror port: copies of what one guest sends and receives, for whoever captures there.
 *
 * It is a second port of EAL's (--mirror-port), most often a TAP that tcpdump(8) listens to or a
 * net_pcap that writes a file. Frames leave by it and none come in. Which guest is mirrored is
 * said while the switch runs, by telemetry (guests_mirror()).
 *
 * A frame is copied as the guest gave it, when it is done with, or as the guest took it, with the
 * tag that it got there; one that it did not take is not there.
 *
 * All workers share one transmit queue under a lock: who watches has the time.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>
#include <rte_spinlock.h>

#include "main.h"
#include "switch/burst.h"
#include "uplink/buffers.h"
#include "uplink/link.h"

/** The mirror port. Constant once it is started, but for the counters. */
struct mirror {
	bool present;
	uint16_t port;
	uint16_t nb_rxd, nb_txd;
	uint32_t longest; /**< bytes of a frame that are copied */
	struct port_link link;
	struct rte_mempool *pool;
	struct port_buffers buffers;
	uint32_t extra_mbufs; /**< that its driver has beyond its descriptors */
	rte_spinlock_t lock;
	uint64_t sent; /**< frames; under the lock, read by telemetry */
	uint64_t lost; /**< frames without an mbuf, or that the port did not send; likewise */
};

/**
 * Find the port of a configuration, but start nothing. Main thread.
 *
 * @param[out] mirror the mirror port, absent where the configuration has none
 * @param cfg the configuration
 * @return 0, or a negative errno after a line on stderr that names the option to blame
 */
int mirror_open(struct mirror *mirror, const struct config *cfg);

/**
 * How many mbufs it may hold at once.
 *
 * @param mirror an open mirror port
 * @return mbufs
 */
uint32_t mirror_mbufs(const struct mirror *mirror);

/**
 * Configure and start the port. Main thread.
 *
 * @param mirror an open mirror port
 * @param pool where copies come from
 * @return 0, or a negative errno after a log line
 */
int mirror_start(struct mirror *mirror, struct rte_mempool *pool);

/**
 * Look at the port's link, and log a line when it has come or gone. The control loop, each second.
 *
 * @param mirror a mirror port, present or not
 */
void mirror_watch_link(struct mirror *mirror);

/**
 * What to wait for beside that second.
 *
 * @param mirror a mirror port, present or not
 * @return a descriptor that is readable when the link may have changed, or -1
 */
static inline int
mirror_link_fd(const struct mirror *mirror)
{
	return mirror->present ? mirror->link.notify_fd : -1;
}

/**
 * Stop and close the port; its mbufs come back to the pool. Main thread, workers are gone.
 *
 * @param mirror a mirror port, open or not
 * @return number of mbufs that the driver keeps
 */
uint32_t mirror_close(struct mirror *mirror);

/**
 * Copy frames of the mirrored guest to the port. Called by a worker.
 *
 * @param mirror the mirror port, present
 * @param b burst of what the guest sent or took
 * @param first the first frame
 * @param n number of frames
 * @param run of the frames that the guest took, NULL: it sent them
 */
void mirror_views(struct mirror *mirror, struct burst *b, uint16_t first, uint16_t n,
	const struct run *run);

/**
 * The same for one frame in an mbuf. Called by a worker.
 *
 * @param mirror the mirror port, present
 * @param m the frame; untouched
 */
void mirror_mbuf(struct mirror *mirror, struct rte_mbuf *m);

#endif /* SWITCH_MIRROR_H */
