/* SPDX-License-Identifier: BSD-3-Clause */
/* From a frame to pools and queues: datasheet 7.1.1, 7.1.2 and 7.10.3. */
#include <string.h>

#include "nic.h"

static bool
is_broadcast(const uint8_t *mac)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	return memcmp(mac, all, 6) == 0;
}

static bool
is_multicast(const uint8_t *mac)
{
	return mac[0] & 1;
}

/* 8.2.3.7: does receive address i hold this MAC? */
static bool
address_matches(const struct nic *nic, unsigned int i, const uint8_t *mac)
{
	uint32_t low, high = 0;

	memcpy(&low, mac, 4);
	memcpy(&high, mac + 4, 2);
	return reg(nic, RAL, i, 8) == low && reg(nic, RAH, i, 8) == (high | RAH_AV);
}

bool
filter_exact(const struct nic *nic, const uint8_t *dst)
{
	unsigned int i;

	for (i = 0; i < 128; i++) {
		if (address_matches(nic, i, dst))
			return true;
	}
	return false;
}

/* 8.2.3.7, MTA and PFUTA: 12 of the last 16 bits of the address, which 12 says MCSTCTRL.MO. */
static bool
hash_matches(const struct nic *nic, enum register_name table, const uint8_t *mac)
{
	static const unsigned int shift[4] = { 4, 3, 2, 0 };
	uint32_t last = (uint32_t)mac[4] | (uint32_t)mac[5] << 8;
	uint32_t hash = last >> shift[nic->reg[MCSTCTRL / 4] & 3] & 0xfff;

	return reg(nic, table, hash >> 5, 4) >> (hash & 31) & 1;
}

/* 7.1.1.1 MAC address filtering. */
static bool
mac_passes(const struct nic *nic, const uint8_t *dst)
{
	uint32_t fctrl = nic->reg[FCTRL / 4];

	if (is_broadcast(dst))
		return fctrl & FCTRL_BAM;
	if (filter_exact(nic, dst))
		return true;
	if (is_multicast(dst))
		return (fctrl & FCTRL_MPE) || ((nic->reg[MCSTCTRL / 4] & MCSTCTRL_MFE) &&
			hash_matches(nic, MTA, dst));
	return (fctrl & FCTRL_UPE) || hash_matches(nic, PFUTA, dst);
}

/* 7.1.1.2 VLAN filtering: where it is on, a tag has to be in the table. */
static bool
vlan_passes(const struct nic *nic, const struct frame *f)
{
	uint32_t vid = f->tci & 0xfff;

	if (!f->tagged || !(nic->reg[VLNCTRL / 4] & VLNCTRL_VFE))
		return true;
	return reg(nic, VFTA, vid >> 5, 4) >> (vid & 31) & 1;
}

/* 8.2.3.22: MAXFRS counts from the MAC address to the CRC; a tag comes on top. */
static bool
length_passes(const struct nic *nic, const struct frame *f)
{
	size_t max = 1518;

	if (nic->reg[HLREG0 / 4] & HLREG0_JUMBOEN)
		max = nic->reg[MAXFRS / 4] >> 16;
	return f->len + 4 <= max + (f->tagged ? 4 : 0);
}

bool
filter_accepts(struct nic *nic, const struct frame *f)
{
	if (!length_passes(nic, f)) {
		nic->reg[ROC / 4]++;
		return false;
	}
	return mac_passes(nic, f->data) && vlan_passes(nic, f);
}

/* PFVML2FLT bits of all pools, as a set of those that have one of them. */
static pool_set
pools_with(const struct nic *nic, uint32_t bit)
{
	pool_set pools = 0;
	unsigned int i;

	for (i = 0; i < NIC_POOLS; i++) {
		if (reg(nic, PFVML2FLT, i, 4) & bit)
			pools |= UINT64_C(1) << i;
	}
	return pools;
}

static pool_set
pair(const struct nic *nic, enum register_name name, unsigned int i)
{
	return reg(nic, name, 2 * i, 4) | (pool_set)reg(nic, name, 2 * i + 1, 4) << 32;
}

/* 7.10.3.3, the steps on the MAC address. */
static pool_set
pools_by_mac(const struct nic *nic, const uint8_t *dst)
{
	pool_set pools = 0;
	unsigned int i;

	if (is_broadcast(dst))
		return pools_with(nic, PFVML2FLT_BAM);
	for (i = 0; i < 128; i++) {
		if (address_matches(nic, i, dst))
			pools |= reg(nic, MPSAR_LO, i, 8) |
				(pool_set)reg(nic, MPSAR_HI, i, 8) << 32;
	}
	if (is_multicast(dst)) {
		if (pools == 0 && hash_matches(nic, MTA, dst))
			pools |= pools_with(nic, PFVML2FLT_ROMPE);
		pools |= pools_with(nic, PFVML2FLT_MPE);
	} else if (pools == 0 && hash_matches(nic, PFUTA, dst)) {
		pools |= pools_with(nic, PFVML2FLT_ROPE);
	}
	return pools;
}

/* 7.10.3.3, the step on the VLAN: the pools of the tag's VLAN, or those that take untagged. */
static pool_set
pools_of_vlan(const struct nic *nic, const struct frame *f)
{
	pool_set pools = 0;
	unsigned int i;

	if (!(nic->reg[VLNCTRL / 4] & VLNCTRL_VFE))
		return UINT64_MAX;
	if (!f->tagged)
		return pools_with(nic, PFVML2FLT_AUPE);
	for (i = 0; i < 64; i++) {
		if (reg(nic, PFVLVF, i, 4) == (PFVLVF_VI_EN | (f->tci & 0xfffu)))
			pools |= pair(nic, PFVLVFB, i);
	}
	return pools;
}

/*
 * 7.10.3.2 and 7.10.3.3 for a frame from the wire, 7.10.3.4 for one of the card's own: its pool
 * gets it back only where PFVMTXSW allows, and the default pool gets it only if it is broadcast or
 * multicast. So a unicast frame from the wire whose MAC has a pool that is not in the tag's VLAN
 * goes to the default pool, or nowhere.
 */
pool_set
filter_pools(struct nic *nic, const struct frame *f)
{
	uint32_t vtctl = nic->reg[PFVTCTL / 4];
	pool_set pools, enabled = pair(nic, PFVFRE, 0);

	if (!(vtctl & PFVTCTL_VT_ENA))
		return 1;
	pools = pools_by_mac(nic, f->data);
	if (f->source_pool >= 0)
		pools &= ~(UINT64_C(1) << f->source_pool) | pair(nic, PFVMTXSW, 0);
	pools &= pools_of_vlan(nic, f);
	if (pools == 0 && !(vtctl & PFVTCTL_DIS_DEF_POOL) &&
			(f->source_pool < 0 || is_multicast(f->data))) {
		unsigned int pool = vtctl >> PFVTCTL_DEF_PL_SHIFT & 0x3f;

		if ((int)pool != f->source_pool || (pair(nic, PFVMTXSW, 0) >> pool & 1))
			pools = UINT64_C(1) << pool;
	}
	pools &= enabled;
	/* Without replication one pool is enough: which one, the datasheet leaves open. */
	if (!(vtctl & PFVTCTL_RPL_EN) && pools & (pools - 1))
		not_modelled("several pools for a frame with replication off", vtctl);
	return pools;
}

/* 8.2.3.10, RTRUP2TC: 3 bits for each user priority. Untagged frames have priority 0. */
unsigned int
filter_class(const struct nic *nic, const struct frame *f)
{
	return nic->reg[RTRUP2TC / 4] >> 3 * (f->tagged ? f->tci >> 13 : 0) & 7;
}

/* 7.1.2, the modes of MRQC.MRQE. */
unsigned int
filter_queue(const struct nic *nic, unsigned int pool, unsigned int tc)
{
	switch (nic->reg[MRQC / 4] & MRQC_MRQE) {
	case 0x0: /* neither RSS nor virtualization nor DCB */
		return 0;
	case 0x8: /* 64 pools; the second queue of a pool is for RSS, L4 filters and FCoE alone */
		return 2 * pool;
	case 0xc: /* 16 pools, 8 classes */
		return 8 * (pool & 15) + tc;
	case 0xd: /* 32 pools, 4 classes: two bits of the index are the class */
		return 4 * (pool & 31) + (tc & 3);
	}
	not_modelled("MRQC.MRQE", nic->reg[MRQC / 4]);
}

/* 7.2.1.2, the modes of MTQC: transmit queues belong to pools as receive queues do. */
unsigned int
filter_tx_pool(const struct nic *nic, unsigned int queue)
{
	switch (nic->reg[MTQC / 4] & (MTQC_VT_ENA | MTQC_RT_ENA | MTQC_NUM)) {
	case 0x0: /* one pool, 64 queues */
		return 0;
	case MTQC_VT_ENA | 0x4: /* 64 pools of 2 */
		return queue / 2;
	case MTQC_VT_ENA | MTQC_RT_ENA | 0xc: /* 16 pools of 8 */
		return queue / 8;
	case MTQC_VT_ENA | MTQC_RT_ENA | 0x8: /* 32 pools of 4 */
		return queue / 4;
	}
	not_modelled("MTQC", nic->reg[MTQC / 4]);
}
