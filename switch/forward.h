/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_FORWARD_H
#define SWITCH_FORWARD_H

/**
 * @file
 * Where a burst goes: one decision for each run of frames with the same destination. All functions
 * are a worker's.
 */

#include "switch/burst.h"

struct guest;
struct worker;

/**
 * Switch frames of a guest.
 *
 * @param w the worker that polls the guest
 * @param from the guest
 * @param b a burst of one of its virtqueues
 * @return how many frames are done with, from the first on; the others wait in the virtqueue
 */
uint16_t forward_from_guest(struct worker *w, struct guest *from, struct burst *b);

/**
 * Switch a frame that is an mbuf, in a guest's name. It is used up.
 *
 * @param w the worker that polls the guest
 * @param from a registered guest
 * @param m the frame, of at least an Ethernet header
 */
void forward_mbuf(struct worker *w, struct guest *from, struct rte_mbuf *m);

/**
 * Switch frames of the NIC. They are used up.
 *
 * @param w the worker that polls the queue
 * @param pool_guest device id of the guest whose pool they came from, or GUEST_MAX: of none
 * @param frames the frames
 * @param n how many, at most BURST_MAX
 */
void forward_from_uplink(struct worker *w, uint16_t pool_guest, struct rte_mbuf **frames,
	uint16_t n);

#endif /* SWITCH_FORWARD_H */
