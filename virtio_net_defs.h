/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VIRTIO_NET_DEFS_H
#define VIRTIO_NET_DEFS_H

/**
 * @file
 * What "Virtual I/O Device (VIRTIO) 1.1" lays down and Linux' headers do not name: lengths and
 * limits of a virtio-net device with split virtqueues.
 */

#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

/** In front of each frame (5.1.6): with num_buffers, and in a legacy device without. */
#define VIRTIO_NET_HDR_LEN sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define VIRTIO_NET_HDR_LEN_LEGACY sizeof(struct virtio_net_hdr)

/** Largest number of entries of a split virtqueue (2.6). */
#define VIRTQUEUE_SIZE_MAX 32768

/**
 * @name What the virtio-net header of a frame asks for, as bits (5.1.6.2).
 * Or what a driver may ask for, or who receives the frame can do. Segmentation and ECN ask for a
 * checksum too.
 */
/**@{*/
#define OFFLOAD_CSUM 1 /**< fill in a checksum */
#define OFFLOAD_TSO4 2 /**< cut TCP over IPv4 into segments */
#define OFFLOAD_TSO6 4 /**< the same over IPv6 */
#define OFFLOAD_ECN 8  /**< and of these only the first has CWR (RFC 3168, 6.1.2) */
/**@}*/

#endif /* VIRTIO_NET_DEFS_H */
