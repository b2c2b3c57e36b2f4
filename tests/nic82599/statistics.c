/* SPDX-License-Identifier: BSD-3-Clause */
/* Statistics: datasheet 8.2.3.23. Lengths on the wire count the CRC. */
#include "nic.h"

static void
add64(struct nic *nic, uint32_t low, uint32_t high, uint64_t n)
{
	uint64_t sum = nic->reg[low / 4] + n;

	nic->reg[low / 4] = (uint32_t)sum;
	nic->reg[high / 4] += (uint32_t)(sum >> 32);
}

/* The counter of a frame's size, of the six that begin at the one for 64 bytes. */
static uint32_t
size_counter(uint32_t of_64, size_t len)
{
	static const size_t upto[] = { 64, 127, 255, 511, 1023 };
	unsigned int i = 0;

	while (i < sizeof(upto) / sizeof(upto[0]) && len > upto[i])
		i++;
	return of_64 / 4 + i;
}

static void
count_kind(struct nic *nic, const uint8_t *dst, uint32_t broadcast, uint32_t multicast)
{
	unsigned int i;

	if (!(dst[0] & 1))
		return;
	for (i = 0; i < 6 && dst[i] == 0xff; i++)
		;
	nic->reg[(i == 6 ? broadcast : multicast) / 4]++;
}

void
count_received(struct nic *nic, const struct frame *f)
{
	size_t len = f->len + 4;

	nic->reg[GPRC / 4]++;
	nic->reg[TPR / 4]++;
	add64(nic, GORCL, GORCH, len);
	add64(nic, TORL, TORH, len);
	nic->reg[size_counter(PRC64, len)]++;
	count_kind(nic, f->data, BPRC, MPRC);
}

void
count_sent(struct nic *nic, const uint8_t *data, size_t len)
{
	len += 4;
	nic->reg[GPTC / 4]++;
	nic->reg[TPT / 4]++;
	add64(nic, GOTCL, GOTCH, len);
	nic->reg[size_counter(PTC64, len)]++;
	count_kind(nic, data, BPTC, MPTC);
}

/* RQSMR and TQSM: 4 queues a register, which of 16 counters each counts in. */
static unsigned int
counter_of(const struct nic *nic, uint32_t map, unsigned int queue)
{
	return nic->reg[map / 4 + queue / 4] >> 8 * (queue % 4) & 0xf;
}

void
count_queue_received(struct nic *nic, unsigned int queue, size_t len)
{
	unsigned int i = counter_of(nic, RQSMR, queue);

	nic->rx_frames[queue]++;
	nic->reg[(QPRC + i * 0x40) / 4]++;
	add64(nic, QBRC_L + i * 0x40, QBRC_H + i * 0x40, len + 4);
}

void
count_queue_sent(struct nic *nic, unsigned int queue, size_t len)
{
	unsigned int i = counter_of(nic, TQSM, queue);

	nic->tx_frames[queue]++;
	nic->reg[(QPTC + i * 4) / 4]++;
	add64(nic, QBTC_L + i * 8, QBTC_H + i * 8, len + 4);
}

void
count_queue_dropped(struct nic *nic, unsigned int queue)
{
	nic->reg[(QPRDC + counter_of(nic, RQSMR, queue) * 0x40) / 4]++;
}

void
count_missed(struct nic *nic, unsigned int tc)
{
	nic->reg[RXMPC / 4 + tc]++;
}
