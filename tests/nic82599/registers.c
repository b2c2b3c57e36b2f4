/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>

#include <rte_common.h>

#include "nic.h"

struct row {
	const char *name;
	uint32_t offset;
	unsigned int count, stride, first;
	uint32_t reset;
	uint32_t (*read)(struct nic *nic, uint32_t *r);
	void (*write)(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value);
};

/* What a read does. */

static uint32_t
read_plain(struct nic *nic, uint32_t *r)
{
	RTE_SET_USED(nic);
	return *r;
}

static uint32_t
read_clear(struct nic *nic, uint32_t *r)
{
	uint32_t value = *r;

	RTE_SET_USED(nic);
	*r = 0;
	return value;
}

/* 10.5.4: whoever reads SMBI as 0 has the semaphore, since reading sets it. */
static uint32_t
read_swsm(struct nic *nic, uint32_t *r)
{
	uint32_t value = *r;

	RTE_SET_USED(nic);
	*r |= SWSM_SMBI;
	return value;
}

static uint32_t
read_links(struct nic *nic, uint32_t *r)
{
	RTE_SET_USED(r);
	return link_is_up(nic) ? LINKS_UP | LINKS_SPEED_10G : 0;
}

/* What a write does. */

static void
write_plain(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	*r = value;
}

static void
write_ro(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(r);
	RTE_SET_USED(i);
	RTE_SET_USED(value);
}

/* A feature that is not there may only be disabled. */
static void
write_zero(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	if (value != 0)
		not_modelled("a value other than 0 in a register of a feature that is off", value);
	*r = value;
}

static void
write_ctrl(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(i);
	if (value & (CTRL_RST | CTRL_LRST)) {
		nic_reset(nic); /* both bits read 0 when it is done: at once here */
		value &= ~(CTRL_RST | CTRL_LRST);
	}
	*r = value;
}

/* 8.2.3.2: software asks for the EEPROM and is granted it. */
static void
write_eec(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	*r = value & EEC_REQ ? value | EEC_GNT : value & ~EEC_GNT;
}

/*
 * 8.2.3.2, address in 15:2, data in 31:16. Words 0 to 0x3F sum up to 0xBABA (chapter 6, the
 * checksum word); all others are 0, which as a pointer means that no section follows.
 */
static void
write_eerd(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	uint32_t word = value >> 2 & 0x3fff;

	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	*r = value | EERD_DONE | (word == 0x3f ? 0xbaba0000u : 0);
}

/* 8.2.3.22: no PHY answers on MDIO, each command is done at once. */
static void
write_msca(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(i);
	*r = value & ~MSCA_COMMAND;
	nic->reg[MSRWD / 4] = 0xffff0000;
}

/* 8.2.3.5: EICR clears what is written as 1, EICS sets causes, EIMS and EIMC the mask. */
static void
write_eicr(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	*r &= ~value;
}

static void
write_eics(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(r);
	RTE_SET_USED(i);
	interrupt(nic, value);
}

static void
write_eims(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(i);
	*r |= value;
	interrupt(nic, 0);
}

static void
write_eimc(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(r);
	RTE_SET_USED(i);
	nic->reg[EIMS / 4] &= ~value;
}

static void
write_ftqf(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	if (value & FTQF_ENABLE)
		not_modelled("a five-tuple filter", value);
	*r = value;
}

static void
write_rxdctl(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	/* 4.6.7: a queue that is enabled starts at its head register, which is 0 after reset. */
	if ((value & RXDCTL_ENABLE) && !(*r & RXDCTL_ENABLE))
		*rxq(nic, i, RDH) = 0;
	*r = value;
}

static void
write_rscctl(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	if (value & RSCCTL_RSCEN)
		not_modelled("receive side coalescing", value);
	*r = value;
}

static void
write_rdrxctl(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	*r = value | RDRXCTL_DMAIDONE;
}

/*
 * 8.2.3.8: drop enable by queue, index in 14:8, beside SRRCTL.Drop_En, which is what counts here:
 * either of the two lets a full queue drop.
 */
static void
write_qde(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	if (value & 1)
		not_modelled("QDE.QDE", value);
	*r = value;
}

static void
write_tdt(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	*r = value & 0xffff;
	transmit(nic, i);
}

static void
write_txdctl(struct nic *nic, uint32_t *r, unsigned int i, uint32_t value)
{
	RTE_SET_USED(nic);
	RTE_SET_USED(i);
	*r = value & ~TXDCTL_SWFLSH; /* flushed at once */
}

/* The table. */

#define REGISTER_ROW(name, offset, count, stride, first, reset, rd, wr)                            \
	{ #name, offset, count, stride, first, reset, read_##rd, write_##wr },
static const struct row rows[] = { FOREACH_REGISTER(REGISTER_ROW) };

static const struct {
	uint32_t offset, count, stride, to, to_stride;
} aliases[] = {
#define ALIAS_ROW(offset, count, stride, to, to_stride) { offset, count, stride, to, to_stride },
	FOREACH_ALIAS(ALIAS_ROW)
};

/* For each word of the BAR, its row + 1 and its index there; filled once. */
static uint16_t row_of[NIC_BAR_LEN / 4];
static uint16_t index_of[NIC_BAR_LEN / 4];
static uint32_t true_offset[NIC_BAR_LEN / 4];

static void
index_rows(void)
{
	unsigned int i, j;

	for (i = 0; i < RTE_DIM(rows); i++) {
		for (j = 0; j < rows[i].count; j++) {
			uint32_t word = (rows[i].offset + j * rows[i].stride) / 4;

			if (row_of[word] != 0)
				not_modelled("two rows for one register", word * 4);
			row_of[word] = (uint16_t)(i + 1);
			index_of[word] = (uint16_t)(rows[i].first + j);
			true_offset[word] = word * 4;
		}
	}
	for (i = 0; i < RTE_DIM(aliases); i++) {
		for (j = 0; j < aliases[i].count; j++)
			true_offset[(aliases[i].offset + j * aliases[i].stride) / 4] =
				aliases[i].to + j * aliases[i].to_stride;
	}
}

void
not_modelled(const char *what, uint32_t value)
{
	fprintf(stderr, "nic82599: not modelled: %s (0x%08x)\n", what, value);
	abort();
}

void
registers_reset(struct nic *nic)
{
	unsigned int i, j;

	if (row_of[0] == 0)
		index_rows();
	for (i = 0; i < RTE_DIM(rows); i++) {
		for (j = 0; j < rows[i].count; j++)
			nic->reg[(rows[i].offset + j * rows[i].stride) / 4] = rows[i].reset;
	}
}

static const struct row *
find_row(uint32_t *offset, const char *access)
{
	if (*offset % 4 != 0 || *offset >= NIC_BAR_LEN)
		not_modelled(access, *offset);
	if (true_offset[*offset / 4] != 0)
		*offset = true_offset[*offset / 4];
	if (row_of[*offset / 4] == 0)
		not_modelled(access, *offset);
	return &rows[row_of[*offset / 4] - 1];
}

uint32_t
nic_read(struct nic *nic, uint32_t offset)
{
	const struct row *row = find_row(&offset, "a read of the register at this offset");
	uint32_t value;

	rte_spinlock_lock(&nic->lock);
	value = row->read(nic, &nic->reg[offset / 4]);
	rte_spinlock_unlock(&nic->lock);
	return value;
}

void
nic_write(struct nic *nic, uint32_t offset, uint32_t value)
{
	const struct row *row = find_row(&offset, "a write of the register at this offset");

	rte_spinlock_lock(&nic->lock);
	row->write(nic, &nic->reg[offset / 4], index_of[offset / 4], value);
	rte_spinlock_unlock(&nic->lock);
}
