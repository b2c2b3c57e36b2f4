/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the driver's loads and stores become calls: the memory is mapped without any right to access
 * it, so that each access faults. Plain MOVs are carried out by the handler. Any other instruction
 * runs on a copy of the register: the handler puts the register's value into a word of its own and
 * lets the thread go on at a copy of the instruction that has its operand there. HLT follows the
 * copy, which no program may execute: so the handler gets control back, with all results and flags
 * in place, writes the register if the instruction wrote, and lets the thread go on after it.
 *
 * An instruction that is not known ends the process with its bytes.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "instruction.h"
#include "mmio.h"

#define PAGE 4096u
#define HLT 0xf4

/*
 * A place to run the copy of an instruction. Threads that access registers at the same time have
 * one each: as many as a page has room for, 64.
 */
#define PLACES 64u
#define PLACE_LEN (PAGE / PLACES)
_Static_assert(PLACE_LEN >= INSTRUCTION_MAX + 6 + 1, "the longest copy and HLT");

struct place {
	bool taken;		/* atomic */
	uint32_t offset;	/* of the register */
	struct instruction in;
	uint8_t stop;		/* where HLT is, from the start of the copy */
};

static struct {
	struct mmio_bus bus;
	uint8_t *memory; /* NULL: not mapped */
	size_t len;
	uint8_t *code;	 /* a page of copies, then a page with a word for each */
	struct place places[PLACES];
	struct sigaction segv, ill; /* that were there before */
	uint64_t direct_stores;	    /* atomic */
} mmio;

static void
cannot_decode(const uint8_t *code)
{
	uint8_t bytes[INSTRUCTION_MAX];
	struct iovec to = { bytes, sizeof(bytes) };
	struct iovec from = { (void *)(uintptr_t)code, sizeof(bytes) };
	ssize_t i, n;

	/* The kernel copies as much as there is: a page may end after the instruction. */
	n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
	if (n < 0) {
		from.iov_len = PAGE - (uintptr_t)code % PAGE;
		n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
	}
	fprintf(stderr, "nic82599: cannot decode an access to the registers:");
	for (i = 0; i < n; i++)
		fprintf(stderr, " %02x", bytes[i]);
	fprintf(stderr, "\n");
	abort();
}

static uint32_t *
word_of(unsigned int i)
{
	return (uint32_t *)(void *)(mmio.code + PAGE + i * PLACE_LEN);
}

/*
 * A register is 32 bits wide. A load of one or two of its bytes reads all of it, as the bus does
 * without byte enables; a store of less, or any access of more, has no meaning for the card.
 */
static bool
is_of_register(const struct instruction *in, uint32_t offset)
{
	if (in->size == 4)
		return offset % 4 == 0;
	return in->access == INSTRUCTION_READ && in->size < 4 && offset % 4 + in->size <= 4;
}

static uint32_t
read_register(uint32_t offset)
{
	return mmio.bus.read(mmio.bus.device, offset & ~3u) >> 8 * (offset % 4);
}

static void
count_direct_store(void)
{
	__atomic_fetch_add(&mmio.direct_stores, 1, __ATOMIC_RELAXED);
}

/* Carry out what needs no copy. Returns false for all else. */
static bool
carry_out(const struct instruction *in, greg_t *gregs, uint32_t offset)
{
	int greg = REG_RAX;
	uint32_t value;

	if (in->size != 4 || in->vex)
		return false;
	if (!instruction_is_moffs(in))
		greg = instruction_greg(instruction_register(in));
	switch (in->map << 8 | in->opcode) {
	case 0x8b: /* MOV r32, m32: the upper half of the register becomes 0 */
	case 0xa1:
		gregs[greg] = (greg_t)read_register(offset);
		break;
	case MAP_0F38 << 8 | 0xf9: /* MOVDIRI m32, r32 */
		count_direct_store();
		/* fall through */
	case 0x89: /* MOV m32, r32 */
	case 0xa3:
		mmio.bus.write(mmio.bus.device, offset, (uint32_t)gregs[greg]);
		break;
	case 0xc7: /* MOV m32, imm32 */
		memcpy(&value, in->code + in->length - 4, 4);
		mmio.bus.write(mmio.bus.device, offset, value);
		break;
	default:
		return false;
	}
	gregs[REG_RIP] += in->length;
	return true;
}

static unsigned int
take_place(void)
{
	unsigned int i;

	for (i = 0;; i = (i + 1) % PLACES) {
		if (!__atomic_exchange_n(&mmio.places[i].taken, true, __ATOMIC_ACQUIRE))
			return i;
	}
}

/*
 * Let the thread go on at a copy of the instruction. The CPU has seen older bytes there, perhaps on
 * another core; returning from a signal is by IRET, which serializes (manual, volume 3, 8.1.3).
 */
static void
run_copy(const struct instruction *in, greg_t *gregs, uint32_t offset)
{
	unsigned int i = take_place();
	struct place *place = &mmio.places[i];
	uint8_t *copy = mmio.code + i * PLACE_LEN;

	place->in = *in;
	place->offset = offset;
	if (in->access & INSTRUCTION_READ)
		*word_of(i) = read_register(offset);
	place->stop = (uint8_t)instruction_copy(in, gregs, copy, word_of(i));
	copy[place->stop] = HLT;
	gregs[REG_RIP] = (greg_t)(uintptr_t)copy;
}

/* The copy has run. Returns whether that is what this fault is. */
static bool
finish_copy(greg_t *gregs)
{
	uintptr_t at = (uintptr_t)gregs[REG_RIP] - (uintptr_t)mmio.code;
	struct place *place = &mmio.places[at / PLACE_LEN % PLACES];

	if (at >= PAGE || !__atomic_load_n(&place->taken, __ATOMIC_RELAXED) ||
			at % PLACE_LEN != place->stop)
		return false;
	gregs[REG_RIP] = (greg_t)(uintptr_t)(place->in.code + place->in.length);
	if (place->in.access & INSTRUCTION_WRITE)
		mmio.bus.write(mmio.bus.device, place->offset, *word_of(at / PLACE_LEN));
	__atomic_store_n(&place->taken, false, __ATOMIC_RELEASE);
	return true;
}

static bool
is_mapped(uintptr_t address)
{
	return mmio.memory != NULL && address - (uintptr_t)mmio.memory < mmio.len;
}

static void
step(greg_t *gregs, uintptr_t address)
{
	const uint8_t *code = (const uint8_t *)(uintptr_t)gregs[REG_RIP];
	uint32_t offset = (uint32_t)(address - (uintptr_t)mmio.memory);
	struct instruction in;

	/* That its operand is where the fault was says that the instruction was decoded right. */
	if (!instruction_decode(code, &in) || !is_of_register(&in, offset) ||
			instruction_address(&in, gregs) != address)
		cannot_decode(code);
	if (carry_out(&in, gregs, offset))
		return;
	if (instruction_is_moffs(&in))
		cannot_decode(code);
	run_copy(&in, gregs, offset);
}

/* Someone else's signal. */
static void
pass_on(const struct sigaction *before, int signal, siginfo_t *info, void *context)
{
	if (before->sa_flags & SA_SIGINFO)
		before->sa_sigaction(signal, info, context);
	else
		/* it happens again, for the handler that was there */
		sigaction(signal, before, NULL);
}

static void
on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
	uintptr_t address = (uintptr_t)info->si_addr;
	int saved = errno;

	if (is_mapped(address) && !is_mapped((uintptr_t)gregs[REG_RIP]))
		step(gregs, address);
	else if (mmio.code == NULL || !finish_copy(gregs))
		pass_on(&mmio.segv, signal, info, context);
	errno = saved;
}

/* MOVDIRI where the CPU does not have it. DPDK may be made to use it even so. */
static void
on_illegal(int signal, siginfo_t *info, void *context)
{
	greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct instruction in;
	uintptr_t address;
	greg_t value;
	int saved = errno;

	if (!instruction_decode((const uint8_t *)(uintptr_t)gregs[REG_RIP], &in) || in.vex ||
			in.map != MAP_0F38 || in.opcode != 0xf9) {
		pass_on(&mmio.ill, signal, info, context);
		return;
	}
	address = instruction_address(&in, gregs);
	if (is_mapped(address)) {
		step(gregs, address);
	} else {
		value = gregs[instruction_greg(instruction_register(&in))];
		memcpy((void *)address, &value, in.size);
		count_direct_store();
		gregs[REG_RIP] += in.length;
	}
	errno = saved;
}

static void
give_back(void)
{
	if (mmio.memory != NULL)
		munmap(mmio.memory, mmio.len);
	if (mmio.code != NULL)
		munmap(mmio.code, 2 * PAGE);
	mmio.memory = mmio.code = NULL;
}

void *
mmio_map(const struct mmio_bus *bus, size_t len)
{
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct sigaction illegal = { .sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO };
	uint8_t *memory, *code;

	memory = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mmio.memory = memory == MAP_FAILED ? NULL : memory;
	mmio.code = code == MAP_FAILED ? NULL : code;
	mmio.len = len;
	if (mmio.memory == NULL || mmio.code == NULL ||
			mprotect(mmio.code + PAGE, PAGE, PROT_READ | PROT_WRITE) < 0) {
		give_back();
		return NULL;
	}
	mmio.bus = *bus;
	sigaction(SIGSEGV, &fault, &mmio.segv);
	sigaction(SIGILL, &illegal, &mmio.ill);
	return mmio.memory;
}

void
mmio_unmap(void)
{
	sigaction(SIGSEGV, &mmio.segv, NULL);
	sigaction(SIGILL, &mmio.ill, NULL);
	give_back();
}

uint64_t
mmio_direct_stores(void)
{
	return __atomic_load_n(&mmio.direct_stores, __ATOMIC_RELAXED);
}
