/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_OFFLOADS_H
#define UPLINK_OFFLOADS_H

/**
 * @file
 * Offloads of interfaces that a port shares with the kernel.
 *
 * A kernel that sends by one end of a veth pair leaves checksums and TCP segmentation to the
 * "card", which there is none of, and a kernel that receives merges TCP segments (GRO). Packet
 * sockets show such frames as they are: truncated to the length of the ring's frames, with
 * checksums that no receiver accepts. So both are disabled for as long as the port is used: merging
 * at the interface, and at the other end of a veth pair what is left to the card. Where the switch
 * may not, or does not see that end, it says what to type.
 *
 * Checksums that come unfinished in spite of that are completed (switch/received.c).
 *
 * Threads: the main thread.
 */

#include <stdbool.h>

#include <net/if.h>

#include "uplink/link.h"

/** What was changed, to be changed back. All zero: nothing. */
struct port_offloads {
	char merging[IF_NAMESIZE];	 /**< interface whose GRO was disabled */
	char unfinished[IF_NAMESIZE]; /**< interface whose transmit checksums were disabled */
};

/**
 * Switch off what packet sockets cannot bear. Logs what was done, and what is to be done by hand.
 *
 * @param[out] offloads to be given to port_offloads_restore()
 * @param link the port's, open
 */
void port_offloads_disable(struct port_offloads *offloads, const struct port_link *link);

/**
 * Put back what port_offloads_disable() has changed.
 *
 * @param[in,out] offloads all zero afterwards
 */
void port_offloads_restore(struct port_offloads *offloads);

#endif /* UPLINK_OFFLOADS_H */
