/* SPDX-License-Identifier: BSD-3-Clause */
/* The receive path: datasheet 7.1. */
#include <string.h>

#include <rte_byteorder.h>

#include "nic.h"

/* 7.1.6: advanced receive descriptor, as software writes it and as the card writes it back. */
struct rx_desc {
	uint64_t addr;	 /* back: RSS type, packet type, header length, RSS hash: all 0 here */
	uint64_t header; /* back: status and error 31:0, length 47:32, VLAN tag 63:48 */
};
_Static_assert(sizeof(struct rx_desc) == 16, "datasheet 7.1.6");

#define RX_STATUS_DD UINT64_C(0x1)
#define RX_STATUS_EOP UINT64_C(0x2)
#define RX_STATUS_VP UINT64_C(0x8)
#define RX_STATUS_LB UINT64_C(0x40000)

static struct rx_desc *
rx_ring(struct nic *nic, unsigned int queue)
{
	uint64_t base = *rxq(nic, queue, RDBAL) | (uint64_t)*rxq(nic, queue, RDBAH) << 32;

	return (struct rx_desc *)(uintptr_t)base;
}

static uint32_t
buffer_size(struct nic *nic, unsigned int queue)
{
	uint32_t srrctl = *rxq(nic, queue, SRRCTL);

	if ((srrctl & SRRCTL_DESCTYPE) != SRRCTL_DESCTYPE_ADV_ONE)
		not_modelled("SRRCTL.DESCTYPE", srrctl);
	return (srrctl & SRRCTL_BSIZEPACKET) * 1024;
}

/* 7.1.9: the card owns descriptors from head up to, not including, tail. */
static uint32_t
free_descriptors(struct nic *nic, unsigned int queue)
{
	uint32_t n = *rxq(nic, queue, RDLEN) / sizeof(struct rx_desc);

	return n == 0 ? 0 : (*rxq(nic, queue, RDT) + n - *rxq(nic, queue, RDH)) % n;
}

/*
 * Write a frame into the buffers of a queue. The half of a descriptor that has the DD bit is
 * written last, in release order: the driver may read it at any time.
 */
static void
fill(struct nic *nic, unsigned int queue, const struct frame *f, bool strip)
{
	struct rx_desc *ring = rx_ring(nic, queue);
	uint32_t size = buffer_size(nic, queue);
	uint32_t n = *rxq(nic, queue, RDLEN) / sizeof(struct rx_desc);
	uint32_t *head = rxq(nic, queue, RDH);
	const uint8_t *data = f->data;
	uint64_t status = RX_STATUS_DD;
	size_t left = f->len;
	uint8_t bare[NIC_FRAME_MAX];

	if (strip) {
		memcpy(bare, data, 12);
		memcpy(bare + 12, data + 16, left - 16);
		data = bare;
		left -= 4;
		status |= RX_STATUS_VP;
	}
	if (f->source_pool >= 0)
		status |= RX_STATUS_LB;
	while (left > 0) {
		struct rx_desc *desc = &ring[*head];
		uint32_t now = left < size ? (uint32_t)left : size;
		uint64_t back = status | (uint64_t)now << 32 |
			(uint64_t)(strip ? f->tci : 0) << 48;

		memcpy((void *)(uintptr_t)desc->addr, data, now);
		data += now;
		left -= now;
		desc->addr = 0;
		__atomic_store_n(&desc->header, back | (left == 0 ? RX_STATUS_EOP : 0),
			__ATOMIC_RELEASE);
		*head = (*head + 1) % n;
	}
}

/* One copy of a frame, for one queue. 7.4: a tag is stripped where the queue's VME says so. */
static void
store(struct nic *nic, unsigned int queue, unsigned int tc, const struct frame *f)
{
	uint32_t rxdctl = *rxq(nic, queue, RXDCTL);
	bool strip = f->tagged && (rxdctl & RXDCTL_VME);
	uint32_t size, needed;

	if (!(rxdctl & RXDCTL_ENABLE)) {
		count_missed(nic, tc);
		return;
	}
	size = buffer_size(nic, queue);
	needed = (uint32_t)((f->len - (strip ? 4 : 0) + size - 1) / size);
	if (free_descriptors(nic, queue) < needed) {
		/* Without Drop_En the queue would stop its packet buffer: that is not modelled. */
		if (*rxq(nic, queue, SRRCTL) & SRRCTL_DROP_EN)
			count_queue_dropped(nic, queue);
		else
			count_missed(nic, tc);
		return;
	}
	fill(nic, queue, f, strip);
	count_queue_received(nic, queue, f->len);
}

void
receive(struct nic *nic, const uint8_t *data, size_t len, int source_pool)
{
	struct frame f = { .data = data, .len = len, .source_pool = source_pool };
	uint16_t ethertype, tci;
	pool_set pools;
	unsigned int tc;

	if (!(nic->reg[RXCTRL / 4] & RXCTRL_RXEN) || !link_is_up(nic) || len < 14)
		return;
	memcpy(&ethertype, data + 12, 2);
	/* 8.2.3.7, VLNCTRL.VET: which Ethertype is a tag. */
	if (len >= 18 && rte_be_to_cpu_16(ethertype) == (nic->reg[VLNCTRL / 4] & 0xffff)) {
		f.tagged = true;
		memcpy(&tci, data + 14, 2);
		f.tci = rte_be_to_cpu_16(tci);
	}
	if (!filter_accepts(nic, &f))
		return;
	if (source_pool < 0)
		count_received(nic, &f);
	tc = filter_class(nic, &f);
	/*
	 * A traffic class has its packet buffer (8.2.3.8, RXPBSIZE). With virtualization and 4
	 * classes, buffers 4 to 7 have size 0: a priority that RTRUP2TC sends there finds no room.
	 */
	if ((nic->reg[RXPBSIZE / 4 + tc] >> 10 & 0x3ff) == 0) {
		count_missed(nic, tc);
		return;
	}
	for (pools = filter_pools(nic, &f); pools != 0; pools &= pools - 1)
		store(nic, filter_queue(nic, (unsigned int)__builtin_ctzll(pools), tc), tc, &f);
}
