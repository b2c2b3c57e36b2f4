/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SWITCH_SCATTER_H
#define SWITCH_SCATTER_H

/**
 * @file
 * Frames into buffers of any shape: chains of descriptors, and several buffers for one frame.
 */

#include "switch/burst.h"

/**
 * Copy a frame into as many buffers as it needs. Called by a worker, under the virtqueue's lock.
 *
 * @param d the receiver's device, not paused
 * @param vq its virtqueue
 * @param b the burst
 * @param i the frame
 * @param run the frame's
 * @param available buffers that there are, of a split virtqueue
 * @param[out] entries of the virtqueue that were used
 * @return VRING_OK, or why nothing was written
 */
enum vring_status scatter_frame(const struct device *d, struct virtqueue *vq, struct burst *b,
	uint16_t i, const struct run *run, uint16_t available, uint16_t *entries);

#endif /* SWITCH_SCATTER_H */
