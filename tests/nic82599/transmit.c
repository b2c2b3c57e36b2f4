/* SPDX-License-Identifier: BSD-3-Clause */
/* Transmit DMA and transmit switching: datasheet 7.2 and 7.10.3.4. */
#include <string.h>

#include <rte_byteorder.h>

#include "nic.h"
#include "segment.h"

/* 7.2.3.2: advanced transmit descriptors, data and context. */
struct tx_desc {
	uint64_t addr;
	uint32_t cmd_type_len;
	uint32_t olinfo_status;
};
_Static_assert(sizeof(struct tx_desc) == 16, "datasheet 7.2.3.2");

#define TX_DTYP 0x00f00000u
#define TX_DTYP_CONTEXT 0x00200000u
#define TX_DTYP_DATA 0x00300000u
#define TX_CMD_EOP 0x01000000u
#define TX_CMD_RS 0x08000000u
#define TX_CMD_DEXT 0x20000000u
#define TX_CMD_VLE 0x40000000u
#define TX_CMD_TSE 0x80000000u
#define TX_LENGTH 0x0000ffffu
#define TX_STATUS_DD 0x00000001u
#define TX_POPTS_IXSM 0x00000100u
#define TX_POPTS_TXSM 0x00000200u
#define TX_PAYLEN_SHIFT 14
#define TUCMD_IPV4 0x00000400u
#define TUCMD_L4T 0x00001800u
#define TUCMD_L4T_TCP 0x00000800u

/* Lengths in a context, 7.2.3.2.3. */
#define MACLEN(c) ((c)->vlan_macip_lens >> 9 & 0x7f)
#define IPLEN(c) ((c)->vlan_macip_lens & 0x1ff)
#define L4LEN(c) ((c)->mss_l4len_idx >> 8 & 0xff)
#define MSS(c) ((c)->mss_l4len_idx >> 16)

static struct tx_desc *
tx_ring(struct nic *nic, unsigned int queue)
{
	uint64_t base = *txq(nic, queue, TDBAL) | (uint64_t)*txq(nic, queue, TDBAH) << 32;

	return (struct tx_desc *)(uintptr_t)base;
}

static void
store_context(struct nic *nic, unsigned int queue, const struct tx_desc *desc)
{
	const uint32_t *word = (const uint32_t *)(const void *)desc;
	struct tx_context *c = &nic->context[queue][word[3] >> 4 & 1];

	c->vlan_macip_lens = word[0];
	c->type_tucmd = word[2];
	c->mss_l4len_idx = word[3];
}

/*
 * 7.2.5, checksum offload: software has put the sum of the pseudo-header into the L4 checksum
 * field, the card sums up from there to the end of the frame.
 */
static void
insert_checksums(const struct tx_context *c, uint32_t olinfo, uint8_t *frame, size_t len)
{
	size_t l3 = MACLEN(c), l4 = l3 + IPLEN(c), field;

	if (olinfo & TX_POPTS_IXSM) {
		memset(frame + l3 + 10, 0, 2);
		checksum_put(checksum_add(0, frame + l3, l4 - l3), frame + l3 + 10);
	}
	if (olinfo & TX_POPTS_TXSM) {
		field = l4 + ((c->type_tucmd & TUCMD_L4T) == TUCMD_L4T_TCP ? 16 : 6);
		checksum_put(checksum_add(0, frame + l4, len - l4), frame + field);
	}
}

/* 7.4.3: the tag of the context goes after the addresses. Returns the new length. */
static size_t
insert_tag(const struct nic *nic, const struct tx_context *c, uint8_t *frame, size_t len)
{
	/* 8.2.3.9, DMATXCTL.VT: the Ethertype of a tag. */
	uint16_t tag[2] = { rte_cpu_to_be_16((uint16_t)(nic->reg[DMATXCTL / 4] >> 16)),
		rte_cpu_to_be_16((uint16_t)(c->vlan_macip_lens >> 16)) };

	memmove(frame + 16, frame + 12, len - 12);
	memcpy(frame + 12, tag, 4);
	return len + 4;
}

/*
 * 7.10.3.4: with loopback on, a frame goes to the pools that it is for. To the wire goes what is
 * broadcast or multicast, and unicast that no exact address filter knows. The MAC pads a short
 * frame on the wire (HLREG0.TXPADEN); the switch comes before the MAC, so what is looped back is
 * as long as it was (the datasheet does not say so outright).
 */
static void
switch_frame(struct nic *nic, unsigned int pool, const uint8_t *frame, size_t len)
{
	bool local = (nic->reg[PFDTXGSWC / 4] & PFDTXGSWC_LBEN) &&
		(nic->reg[PFVTCTL / 4] & PFVTCTL_VT_ENA);
	uint8_t padded[60] = { 0 };

	if (local) {
		nic->looped_back++;
		receive(nic, frame, len, (int)pool);
		if (!(frame[0] & 1) && filter_exact(nic, frame))
			return;
	}
	if (len < sizeof(padded)) {
		memcpy(padded, frame, len);
		frame = padded;
		len = sizeof(padded);
	}
	count_sent(nic, frame, len);
	nic->send(nic, frame, len);
}

/* A frame as it leaves the transmit queue, but for its tag. It has room for one. */
static void
finish(struct nic *nic, unsigned int queue, const struct tx_desc *first, uint8_t *frame, size_t len)
{
	const struct tx_context *c = &nic->context[queue][first->olinfo_status >> 4 & 1];

	if (first->cmd_type_len & TX_CMD_VLE)
		len = insert_tag(nic, c, frame, len);
	count_queue_sent(nic, queue, len);
	switch_frame(nic, filter_tx_pool(nic, queue), frame, len);
}

/* 7.2.4, TCP segmentation: what has been gathered becomes as many frames as its MSS makes of it. */
static void
finish_segments(struct nic *nic, unsigned int queue, const struct tx_desc *first, size_t len)
{
	const struct tx_context *c = &nic->context[queue][first->olinfo_status >> 4 & 1];
	const struct segmentation s = {
		.mac = MACLEN(c),
		.ip = IPLEN(c),
		.tcp = L4LEN(c),
		.mss = MSS(c),
		.is_ipv4 = c->type_tucmd & TUCMD_IPV4,
		.first_flags = nic->reg[DTXTCPFLGL / 4] & 0xfff,
		.middle_flags = nic->reg[DTXTCPFLGL / 4] >> 16 & 0xfff,
		.last_flags = nic->reg[DTXTCPFLGH / 4] & 0xfff,
	};
	size_t headers = s.mac + s.ip + s.tcp, i, n;

	if ((c->type_tucmd & TUCMD_L4T) != TUCMD_L4T_TCP)
		not_modelled("segmentation of what is not TCP", c->type_tucmd);
	/* 7.2.4.2, what software has to set; PAYLEN is without headers then (7.2.3.2.4). */
	if (!(first->olinfo_status & TX_POPTS_TXSM) ||
			(s.is_ipv4 && !(first->olinfo_status & TX_POPTS_IXSM)))
		not_modelled("segmentation without checksums", first->olinfo_status);
	if (s.mac < 14 || s.ip < (s.is_ipv4 ? 20 : 40) || s.tcp < 20 || s.mss == 0 ||
			headers + s.mss > NIC_FRAME_MAX ||
			len != headers + (first->olinfo_status >> TX_PAYLEN_SHIFT))
		not_modelled("segmentation with lengths that do not fit the frame",
			c->mss_l4len_idx);
	for (i = 0; (n = segment(&s, nic->gathered, len, i, nic->segment)) > 0; i++)
		finish(nic, queue, first, nic->segment, n);
	nic->segmented++;
}

/* All descriptors of a frame have been gathered. */
static void
finish_gathered(struct nic *nic, unsigned int queue, const struct tx_desc *first, size_t len)
{
	const struct tx_context *c = &nic->context[queue][first->olinfo_status >> 4 & 1];
	unsigned int pool = filter_tx_pool(nic, queue);

	/* 8.2.3.27: a pool sends only if PFVFTE lets it. */
	if ((nic->reg[MTQC / 4] & MTQC_VT_ENA) &&
			!(nic->reg[PFVFTE / 4 + pool / 32] >> (pool & 31) & 1))
		return;
	if (first->cmd_type_len & TX_CMD_TSE) {
		finish_segments(nic, queue, first, len);
		return;
	}
	if (len > NIC_FRAME_MAX)
		not_modelled("a frame longer than 15.5 KB", (uint32_t)len);
	if (first->olinfo_status & (TX_POPTS_IXSM | TX_POPTS_TXSM))
		insert_checksums(c, first->olinfo_status, nic->gathered, len);
	finish(nic, queue, first, nic->gathered, len);
}

/*
 * 7.2.3: descriptors from head up to tail. While the link is down they stay where they are. DD is
 * written back for those that ask for it, 7.2.3.5.
 */
void
transmit(struct nic *nic, unsigned int queue)
{
	uint32_t n = *txq(nic, queue, TDLEN) / sizeof(struct tx_desc);
	uint32_t *head = txq(nic, queue, TDH);
	struct tx_desc *ring = tx_ring(nic, queue);
	struct tx_desc first = { 0 };
	size_t len = 0;

	if (!(*txq(nic, queue, TXDCTL) & TXDCTL_ENABLE) || n == 0 ||
			!(nic->reg[DMATXCTL / 4] & DMATXCTL_TE) || !link_is_up(nic))
		return;
	while (*head != *txq(nic, queue, TDT)) {
		struct tx_desc *desc = &ring[*head];
		uint32_t cmd = desc->cmd_type_len;

		*head = (*head + 1) % n;
		if (!(cmd & TX_CMD_DEXT))
			not_modelled("a legacy transmit descriptor", cmd);
		if ((cmd & TX_DTYP) == TX_DTYP_CONTEXT) {
			store_context(nic, queue, desc);
		} else if ((cmd & TX_DTYP) == TX_DTYP_DATA) {
			if (len == 0)
				first = *desc;
			if (len + (cmd & TX_LENGTH) > NIC_GATHERED_MAX)
				not_modelled("a frame longer than 256 KB", (uint32_t)len);
			memcpy(nic->gathered + len, (void *)(uintptr_t)desc->addr,
				cmd & TX_LENGTH);
			len += cmd & TX_LENGTH;
			if (cmd & TX_CMD_EOP) {
				finish_gathered(nic, queue, &first, len);
				len = 0;
			}
		} else {
			not_modelled("a transmit descriptor's type", cmd);
		}
		if (cmd & TX_CMD_RS)
			__atomic_store_n(&desc->olinfo_status, TX_STATUS_DD, __ATOMIC_RELEASE);
	}
	if (len != 0)
		not_modelled("a tail in the middle of a frame", *txq(nic, queue, TDT));
}
