/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_OFFLOAD_H
#define SWITCH_OFFLOAD_H

/**
 * @file
 * Frames that a guest left unfinished: partial checksums and unsegmented TCP.
 *
 * A guest that negotiated VIRTIO_NET_F_CSUM may send frames whose TCP or UDP checksum is yet to be
 * filled in, and with HOST_TSO4 TCP frames of up to 64 KiB. Their virtio-net headers say so.
 * offload_read_header() turns that into the transmit flags that NICs understand, and
 * offload_write_header() turns those into the header that a guest understands. Where the frame goes
 * decides who finishes it: a NIC or a guest that said it can, or else this program, in software. A
 * frame that nobody finishes is one that the receiver throws away: ping would work, and TCP stall.
 * A checksum after extension headers of IPv6 or options of IPv4 is finished at once, wherever the
 * frame goes: NICs' drivers know the fixed header alone.
 *
 * Worker functions.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "main.h"
#include "virtio_net_defs.h"

/** The flags of a frame that somebody has to finish. */
#define OFFLOAD_FLAGS                                                                              \
	(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)

/** Marks of a frame for which a guest left something to do; those of a NIC's receive side. */
#define OFFLOAD_RX_FLAGS (RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE)
_Static_assert((RTE_MBUF_F_RX_L4_CKSUM_MASK & RTE_MBUF_F_RX_L4_CKSUM_NONE) ==
	RTE_MBUF_F_RX_L4_CKSUM_MASK, "RX_L4_CKSUM_NONE is both bits of the mask");

/**
 * Least payload in bytes of the segments that software makes. The least MSS of Linux is 48
 * (TCP_MIN_SND_MSS in its include/net/tcp.h), of which up to 40 bytes go to TCP's options.
 */
#define OFFLOAD_MSS_MIN 8

/** Most bytes of headers in a frame that is segmented: Ethernet with two tags, IPv4, TCP. */
#define OFFLOAD_HEADERS_MAX (14 + 2 * 4 + 60 + 60)

/**
 * Most mbufs that BURST_MAX segments of a frame of 64 KiB are in: one for each, and one for each
 * time that a segment goes beyond the room of an mbuf.
 */
#define OFFLOAD_MBUFS_MAX                                                                          \
	(BURST_MAX + (65536 + BURST_MAX * OFFLOAD_HEADERS_MAX) / RTE_MBUF_DEFAULT_DATAROOM + 1)

/**
 * Take over what the sender left to do.
 *
 * @param m a frame from a guest, maybe with OFFLOAD_RX_FLAGS
 * @return 0, or -EINVAL when it is none that can be finished: drop it
 */
int offload_accept(struct rte_mbuf *m);

/**
 * Read what a guest asks for. A checksum of a protocol that is neither TCP nor UDP is finished at
 * once, by the rule of the header (VIRTIO 1.1, 5.1.6.2).
 *
 * @param m the frame, without flags
 * @param header its virtio-net header
 * @return 0, or -EINVAL when it cannot be finished: drop it
 */
int offload_read_header(struct rte_mbuf *m, const struct virtio_net_hdr *header);

/**
 * Write what is left to do for a guest that can do it. The checksum field becomes what the guest
 * expects.
 *
 * @param m a frame with OFFLOAD_FLAGS, held by the caller alone
 * @param[out] header the virtio-net header
 */
void offload_write_header(struct rte_mbuf *m, struct virtio_net_hdr *header);

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
 * Fill in the checksum of a frame, in place.
 *
 * @param m a frame with a checksum to be filled in, not to be segmented, held by the caller alone
 * @return 0, or -EINVAL: it does not hold what its headers say
 */
int offload_finish_checksum(struct rte_mbuf *m);

/**
 * Make the next segments of a frame of unsegmented TCP, finished. The frame stays as it is, and the
 * same segments are made again until offload_advance() notes that they have been sent. So a
 * frame takes no more memory and time at once than the caller has a use for, however many
 * segments it has.
 *
 * @param m a frame with RTE_MBUF_F_TX_TCP_SEG
 * @param pool for segments
 * @param[out] out segments, to be freed by the caller
 * @param max segments at most, from 1 to BURST_MAX
 * @return number of segments, at least 1 and maybe fewer than there are left; -EINVAL: it cannot be
 *	segmented, -ENOMEM: the pool is empty
 */
int offload_segment(const struct rte_mbuf *m, struct rte_mempool *pool, struct rte_mbuf **out,
	uint16_t max);

/**
 * Note that segments have been sent: offload_segment() goes on after them.
 *
 * @param m the frame
 * @param n number of segments, of those that offload_segment() made last
 * @return whether all have been sent
 */
bool offload_advance(struct rte_mbuf *m, uint16_t n);

#endif /* SWITCH_OFFLOAD_H */
