/* SPDX-License-Identifier: BSD-3-Clause */
/* Reset, link and interrupts. */
#include <string.h>
#include <unistd.h>

#include "nic.h"

/*
 * Datasheet 4.2: both resets return every register to its initial value and stop all queues. The
 * first receive address is then loaded from the EEPROM (8.2.3.7).
 */
void
nic_reset(struct nic *nic)
{
	uint32_t low, high = 0;

	registers_reset(nic);
	memset(nic->context, 0, sizeof(nic->context));
	memcpy(&low, nic->mac, 4);
	memcpy(&high, nic->mac + 4, 2);
	nic->reg[RAL / 4] = low;
	nic->reg[RAH / 4] = high | RAH_AV;
	/* 8.2.3.27: the pools of receive address 0 are all of them until software changes that. */
	nic->reg[MPSAR_LO / 4] = nic->reg[MPSAR_HI / 4] = UINT32_MAX;
}

bool
link_is_up(const struct nic *nic)
{
	return nic->cable;
}

void
link_set(struct nic *nic, bool up)
{
	unsigned int queue;

	if (nic->cable == up)
		return;
	nic->cable = up;
	interrupt(nic, EICR_LSC);
	for (queue = 0; up && queue < NIC_QUEUES; queue++)
		transmit(nic, queue); /* what waited */
}

/* Datasheet 7.3.1, without MSI-X: one line, raised while a cause is set and enabled. */
void
interrupt(struct nic *nic, uint32_t causes)
{
	uint32_t count = 1;

	nic->reg[EICR / 4] |= causes;
	if ((nic->reg[EICR / 4] & nic->reg[EIMS / 4]) == 0)
		return;
	/* A descriptor of 4 bytes, as of UIO. That it is full is fine: one is pending then. */
	if (write(nic->irq_fd, &count, sizeof(count)) < 0)
		return;
}
