/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NIC82599_SEGMENT_H
#define NIC82599_SEGMENT_H

/**
 * @file
 * Checksums and TCP segmentation on frames in memory: datasheet 7.2.4 and 7.2.5.
 *
 * No function keeps state: any thread may call any of them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The sum of 16-bit words in network order, RFC 1071, less the complement, added to another. */
uint32_t checksum_add(uint32_t sum, const uint8_t *data, size_t len);

/** A sum becomes the two bytes of a checksum field. */
void checksum_put(uint32_t sum, uint8_t *field);

/** What a transmit context says about a TCP frame to be segmented, and what registers say. */
struct segmentation {
	size_t mac, ip, tcp; /**< lengths of the headers: MACLEN, IPLEN, L4LEN */
	size_t mss;	     /**< TCP payload of each segment but the last, not 0 */
	bool is_ipv4;	     /**< else IPv6 */
	/** TCP flags that the first, the middle and the last segment may have: DTXTCPFLGL, -H */
	uint16_t first_flags, middle_flags, last_flags;
};

/**
 * Write one segment of a frame.
 *
 * @param s      how to cut
 * @param frame  headers and payload; in the TCP checksum's field is the sum of the pseudo-header
 *               without the length
 * @param len    of all, in bytes; the headers at least
 * @param i      which segment, from 0
 * @param out    room for headers and MSS
 * @return its length in bytes, or 0 when there are fewer segments
 */
size_t segment(const struct segmentation *s, const uint8_t *frame, size_t len, size_t i,
	uint8_t *out);

#endif /* NIC82599_SEGMENT_H */
