/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_OFFLOAD_H
#define SWITCH_OFFLOAD_H

/**
 * @file
 * Frames that a guest left unfinished: partial checksums and unsegmented TCP.
 *
 * A guest that negotiated VIRTIO_NET_F_CSUM may send frames whose TCP or UDP checksum is yet to
 * be filled in, and with HOST_TSO4 TCP frames of up to 64 KiB. librte_vhost marks them on the way
 * in. offload_accept() turns its marks into the transmit flags that both NICs and librte_vhost's
 * way out understand. Where the frame goes decides who finishes it: a NIC or a guest that said it
 * can, or else offload_finish(), in software. A frame that nobody finishes is one that the
 * receiver throws away: ping would work, and TCP stall.
 *
 * Worker functions.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

/** The flags of a frame that somebody has to finish. */
#define OFFLOAD_FLAGS                                                                              \
	(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)

/** What comes with librte_vhost's compliant offload flags when a guest left something to do. */
#define OFFLOAD_RX_FLAGS (RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE)
_Static_assert((RTE_MBUF_F_RX_L4_CKSUM_MASK & RTE_MBUF_F_RX_L4_CKSUM_NONE) ==
	RTE_MBUF_F_RX_L4_CKSUM_MASK, "RX_L4_CKSUM_NONE is both bits of the mask");

/**
 * Segments that one frame can become: 64 KiB at the smallest MSS that rte_gso and we accept
 * (OFFLOAD_MSS_MIN), rounded up.
 */
#define OFFLOAD_SEGMENTS_MAX 128

/** A smaller MSS is refused: Linux uses 536 and up, and a guest must not ask for endless work. */
#define OFFLOAD_MSS_MIN 512

/**
 * Take over what the sender left to do.
 *
 * @param m a frame from a guest, maybe with OFFLOAD_RX_FLAGS
 * @return 0, or -EINVAL when it is none that can be finished: drop it
 */
int offload_accept(struct rte_mbuf *m);

/**
 * Is it too much for a destination?
 *
 * @param m the frame
 * @param csum the destination fills in checksums
 * @param tso4 the destination segments TCP over IPv4
 */
static inline bool
offload_exceeds(const struct rte_mbuf *m, bool csum, bool tso4)
{
	if ((m->ol_flags & OFFLOAD_FLAGS) == 0)
		return false;
	return (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) ? !tso4 : !csum;
}

/**
 * Finish a frame in software.
 *
 * @param m a frame for which offload_exceeds() holds, held by the caller alone; used up
 * @param pool for headers of segments
 * @param pieces_pool for what points into @p m
 * @param[out] out the finished frames, at least OFFLOAD_SEGMENTS_MAX
 * @return number of frames in @p out, at least 1; or a negative errno, @p m being freed
 */
int offload_finish(struct rte_mbuf *m, struct rte_mempool *pool, struct rte_mempool *pieces_pool,
	struct rte_mbuf **out);

#endif /* SWITCH_OFFLOAD_H */
