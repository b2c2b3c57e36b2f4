/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUEST_BUFFERS_H
#define GUEST_BUFFERS_H

/**
 * @file
 * How much a guest's receive buffers hold.
 *
 * librte_vhost ends a burst at a frame that it has no room for and does not say why: the ring is
 * full for the moment, or the frame will never fit. The first is a reason to wait, the second one to
 * drop that frame alone. So after a burst that ended early the ring is read here.
 */

#include "guest/guest.h"

/** Why a guest has not taken a frame. */
enum guest_room {
	GUEST_FULL,	/**< it has no buffer, or its ring cannot be read just now */
	GUEST_SHORT,	/**< it has buffers, but fewer than the frame needs */
	GUEST_TOO_LONG, /**< the frame is longer than its buffers, however long it waits */
};

/**
 * Find out why a frame was not taken. It is too long for a guest that does not merge buffers if it is
 * longer than the next one, and for a guest that does if a ring of free buffers is not enough. Called
 * by a worker, which is in a section afterwards.
 *
 * @param g the guest
 * @param section the worker's (direct.h)
 * @param vring index of a receive ring
 * @param len bytes of the frame
 * @return the reason, as the ring is now
 */
enum guest_room guest_room(const struct guest *g, struct direct_section *section, uint16_t vring,
	uint32_t len);

#endif /* GUEST_BUFFERS_H */
