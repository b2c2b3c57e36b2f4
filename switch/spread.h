/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_SPREAD_H
#define SWITCH_SPREAD_H

/**
 * @file
 * Which receive virtqueue of a guest a frame goes to: always the same for the frames of a flow, so
 * that they stay in order. All functions are a worker's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "switch/burst.h"

/** The receive virtqueues of a device that flows are spread over. */
struct spread {
	uint16_t n;
	uint16_t vring[QUEUE_PAIR_MAX];
};

/**
 * Which these are at the moment.
 *
 * @param d the device, not paused
 * @param[out] s none: n is 0
 */
void spread_over(const struct device *d, struct spread *s);

/**
 * The virtqueue for a frame.
 *
 * @param s of at least one
 * @param b the burst
 * @param i the frame
 * @return which of s->vring[]
 */
uint16_t spread_choose(const struct spread *s, struct burst *b, uint16_t i);

/**
 * The receive virtqueue for a frame, by its flow if there are several.
 *
 * @param d the guest's device
 * @param b the burst
 * @param i the frame
 * @return index of a virtqueue, RINGS_MAX if none is running
 */
uint16_t spread_find_vring(const struct device *d, struct burst *b, uint16_t i);

/** Whether a guest has several receive virtqueues, for its flows to be spread over. */
bool spread_has_several(const struct device *d);

/**
 * Whether a receive virtqueue runs. One that was chosen for a frame may have been disabled since,
 * if the device was paused at the time.
 *
 * @param d the guest's device, not paused
 * @param vring its index, or RINGS_MAX
 */
static inline bool
spread_is_running(const struct device *d, uint16_t vring)
{
	return vring < RINGS_MAX && (__atomic_load_n(&d->rx[vring / 128], __ATOMIC_RELAXED) >>
		(vring / 2 % 64) & 1);
}

#endif /* SWITCH_SPREAD_H */
