/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef STATS_COUNTERS_H
#define STATS_COUNTERS_H

/**
 * @file
 * What is counted, and why a frame can be dropped.
 *
 * Each worker owns one row of counters per guest and one for the uplink, and is the only one to
 * write them; anybody may read. A total is never stored: it is what succeeded plus what was
 * dropped for each reason, so the three cannot disagree.
 *
 * "TX" is what a guest sent, "RX" what was sent to it, as the guest sees it. A frame that a guest
 * sent counts as successful when the guest or the NIC that it was for has taken it. A flooded
 * frame counts as successful once it has been handed out; what becomes of each copy is counted
 * where the copy was going.
 *
 * A new reason is one new line in one of the lists below: counter, name and text follow.
 */

#include <stdint.h>

#include <rte_common.h>

#include "main.h"

/** Why a frame that a guest sent went no further. */
#define FOREACH_TX_DROP(_)                                                                         \
	_(RUNT, runt, "shorter than an Ethernet header")                                           \
	_(TOO_LONG, too_long, "longer than 64 KiB, or in more than 512 segments")                  \
	_(SOURCE_INVALID, source_invalid,                                                          \
	  "source MAC is not a unicast address, guest not registered")                             \
	_(MAC_TAKEN, mac_taken, "source MAC is registered to another guest")                       \
	_(NIC_REFUSED, nic_refused, "the NIC refused the source MAC a moment ago")                 \
	_(TO_SELF, to_self, "destination MAC is the sender's own")                                 \
	_(NO_DESTINATION, no_destination,                                                          \
	  "no guest has the destination MAC and there is no uplink")                               \
	_(GUEST_FULL, guest_full, "receive ring of the destination guest is full")                 \
	_(GUEST_DISABLED, guest_disabled, "destination guest is disabled")                         \
	_(GUEST_STOPPED, guest_stopped, "destination guest's device is stopped")                   \
	_(GUEST_TOO_LONG, guest_too_long, "longer than the destination guest's buffers")           \
	_(UPLINK_FULL, uplink_full, "transmit queue of the NIC is full")                           \
	_(UPLINK_TOO_LONG, uplink_too_long, "longer than the uplink's MTU or its driver can send") \
	_(UPLINK_REFUSED, uplink_refused, "the uplink's driver did not accept it")                 \
	_(LINK_DOWN, link_down, "the uplink has no link, or a port's link is set down")            \
	_(VLAN_NOT_ALLOWED, vlan_not_allowed, "a VLAN tag that the port may not use")              \
	_(SOURCE_NOT_ALLOWED, source_not_allowed, "source MAC is not one of the port's addresses") \
	_(STORM, storm, "more to many or to unknown addresses than the port may send")             \
	_(RATE, rate, "more than may be sent to the destination port")                             \
	_(ISOLATED, isolated, "from one isolated port to another")                                 \
	_(RESERVED_ADDRESS, reserved_address,                                                      \
	  "destination is reserved for bridges, 01:80:c2:00:00:00 to 0f")                          \
	_(OFFLOAD, offload, "checksum or segmentation could not be completed in software")         \
	_(NO_MBUF, no_mbuf, "mbuf pool was empty")

/** Why a frame that was on its way to a guest did not reach it. */
#define FOREACH_RX_DROP(_)                                                                         \
	_(RING_FULL, ring_full, "the guest's receive ring is full")                                \
	_(DISABLED, disabled, "the guest is disabled")                                             \
	_(GUEST_STOPPED, guest_stopped, "the guest's device is stopped")                           \
	_(LINK_DOWN, link_down, "the port's link is set down")                                     \
	_(RATE, rate, "more than may be sent to the port")                                         \
	_(TOO_LONG, too_long, "longer than the guest's buffers")                                   \
	_(OFFLOAD, offload, "checksum or segmentation could not be completed in software")         \
	_(NO_MBUF, no_mbuf, "mbuf pool was empty when the frame was copied or segmented")

/** Why a frame from the NIC reached no guest. */
#define FOREACH_UPLINK_DROP(_)                                                                     \
	_(RUNT, runt, "shorter than an Ethernet header")                                           \
	_(UNTAGGED, untagged, "no VLAN tag, or a priority tag, so for no guest")                   \
	_(NO_GUEST, no_guest, "VLAN tag of no registered guest")                                   \
	_(WRONG_MAC, wrong_mac, "unicast for another MAC than that of the VLAN's guest")           \
	_(WRONG_POOL, wrong_pool, "the NIC put it in the pool of another guest")                   \
	_(SOURCE_INVALID, source_invalid, "source MAC is not a unicast address, for a named port") \
	_(OWN, own, "the guest's own frame, returned by the NIC's switch")                         \
	_(NO_ROOM, no_room, "no room in front of the frame for the tag that the NIC took off")     \
	_(VLAN_NOT_ALLOWED, vlan_not_allowed, "two VLAN tags, for a named port's VLAN")            \
	_(RESERVED_ADDRESS, reserved_address,                                                      \
	  "destination is reserved for bridges, 01:80:c2:00:00:00 to 0f")                          \
	_(OUTSIDE, outside, "for an address that was last seen at the uplink itself")              \
	_(CUT, cut, "truncated by the port: longer than it can receive")

#define DROP_ENUM_TX(upper, lower, text) TX_DROP_##upper,
#define DROP_ENUM_RX(upper, lower, text) RX_DROP_##upper,
#define DROP_ENUM_UPLINK(upper, lower, text) UPLINK_DROP_##upper,

enum tx_drop { FOREACH_TX_DROP(DROP_ENUM_TX) TX_DROP_MAX };
enum rx_drop { FOREACH_RX_DROP(DROP_ENUM_RX) RX_DROP_MAX };
enum uplink_drop { FOREACH_UPLINK_DROP(DROP_ENUM_UPLINK) UPLINK_DROP_MAX };

/** One guest as one worker counts it; summed over the workers, one guest. In frames. */
struct guest_counters {
	uint64_t tx_ok;
	uint64_t tx_direct; /**< of tx_ok: copied once, into another guest's buffer */
	uint64_t fdb_full;  /**< frames whose source was not learned: the port has no room for it */
	uint64_t rx_ok;
	uint64_t tx_drop[TX_DROP_MAX];
	uint64_t rx_drop[RX_DROP_MAX];
} __rte_cache_aligned;

/** The uplink as one worker counts it. In frames. */
struct uplink_counters {
	uint64_t rx;			    /**< taken from the NIC */
	uint64_t tx_ok;			    /**< taken by the NIC */
	uint64_t tx_drop;		    /**< not taken by the NIC */
	uint64_t rx_drop[UPLINK_DROP_MAX]; /**< taken from the NIC, for no guest */
} __rte_cache_aligned;

/** All that one worker counts. */
struct counters {
	struct guest_counters guest[ID_MAX];
	struct uplink_counters uplink;
};

/** Name and text of a drop reason, for whoever prints it. */
struct drop_reason {
	const char *name;
	const char *text;
};

/** @name The lists above, indexed by their enums. */
/**@{*/
extern const struct drop_reason tx_drop_reason[TX_DROP_MAX];
extern const struct drop_reason rx_drop_reason[RX_DROP_MAX];
extern const struct drop_reason uplink_drop_reason[UPLINK_DROP_MAX];
/**@}*/

/** Totals of a guest_counters. */
struct guest_totals {
	uint64_t tx_total, tx_dropped, tx_ok;
	uint64_t rx_total, rx_dropped, rx_ok;
};

/**
 * Add one worker's row to a sum. Any thread; the row may be counted in meanwhile.
 *
 * @param[in,out] sum where to add
 * @param row what one worker counted
 */
void counters_add_guest(struct guest_counters *sum, const struct guest_counters *row);

/**
 * The same for the uplink.
 *
 * @param[in,out] sum where to add
 * @param row what one worker counted
 */
void counters_add_uplink(struct uplink_counters *sum, const struct uplink_counters *row);

/**
 * Work out the totals.
 *
 * @param c counters of one guest, already summed
 * @return frames: total = dropped + ok in both directions
 */
struct guest_totals counters_totals(const struct guest_counters *c);

#endif /* STATS_COUNTERS_H */
