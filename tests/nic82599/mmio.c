/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the driver's loads and stores become calls: the BAR is mapped without any right to access it,
 * so that each access faults; the handler decodes the one instruction, does its work, and goes on
 * behind it. rte_read32() and rte_write32() are single MOVs of 32 bits, which is all there is to
 * decode (Intel 64 manual, volume 2, "MOV" and chapter 2 for prefixes, ModRM and SIB). Anything
 * else ends the process with the bytes of the instruction.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "nic.h"

#ifndef __x86_64__
#error "the model traps accesses by decoding x86-64 instructions"
#endif

static struct nic *trapped;
static uint8_t *bar;
static struct sigaction previous;

/* Registers as instructions number them. */
static const int greg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
	REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

static void
cannot_decode(const uint8_t *code)
{
	unsigned int i;

	fprintf(stderr, "nic82599: cannot decode an access to the registers:");
	for (i = 0; i < 12; i++)
		fprintf(stderr, " %02x", code[i]);
	fprintf(stderr, "\n");
	abort();
}

/* Bytes of a memory operand from its ModRM byte on. */
static unsigned int
operand_length(const uint8_t *modrm)
{
	unsigned int mod = modrm[0] >> 6, rm = modrm[0] & 7, len = 1;

	if (rm == 4) {
		len++;
		if (mod == 0 && (modrm[1] & 7) == 5)
			len += 4;
	} else if (mod == 0 && rm == 5) {
		len += 4;
	}
	return len + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

static void
step(ucontext_t *uc, uint32_t offset)
{
	greg_t *gregs = uc->uc_mcontext.gregs;
	const uint8_t *start = (const uint8_t *)(uintptr_t)gregs[REG_RIP];
	const uint8_t *code = start;
	unsigned int rex = 0, number, operand;
	uint32_t value;

	if ((*code & 0xf0) == 0x40)
		rex = *code++;
	if (rex & 8) /* 64 bits */
		cannot_decode(start);
	operand = operand_length(code + 1);
	number = (code[1] >> 3 & 7) | (rex & 4 ? 8 : 0);
	switch (code[0]) {
	case 0x8b: /* MOV r32, m32: the upper half of the register becomes 0 */
		gregs[greg_of[number]] = (greg_t)nic_read(trapped, offset);
		break;
	case 0x89: /* MOV m32, r32 */
		nic_write(trapped, offset, (uint32_t)gregs[greg_of[number]]);
		break;
	case 0xc7: /* MOV m32, imm32 */
		if ((code[1] >> 3 & 7) != 0)
			cannot_decode(start);
		memcpy(&value, code + 1 + operand, 4);
		operand += 4;
		nic_write(trapped, offset, value);
		break;
	default:
		cannot_decode(start);
	}
	gregs[REG_RIP] = (greg_t)(uintptr_t)(code + 1 + operand);
}

static void
on_fault(int signal, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr, base = (uintptr_t)bar;
	int saved = errno;

	if (bar != NULL && at >= base && at < base + NIC_BAR_LEN) {
		step(context, (uint32_t)(at - base));
		errno = saved;
		return;
	}
	/* Someone else's fault. */
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal, info, context);
		return;
	}
	sigaction(SIGSEGV, &previous, NULL); /* it happens again, for the handler that was there */
}

void *
mmio_map(struct nic *nic)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	void *map;

	map = mmap(NULL, NIC_BAR_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	trapped = nic;
	bar = map;
	sigaction(SIGSEGV, &action, &previous);
	return map;
}

void
mmio_unmap(void)
{
	sigaction(SIGSEGV, &previous, NULL);
	munmap(bar, NIC_BAR_LEN);
	bar = NULL;
}
