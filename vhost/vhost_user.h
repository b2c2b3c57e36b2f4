/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_VHOST_USER_H
#define VHOST_VHOST_USER_H

/**
 * @file
 * The messages of the vhost-user protocol, as far as this program reads or sends them; QEMU's
 * vhost-user specification, "Message Specification" and "Front-end message types".
 */

#include <stddef.h>
#include <stdint.h>

#include <linux/vhost_types.h>

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_LOG_BASE = 6,
	VHOST_USER_SET_LOG_FD = 7,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SEND_RARP = 19,
	VHOST_USER_NET_SET_MTU = 20,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
};

#define VHOST_USER_VERSION 0x1
#define VHOST_USER_REPLY 0x4
#define VHOST_USER_NEED_REPLY 0x8

/** In the number of KICK, CALL and ERR: the virtqueue, and that no descriptor comes with it. */
#define VHOST_USER_VRING 0xff
#define VHOST_USER_NO_FD 0x100

/** In the number of SEND_RARP: the MAC address, its first byte the lowest. */
#define VHOST_USER_MAC_MASK UINT64_C(0xffffffffffff)

#define VHOST_USER_F_PROTOCOL_FEATURES 30

/** @name Protocol features: bits of SET_PROTOCOL_FEATURES. */
/**@{*/
#define VHOST_USER_PROTOCOL_F_MQ 0
#define VHOST_USER_PROTOCOL_F_LOG_SHMFD 1
#define VHOST_USER_PROTOCOL_F_RARP 2
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_F_NET_MTU 4
#define VHOST_USER_PROTOCOL_F_STATUS 16
/**@}*/

/** Regions in one SET_MEM_TABLE ("Memory regions description"). */
#define VHOST_USER_REGIONS_MAX 8

struct vhost_user_region {
	uint64_t guest_address;
	uint64_t size;
	uint64_t user_address;
	uint64_t mmap_offset;
};

struct vhost_user_memory {
	uint32_t nregions;
	uint32_t padding;
	struct vhost_user_region region[VHOST_USER_REGIONS_MAX];
};

struct vhost_user_log {
	uint64_t size;
	uint64_t offset;
};

union vhost_user_payload {
	uint64_t u64;
	struct vhost_vring_state state;
	struct vhost_vring_addr address;
	struct vhost_user_memory memory;
	struct vhost_user_log log;
};

struct vhost_user_message {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload */
	union vhost_user_payload payload;
} __attribute__((packed));

#define VHOST_USER_HEADER offsetof(struct vhost_user_message, payload)

/**
 * What librte_vhost hands to a message's callbacks: struct vhu_msg_context of its vhost_user.h,
 * which keeps its layout for their sake. The payload is as long as the longest, that of a crypto
 * session.
 */
struct vhost_user_context {
	struct {
		uint32_t request;
		uint32_t flags;
		uint32_t size;
		union {
			union vhost_user_payload payload;
			uint8_t longest[632];
		};
	} __attribute__((packed)) message;
	int fds[VHOST_USER_REGIONS_MAX];
	int nb_fds;
} __attribute__((packed));

#endif /* VHOST_VHOST_USER_H */
