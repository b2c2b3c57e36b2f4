/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_RECEIVED_H
#define SWITCH_RECEIVED_H

/**
 * @file
 * Frames from ports that show the kernel's own, unfinished.
 *
 * A kernel that sends by a veth pair, or by another interface without a card, may leave the
 * checksum of TCP, UDP or SCTP to be filled in, and TCP segments to be made. Drivers on packet
 * sockets do not pass on the kernel's word for it (TP_STATUS_CSUMNOTREADY), so the frame itself has
 * to tell.
 */

#include <rte_mbuf.h>

/**
 * Complete the checksum of a frame that has been left to a card. One that is right as it is stays:
 * the field of an unfinished TCP or UDP checksum is the sum of the pseudo-header, which is the
 * right value of one finished frame in 65,535, so that is checked first. A wrong one of another
 * value stays too. Called by a worker.
 *
 * @param m a frame as received, of at least an Ethernet header, that no one else holds
 * @return 0, or -EBADMSG when the end of the IP packet is not there: the port has cut it off
 */
int received_finish(struct rte_mbuf *m);

#endif /* SWITCH_RECEIVED_H */
