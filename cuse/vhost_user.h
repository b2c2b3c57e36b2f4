/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CUSE_VHOST_USER_H
#define CUSE_VHOST_USER_H

/**
 * @file
 * The messages of the vhost-user protocol that the translator sends; QEMU's vhost-user
 * specification, "Message Specification" and "Front-end message types".
 */

#include <stdint.h>

#include <linux/vhost_types.h>

#include "cuse/memory.h"

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_SET_VRING_ENABLE = 18,
};

#define VHOST_USER_VERSION 0x1
#define VHOST_USER_REPLY 0x4
#define VHOST_USER_NEED_REPLY 0x8

/** In the index of KICK, CALL and ERR: no descriptor comes with it. */
#define VHOST_USER_NO_FD 0x100

#define VHOST_USER_F_PROTOCOL_FEATURES 30
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3

struct vhost_user_memory {
	uint32_t nregions;
	uint32_t padding;
	struct {
		uint64_t guest_address;
		uint64_t size;
		uint64_t user_address;
		uint64_t mmap_offset;
	} region[MEMORY_PIECES_MAX];
};

union vhost_user_payload {
	uint64_t u64;
	struct vhost_vring_state state;
	struct vhost_vring_addr address;
	struct vhost_user_memory memory;
};

struct vhost_user_message {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload */
	union vhost_user_payload payload;
} __attribute__((packed));

#define VHOST_USER_HEADER offsetof(struct vhost_user_message, payload)

#endif /* CUSE_VHOST_USER_H */
