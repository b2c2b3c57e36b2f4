/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_DIRECT_H
#define SWITCH_DIRECT_H

/**
 * @file
 * The direct path: a frame copied once, from the sender's buffer into the receiver's.
 *
 * It is for what guests mostly do: unicast from one registered guest to another, with nothing
 * asked for in the virtio-net header. Everything else, and everything that does not look as it should, is
 * left at the head of the transmit ring for the ordinary path (librte_vhost and mbufs), which
 * decides again and counts as ever. So this path needs no answer of its own to rare questions:
 * who is not known, floods, offloads, a receiver that is to be waited for.
 *
 * Order within a flow is kept because a frame is copied directly only when the worker holds no
 * frame for that receiver back in a batch.
 *
 * Guests are not trusted. Of each descriptor and of each destination address one reading is used,
 * and what a decision rested on is what the receiver gets. Every address is looked up in the memory
 * table of the guest that gave it. A guest that breaks the rules of its virtqueues (an index or
 * address out of range, a loop) is switched off: logged once, no longer polled or fed.
 */

#include "switch/worker.h"

/**
 * Frames taken at once, shown to their receivers together. More than a burst of librte_vhost's, as
 * there is no mbuf behind them, and each time costs a memory fence and lines that drivers poll.
 */
#define DIRECT_BURST 128

/**
 * Take a burst from a transmit ring and copy what can be copied directly.
 *
 * @param w the worker that polls the guest; in a section afterwards (guest/direct.h)
 * @param from the guest
 * @param pair queue pair
 * @param[out] ordinary whether the ordinary path is to take a burst now
 * @return frames that are done with
 */
uint32_t direct_poll(struct worker *w, struct guest *from, uint16_t pair, bool *ordinary);

/**
 * Disable a guest that breaks the rules of its virtqueues, and have that logged once. Called by a worker.
 *
 * @param w the worker
 * @param g the guest
 * @param report GUEST_REPORT_BROKEN_TRANSMIT or GUEST_REPORT_BROKEN_RECEIVE
 */
void direct_switch_off(struct worker *w, struct guest *g, enum guest_report report);

/**
 * Why a guest takes no part in the direct path. Any thread.
 *
 * @param g the guest
 * @return the first reason there is, DIRECT_BAR_NONE: it takes part
 */
enum direct_bar direct_bar_of(const struct guest *g);

#endif /* SWITCH_DIRECT_H */
