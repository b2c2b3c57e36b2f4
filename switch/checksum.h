/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_CHECKSUM_H
#define SWITCH_CHECKSUM_H

/**
 * @file
 * The Internet checksum (RFC 1071) over chains of mbufs.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

/**
 * Sum up bytes of a frame. rte_raw_cksum_mbuf() of DPDK 22.11 to 24.11 is wrong after an mbuf with
 * an odd number of bytes: it swaps a sum that it has not folded. Called by a worker.
 *
 * @param m the frame
 * @param off where they begin, in bytes
 * @param len number of bytes; fewer are summed up where the frame ends before
 * @return the sum, not folded
 */
static inline uint32_t
checksum_sum(const struct rte_mbuf *m, uint32_t off, uint32_t len)
{
	uint32_t sum = 0, done = 0, part;
	uint16_t one;

	for (; m != NULL && done < len; m = m->next) {
		if (off >= rte_pktmbuf_data_len(m)) {
			off -= rte_pktmbuf_data_len(m);
			continue;
		}
		part = RTE_MIN(len - done, rte_pktmbuf_data_len(m) - off);
		one = rte_raw_cksum(rte_pktmbuf_mtod_offset(m, const void *, off), part);
		sum += (done & 1) ? rte_bswap16(one) : one;
		done += part;
		off = 0;
	}
	return sum;
}

/** Fold a sum into 16 bits. */
static inline uint16_t
checksum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)(sum + (sum >> 16));
}

#endif /* SWITCH_CHECKSUM_H */
