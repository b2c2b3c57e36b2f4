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

/** What the device side offers and a driver may then ask for in the header of a frame it sends. */
#define VIRTIO_NET_HOST_OFFLOADS                                                                   \
	((UINT64_C(1) << VIRTIO_NET_F_CSUM) | (UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4) |            \
		(UINT64_C(1) << VIRTIO_NET_F_HOST_TSO6) | (UINT64_C(1) << VIRTIO_NET_F_HOST_ECN) | \
		(UINT64_C(1) << VIRTIO_NET_F_HOST_UFO))

/**
 * Descriptors of a chain that librte_vhost follows at most (BUF_VECTOR_MAX in lib/vhost/vhost.h).
 */
#define VHOST_CHAIN_MAX 256

#endif /* VIRTIO_NET_DEFS_H */
