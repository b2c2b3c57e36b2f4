/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_FORWARD_H
#define SWITCH_FORWARD_H

/**
 * @file
 * Where a burst goes: one decision for each run of frames with the same destination. All functions
 * are a worker's.
 */

#include "stats/counters.h"
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

/** forward_from_guest() for a guest of a named port (forward_port.c). */
uint16_t forward_from_port(struct worker *w, struct guest *from, struct burst *b);

/** Whether a named port limits what its guest may send. */
bool forward_is_limited(const struct port_rules *rules);

/** Whether a guest of a named port may send now, by its limits. */
bool forward_may_poll_port(struct guest *from);

/** Leave frames of a guest with a limit in the virtqueue, but for what may be sent at once. */
void forward_limit_burst(struct burst *b);

/** Note what a guest with a limit has sent: the first frames of a burst. */
void forward_charge(struct guest *from, const struct burst *b, uint16_t n);

/**
 * Send what a front end announces of its guest, which has a named port. It is used up, and dropped
 * if the guest itself may not send it.
 *
 * @param w the worker that polls the guest
 * @param from the guest
 * @param m the frame, of at least an Ethernet header, without a tag
 */
void forward_announcement(struct worker *w, struct guest *from, struct rte_mbuf *m);

/**
 * See the source of a frame of a named port, and learn it.
 *
 * @param w the worker that polls the guest
 * @param g the guest
 * @param rules its port's
 * @param key domain and source
 * @param[out] unlearned true if there was no room to learn a source that the guest may use; else it
 *	stays as it is. The caller counts the frame as fdb_full
 * @return why the guest may not send from it, TX_DROP_MAX: it may
 */
enum tx_drop classify_source(struct worker *w, struct guest *g, const struct port_rules *rules,
	uint64_t key, bool *unlearned);

/**
 * Count the frames of a named port's burst whose sources there was no room for.
 *
 * @param b the burst
 * @param end the first frame that is not done with
 */
void classify_count_unlearned(const struct burst *b, uint16_t end);

/**
 * Whom a frame from the NIC is for, if its domain has a named port. A flooded frame is used up.
 *
 * @param w the worker that polls the queue
 * @param m the frame, of at least an Ethernet header; made what the guest is to see
 * @param[out] why UPLINK_DROP_MAX if the frame is used up, or why it is dropped
 * @return the guest, NULL: see why
 */
struct guest *forward_accept_for_port(struct worker *w, struct rte_mbuf **m,
	enum uplink_drop *why);

/** Why a frame of a guest or of the uplink cannot go to a port. */
struct refusal {
	enum rx_drop rx; /**< RX_DROP_MAX: it can */
	enum tx_drop tx;
};

/**
 * Whether a frame may go to a port: its link is up, and there is room in its limit, which is taken.
 *
 * @param to the port's guest
 * @param theirs the port's rules
 * @param len bytes of the frame
 */
struct refusal forward_refusal(struct guest *to, const struct port_rules *theirs, uint32_t len);

/**
 * Copy a frame that is an mbuf to the ports of its domain.
 *
 * @param w the worker
 * @param from the sender, NULL: the uplink
 * @param m the frame, without a tag
 * @param domain its domain
 * @param priority what a tag that it gets says besides, as in TCI
 * @param unknown nobody has its destination
 * @return how many ports these were
 */
unsigned int forward_copies_to_domain(struct worker *w, const struct guest *from,
	const struct rte_mbuf *m, uint16_t domain, uint16_t priority, bool unknown);

/** The domain of a frame from the NIC. */
uint16_t forward_uplink_domain(const struct rte_mbuf *m);

/** Copy a run of frames to the NIC, as many as there are. Returns how many these were. */
uint16_t forward_run_to_uplink(struct worker *w, const struct guest *from, uint16_t vlan,
	struct burst *b, const struct run *run);

/**
 * Whether frames have to be finished on their way: those that ask for what a receiver does not
 * accept, or for what some receivers of a flood may not.
 *
 * @param key of the frames
 * @param to the receiver, NULL: a flood
 */
bool forward_must_finish(uint64_t key, const struct guest *to);

/**
 * Make an mbuf of a frame that is to be finished.
 *
 * @param w the worker
 * @param from the sender
 * @param b the burst
 * @param i the frame, which asks for something
 * @return the mbuf in the sender's name, NULL: the frame is dropped and counted
 */
struct rte_mbuf *forward_copy_unfinished(struct worker *w, const struct guest *from,
	struct burst *b, uint16_t i);

/**
 * Copy a run of frames to a port with a limit on what it is sent. What is over it is dropped.
 *
 * @param w the worker
 * @param from the sender, NULL for a flood, whose sender does not lose it
 * @param to the port's guest
 * @param b the burst
 * @param run frames of it, in the port's form
 * @return how many are done with
 */
uint16_t forward_limited_run(struct worker *w, const struct guest *from, struct guest *to,
	struct burst *b, const struct run *run);

/** Drop a run of frames for one reason. Returns how many these were. */
uint16_t forward_drop_run(struct worker *w, const struct guest *from, struct burst *b,
	const struct run *run, enum tx_drop why);

/** Drop a run of frames of CODE_DROP, each for its own reason. Returns how many these were. */
uint16_t forward_drop_marked(struct worker *w, const struct guest *from, struct burst *b,
	const struct run *run);

/** Send a frame of a named port to the NIC, with its domain's tag or none. It is used up. */
void forward_to_uplink_in_domain(struct worker *w, uint16_t domain, struct rte_mbuf *m);

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
 * @param pool_guest device id of the guest whose pool they came from, or ID_MAX: of none
 * @param frames the frames
 * @param n how many, at most BURST_MAX
 */
void forward_from_uplink(struct worker *w, uint16_t pool_guest, struct rte_mbuf **frames,
	uint16_t n);

#endif /* SWITCH_FORWARD_H */
