/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NIC82599_NIC_H
#define NIC82599_NIC_H

/**
 * @file
 * A model of the Intel 82599 at the level of its registers and descriptors.
 *
 * "Datasheet" is Intel's 82599 10 GbE Controller Datasheet, 331520. A rule that is marked
 * "(driver)" is not taken from it, but from what DPDK's ixgbe PMD waits for.
 *
 * The register file is an array; every register has a row in registers.h with what happens when
 * it is read and written. nic_read() and nic_write() are called for each access of the driver, so
 * an access is an event, as on the bus: a counter clears when it is read, a write to a tail
 * register has sent the frames when it returns.
 *
 * Threads: whoever touches a struct nic holds its lock. Drivers' threads take it in nic_read() and
 * nic_write(), the wire thread and telemetry (plugin.c) around what they do.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_spinlock.h>

#define NIC_BAR_LEN 0x20000 /* 128 KiB, datasheet 9.3.6.1 */
#define NIC_QUEUES 128
#define NIC_POOLS 64
#define NIC_FRAME_MAX 16128 /* 15.5 KB and what goes with it, datasheet 7.2.1.2 */
#define NIC_GATHERED_MAX (1u << 18) /* what PAYLEN can say, with segmentation, 7.2.3.2.4 */

#include "registers.h"

/** A transmit context: what the last context descriptor of a slot said (datasheet 7.2.3.2.3). */
struct tx_context {
	uint32_t vlan_macip_lens;
	uint32_t type_tucmd;
	uint32_t mss_l4len_idx;
};

/** The card. */
struct nic {
	uint32_t reg[NIC_BAR_LEN / 4];
	rte_spinlock_t lock;
	uint8_t mac[6];	 /**< station address in the EEPROM */
	bool cable;	 /**< whether the link partner is there */
	int irq_fd;	 /**< written to raise the interrupt */
	struct tx_context context[NIC_QUEUES][2];
	uint64_t rx_frames[NIC_QUEUES], tx_frames[NIC_QUEUES]; /**< for people, never cleared */
	uint64_t looped_back;				       /**< the same */
	uint64_t segmented;				       /**< frames cut into segments */
	/** A frame that comes together from its descriptors, and a segment; room for a tag. */
	uint8_t gathered[NIC_GATHERED_MAX + 4], segment[NIC_FRAME_MAX + 4];
	/** Put a frame on the wire. */
	void (*send)(struct nic *nic, const uint8_t *frame, size_t len);
	void *wire; /**< for send() */
};

/** A frame inside the card, before the tag is stripped. */
struct frame {
	const uint8_t *data;
	size_t len;	    /**< without CRC */
	bool tagged;
	uint16_t tci;	    /**< if tagged */
	int source_pool;    /**< that sent it, or -1: from the wire */
};

/** A set of pools, one bit each. */
typedef uint64_t pool_set;

/** @name registers.c: the register file */
/**@{*/
/** Read as the driver does. Aborts the process with a line when there is no such register. */
uint32_t nic_read(struct nic *nic, uint32_t offset);

/** Write as the driver does; aborts likewise. */
void nic_write(struct nic *nic, uint32_t offset, uint32_t value);

/** Set every register to its value after reset. */
void registers_reset(struct nic *nic);

/** Abort with a line that names what is not modelled. */
void not_modelled(const char *what, uint32_t value) __attribute__((noreturn));
/**@}*/

/** @name reset.c: reset, EEPROM, semaphores, MDIO */
/**@{*/
void nic_reset(struct nic *nic);
/**@}*/

/** @name link.c: link state and interrupts */
/**@{*/
/** The cable is plugged in or pulled. */
void link_set(struct nic *nic, bool up);
bool link_is_up(const struct nic *nic);
/** Set causes in EICR and, where they are enabled, interrupt. */
void interrupt(struct nic *nic, uint32_t causes);
/**@}*/

/** @name filter.c: from a frame to pools and queues */
/**@{*/
/** Length, MAC and VLAN filters; counts what it refuses. */
bool filter_accepts(struct nic *nic, const struct frame *f);

/** Which pools a frame is for; with virtualization off, pool 0. */
pool_set filter_pools(struct nic *nic, const struct frame *f);

/** Does a valid receive address match the destination? */
bool filter_exact(const struct nic *nic, const uint8_t *dst);

/** The traffic class, hence the packet buffer, of a frame. */
unsigned int filter_class(const struct nic *nic, const struct frame *f);

/** The receive queue of a pool for a traffic class. */
unsigned int filter_queue(const struct nic *nic, unsigned int pool, unsigned int tc);

/** The pool that a transmit queue belongs to. */
unsigned int filter_tx_pool(const struct nic *nic, unsigned int queue);
/**@}*/

/** @name receive.c: receive path */
/**@{*/
/** A frame comes in, from the wire or (source_pool >= 0) from the card's own transmit side. */
void receive(struct nic *nic, const uint8_t *data, size_t len, int source_pool);
/**@}*/

/** @name transmit.c: transmit DMA and transmit switching */
/**@{*/
/** Work off a transmit queue. */
void transmit(struct nic *nic, unsigned int queue);
/**@}*/

/** @name statistics.c */
/**@{*/
void count_received(struct nic *nic, const struct frame *f);
void count_sent(struct nic *nic, const uint8_t *data, size_t len);
void count_queue_received(struct nic *nic, unsigned int queue, size_t len);
void count_queue_sent(struct nic *nic, unsigned int queue, size_t len);
void count_queue_dropped(struct nic *nic, unsigned int queue);
void count_missed(struct nic *nic, unsigned int tc);
/**@}*/

/** A register by its name in registers.h, i-th of its kind. */
static inline uint32_t
reg(const struct nic *nic, uint32_t name, unsigned int i, unsigned int stride)
{
	return nic->reg[(name + i * stride) / 4];
}

/** The i-th receive queue's register at an offset in its block. Datasheet 8.2.3.8. */
static inline uint32_t *
rxq(struct nic *nic, unsigned int i, uint32_t name)
{
	return &nic->reg[(i < 64 ? name + i * 0x40 : name + 0xc000 + (i - 64) * 0x40) / 4];
}

/** The same of a transmit queue. Datasheet 8.2.3.9. */
static inline uint32_t *
txq(struct nic *nic, unsigned int i, uint32_t name)
{
	return &nic->reg[(name + i * 0x40) / 4];
}

#endif /* NIC82599_NIC_H */
