/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_OFFLOAD_H
#define SWITCH_OFFLOAD_H

/**
 * @file
 * Frames that a guest left unfinished: partial checksums and unsegmented TCP.
 *
 * A guest that negotiated VIRTIO_NET_F_CSUM may send frames whose checksum is yet to be filled in,
 * and with HOST_TSO4 and HOST_TSO6 TCP frames of up to 64 KiB. Their virtio-net headers say so.
 * offload_check_header() makes of that a header that can be passed on to a guest that said it can
 * finish the frame, which is then copied as any other. For all else the frame becomes an mbuf:
 * offload_read_header() turns the header into the transmit flags that NICs understand, and
 * offload_write_header() turns those into a header again. What neither guest nor NIC can do is done
 * by this program, in software. A frame that nobody finishes is one that the receiver throws away:
 * ping would work, and TCP stall. In an mbuf, a checksum after extension headers of IPv6 or options
 * of IPv4 is finished at once, wherever the frame goes: NICs' drivers know the fixed header alone.
 *
 * Worker functions.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_ip.h>
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

/**
 * Most bytes of headers in a frame that is segmented: Ethernet with two tags, IPv6 with extension
 * headers (mbuf->l3_len has nine bits), TCP.
 */
#define OFFLOAD_HEADERS_MAX (14 + 2 * 4 + 511 + 60)

/** Instead of OFFLOAD_* bits: a header asks for what is not possible, or not allowed. */
#define OFFLOAD_INVALID (OFFLOAD_TSO4 | OFFLOAD_TSO6)

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
 * Whether a checksum may begin at an offset of a frame: not in the Ethernet header, by which the
 * frame has been forwarded, and not where a header could not say so any more when a tag is put in.
 */
static inline bool
offload_may_begin(uint16_t csum_start)
{
	return csum_start >= RTE_ETHER_HDR_LEN && csum_start <= UINT16_MAX - RTE_VLAN_HLEN;
}

/**
 * Check what a guest asks for with a frame, and write a header of our own for it: nothing else of
 * the guest's header is for others.
 *
 * @param asked the virtio-net header, in memory that the guest cannot change
 * @param may_ask OFFLOAD_* that it may ask for
 * @param front the beginning of the frame, for segmentation; else unused
 * @param have bytes there, OFFLOAD_HEADERS_MAX or all of a shorter frame
 * @param len bytes of the frame
 * @param[out] header what a guest may get that accepts this; untouched if it asks for nothing
 * @return OFFLOAD_* that it asks for, 0, or OFFLOAD_INVALID: drop the frame
 */
uint8_t offload_check_header(const struct virtio_net_hdr *asked, uint8_t may_ask,
	const uint8_t *front, uint32_t have, uint32_t len, struct virtio_net_hdr *header);

/**
 * Read what a guest asks for. A checksum that is not the one of the frame's own TCP or UDP is
 * finished at once, by the rule of the header (VIRTIO 1.1, 5.1.6.2).
 *
 * @param m the frame, without flags
 * @param header its virtio-net header, checked
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

/** What is left to do of a frame with OFFLOAD_FLAGS, OFFLOAD_*. */
uint8_t offload_needs(const struct rte_mbuf *m);

/**
 * Is it too much for a destination?
 *
 * @param m the frame
 * @param accepts OFFLOAD_* that the destination does
 */
static inline bool
offload_exceeds(const struct rte_mbuf *m, uint8_t accepts)
{
	return (m->ol_flags & OFFLOAD_FLAGS) != 0 && (offload_needs(m) & ~accepts) != 0;
}

/** Whether a frame is to be segmented after extension headers, which NICs' drivers do not know. */
static inline bool
offload_has_extensions(const struct rte_mbuf *m)
{
	return (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) && (m->ol_flags & RTE_MBUF_F_TX_IPV6) &&
		m->l3_len != sizeof(struct rte_ipv6_hdr);
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
 * same segments are made again until offload_advance() notes that they have been sent. So a frame
 * takes no more memory and time at once than the caller has a use for, however many segments it
 * has.
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
