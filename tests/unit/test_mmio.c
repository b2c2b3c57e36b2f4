/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The accesses that the model of the 82599 traps (tests/nic82599/mmio.c, instruction.c), held
 * against the same instructions on plain memory: results, flags, and how often the device was
 * read and written.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "register_forms.h"
#include "tests/nic82599/instruction.h"
#include "tests/nic82599/mmio.h"

#define LEN 8192u
#define HALF (LEN / 2)
#define DIM(a) (sizeof(a) / sizeof((a)[0]))

struct register_forms *register_forms;

/* The device: registers that are nothing but memory, and counters of accesses. */
static uint32_t device[LEN / 4];
static unsigned int reads, writes; /* atomic */

/* Where accesses are trapped. */
static uint8_t *bar;

static uint32_t
read_device(void *arg, uint32_t offset)
{
	__atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
	return ((uint32_t *)arg)[offset / 4];
}

static void
write_device(void *arg, uint32_t offset, uint32_t value)
{
	__atomic_fetch_add(&writes, 1, __ATOMIC_RELAXED);
	((uint32_t *)arg)[offset / 4] = value;
}

/* Each test does it for itself: cmocka sets handlers of its own before. */
static void
map(void)
{
	const struct mmio_bus bus = { read_device, write_device, device };

	bar = mmio_map(&bus, LEN);
	assert_non_null(bar);
}

static int
unmap(void **state)
{
	(void)state;
	mmio_unmap();
	return 0;
}

/* What memory may hold, and registers. */
static const uint32_t values[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x12345678, 0x02000000,
	0x0000ff80, 77 };

static void
fill(uint32_t *memory, uint32_t first)
{
	unsigned int i;

	for (i = 0; i < LEN / 4; i++)
		memory[i] = first + i * 0x9e3779b9u;
}

/* What compilers make of C. */

static bool
runs_here(const char *cpu)
{
	__builtin_cpu_init();
	if (strcmp(cpu, "x86-64-v4") == 0)
		return __builtin_cpu_supports("x86-64-v4");
	if (strcmp(cpu, "x86-64-v3") == 0)
		return __builtin_cpu_supports("x86-64-v3");
	return true;
}

static void
compare_form(const struct register_forms *set, const struct register_form *form, uint32_t first,
	uint32_t a, uint32_t b)
{
	static uint32_t plain[LEN / 4];
	uint64_t expected, got;

	if (strncmp(form->name, "divide", 6) == 0 && first == 0)
		first = 3;
	fill(plain, first);
	fill(device, first);
	expected = form->run(plain, a, b);
	got = form->run(bar, a, b);
	if (expected != got || memcmp(plain, device, LEN) != 0)
		fail_msg("%s, %s(%#x, %#x) of %#x: %#llx, not %#llx", set->compiled, form->name, a,
			b, first, (unsigned long long)got, (unsigned long long)expected);
}

static void
test_compiled_code(void **state)
{
	const struct register_forms *set;
	unsigned int sets = 0, i, first, a, b;

	(void)state;
	map();
	for (set = register_forms; set != NULL; set = set->next) {
		if (!runs_here(set->cpu))
			continue;
		sets++;
		for (i = 0; i < set->n; i++) {
			for (first = 0; first < DIM(values); first++) {
				for (a = 0; a < DIM(values); a += 2) {
					b = (first + a) % DIM(values);
					compare_form(set, &set->form[i], values[first], values[a],
						values[b]);
				}
			}
		}
	}
	assert_true(sets >= 5);
}

/* Single instructions, with all registers and flags. The operand is at RDI. */

struct sample {
	const uint8_t *code, *end;
	const char *text;
};

/* A row for each: the assembler gives the bytes. */
__asm__(".macro sample text:vararg\n"
	"	.pushsection .text\n"
	"1:	\\text\n"
	"2:	nop\n"
	"	.popsection\n"
	"	.pushsection .rodata.str1.1, \"aMS\", @progbits, 1\n"
	"3:	.asciz \"\\text\"\n"
	"	.popsection\n"
	"	.quad 1b, 2b, 3b\n"
	".endm\n"
	".pushsection .data.rel.ro.samples, \"aw\"\n"
	".balign 8\n"
	"samples:\n"
	"	sample movl (%rdi), %eax\n"
	"	sample movl (%rdi), %r9d\n"
	"	sample movl %eax, (%rdi)\n"
	"	sample movl %r15d, (%rdi)\n"
	"	sample movl $0x80402010, (%rdi)\n"
	"	sample movb (%rdi), %cl\n"
	"	sample movb 3(%rdi), %r9b\n"
	"	sample movb 1(%rdi), %ah\n"
	"	sample movb 1(%rdi), %sil\n"
	"	sample movw 2(%rdi), %cx\n"
	"	sample movzbl 2(%rdi), %eax\n"
	"	sample movzwl (%rdi), %r10d\n"
	"	sample movsbl 3(%rdi), %eax\n"
	"	sample movswl 2(%rdi), %edx\n"
	"	sample movsbq (%rdi), %rax\n"
	"	sample movswq (%rdi), %r11\n"
	"	sample movzbw (%rdi), %dx\n"
	"	sample movslq (%rdi), %rbx\n"
	"	sample addl (%rdi), %eax\n"
	"	sample orl (%rdi), %ecx\n"
	"	sample adcl (%rdi), %edx\n"
	"	sample sbbl (%rdi), %ebx\n"
	"	sample andl (%rdi), %r9d\n"
	"	sample subl (%rdi), %r12d\n"
	"	sample xorl (%rdi), %esi\n"
	"	sample cmpl (%rdi), %eax\n"
	"	sample cmpl %eax, (%rdi)\n"
	"	sample addw (%rdi), %ax\n"
	"	sample cmpw %ax, 2(%rdi)\n"
	"	sample orb (%rdi), %al\n"
	"	sample cmpb %dl, 1(%rdi)\n"
	"	sample addl %eax, (%rdi)\n"
	"	sample orl %r14d, (%rdi)\n"
	"	sample adcl %ecx, (%rdi)\n"
	"	sample sbbl %ecx, (%rdi)\n"
	"	sample andl %edx, (%rdi)\n"
	"	sample subl %edx, (%rdi)\n"
	"	sample xorl %ebx, (%rdi)\n"
	"	sample addl $1, (%rdi)\n"
	"	sample orl $0x40, (%rdi)\n"
	"	sample adcl $0, (%rdi)\n"
	"	sample sbbl $-1, (%rdi)\n"
	"	sample andl $-128, (%rdi)\n"
	"	sample subl $5, (%rdi)\n"
	"	sample xorl $-1, (%rdi)\n"
	"	sample cmpl $0, (%rdi)\n"
	"	sample addl $0x12345678, (%rdi)\n"
	"	sample orl $0x02000000, (%rdi)\n"
	"	sample adcl $0x12345678, (%rdi)\n"
	"	sample sbbl $0x12345678, (%rdi)\n"
	"	sample andl $0xfdffffff, (%rdi)\n"
	"	sample subl $0x12345678, (%rdi)\n"
	"	sample xorl $0x12345678, (%rdi)\n"
	"	sample cmpl $0x12345678, (%rdi)\n"
	"	sample cmpb $0x40, 3(%rdi)\n"
	"	sample cmpw $0x1234, 2(%rdi)\n"
	"	sample lock addl $1, (%rdi)\n"
	"	sample lock orl %eax, (%rdi)\n"
	"	sample lock andl $0xffff, (%rdi)\n"
	"	sample testl %eax, (%rdi)\n"
	"	sample testb %al, 3(%rdi)\n"
	"	sample testl $0x02000000, (%rdi)\n"
	"	sample testw $0x8000, 2(%rdi)\n"
	"	sample testb $0x80, 3(%rdi)\n"
	"	sample notl (%rdi)\n"
	"	sample negl (%rdi)\n"
	"	sample incl (%rdi)\n"
	"	sample decl (%rdi)\n"
	"	sample lock incl (%rdi)\n"
	"	sample lock decl (%rdi)\n"
	"	sample lock negl (%rdi)\n"
	"	sample mull (%rdi)\n"
	"	sample imull (%rdi)\n"
	"	sample mulb 1(%rdi)\n"
	"	sample imull (%rdi), %eax\n"
	"	sample imull $1000, (%rdi), %r13d\n"
	"	sample imull $-7, (%rdi), %eax\n"
	"	sample imulw $1000, (%rdi), %ax\n"
	"	sample roll $3, (%rdi)\n"
	"	sample rorl $3, (%rdi)\n"
	"	sample rcll $3, (%rdi)\n"
	"	sample rcrl $3, (%rdi)\n"
	"	sample shll $3, (%rdi)\n"
	"	sample shrl $3, (%rdi)\n"
	"	sample sarl $3, (%rdi)\n"
	"	sample shll (%rdi)\n"
	"	sample sarl (%rdi)\n"
	"	sample rcrl (%rdi)\n"
	"	sample shrl %cl, (%rdi)\n"
	"	sample roll %cl, (%rdi)\n"
	"	sample shldl $7, %eax, (%rdi)\n"
	"	sample shrdl %cl, %edx, (%rdi)\n"
	"	sample xchgl %eax, (%rdi)\n"
	"	sample xchgl %r11d, (%rdi)\n"
	"	sample cmpxchgl %ecx, (%rdi)\n"
	"	sample lock cmpxchgl %r9d, (%rdi)\n"
	"	sample xaddl %eax, (%rdi)\n"
	"	sample lock xaddl %r9d, (%rdi)\n"
	"	sample btl $31, (%rdi)\n"
	"	sample btsl $25, (%rdi)\n"
	"	sample btrl $0, (%rdi)\n"
	"	sample btcl $7, (%rdi)\n"
	"	sample lock btsl $25, (%rdi)\n"
	"	sample btl %ebp, (%rdi)\n"
	"	sample btsl %ebp, (%rdi)\n"
	"	sample lock btrl %ebp, (%rdi)\n"
	"	sample btcl %ebp, (%rdi)\n"
	"	sample cmovel (%rdi), %eax\n"
	"	sample cmovnel (%rdi), %eax\n"
	"	sample cmovbl (%rdi), %r9d\n"
	"	sample cmovgel (%rdi), %edx\n"
	"	sample bsfl (%rdi), %eax\n"
	"	sample bsrl (%rdi), %eax\n"
	"	sample movntil %eax, (%rdi)\n"
	"	sample movntil %r14d, (%rdi)\n"
	"	sample movd (%rdi), %xmm3\n"
	"	sample movd %xmm4, (%rdi)\n"
	"	sample movd %xmm12, (%rdi)\n"
	"	sample movss (%rdi), %xmm9\n"
	"	sample movss %xmm9, (%rdi)\n"
	"	sample cvtsi2sdl (%rdi), %xmm1\n"
	"	sample cvtsi2ssl (%rdi), %xmm1\n"
	"	sample cvtss2sd (%rdi), %xmm1\n"
	"	sample ucomiss (%rdi), %xmm2\n"
	"	sample addss (%rdi), %xmm2\n"
	/* every kind of address */
	"	sample addl 0x10(%rdi), %eax\n"
	"	sample subl -0x10(%rdi), %eax\n"
	"	sample xorl 0x400(%rdi), %eax\n"
	"	sample orl -0x400(%rdi), %eax\n"
	"	sample movl (%rdi,%rbp), %eax\n"
	"	sample addl %eax, (%rdi,%rbp,4)\n"
	"	sample addl $7, 8(%rdi,%rbp,8)\n"
	"	sample addl 0x200(%rdi,%rbp,2), %eax\n"
	"	sample movl 0(,%rdi,1), %eax\n"
	"	sample addl 0x100(,%rdi,1), %eax\n"
	"	sample addl %eax, 0x100(,%rdi,1)\n"
	"	sample ds addl %eax, (%rdi)\n"
	"	sample .byte 0x26, 0x8b, 0x07\n"
	"	sample addl (%r8), %eax\n"
	"	.quad 0\n"
	"samples_of_registers:\n" /* the operand is at this register */
	"	sample movl (%rax), %eax\n"
	"	sample movl (%rcx), %eax\n"
	"	sample movl (%rdx), %eax\n"
	"	sample movl (%rbx), %eax\n"
	"	sample movl (%rbp), %eax\n"
	"	sample movl (%rsi), %eax\n"
	"	sample movl (%rdi), %eax\n"
	"	sample movl (%r8), %eax\n"
	"	sample movl (%r9), %eax\n"
	"	sample movl (%r10), %eax\n"
	"	sample movl (%r11), %eax\n"
	"	sample movl (%r12), %eax\n"
	"	sample movl (%r13), %eax\n"
	"	sample movl (%r14), %eax\n"
	"	sample movl (%r15), %eax\n"
	"	sample addl %eax, 4(,%r12,1)\n"
	"	sample addl %eax, 4(,%r13,1)\n"
	"	sample movl %eax, 0x80(%r12)\n"
	"	sample movl %eax, 0x80(%r13)\n"
	"	.quad 0\n"
	"samples_of_new_cpus:\n"
	"	sample movbel (%rdi), %eax\n"
	"	sample movbel %r9d, (%rdi)\n"
	"	sample movbew 2(%rdi), %ax\n"
	"	sample crc32b 1(%rdi), %eax\n"
	"	sample crc32w 2(%rdi), %eax\n"
	"	sample crc32l (%rdi), %r9d\n"
	"	sample popcntl (%rdi), %eax\n"
	"	sample tzcntl (%rdi), %eax\n"
	"	sample lzcntl (%rdi), %r10d\n"
	"	sample pinsrd $2, (%rdi), %xmm5\n"
	"	sample pextrd $3, %xmm5, (%rdi)\n"
	"	sample andn (%rdi), %eax, %ecx\n"
	"	sample andn (%rdi), %r9d, %r10d\n"
	"	sample blsr (%rdi), %eax\n"
	"	sample blsmsk (%rdi), %eax\n"
	"	sample blsi (%rdi), %r12d\n"
	"	sample bextr %eax, (%rdi), %ecx\n"
	"	sample bzhi %ecx, (%rdi), %eax\n"
	"	sample pext (%rdi), %eax, %ecx\n"
	"	sample pdep (%rdi), %eax, %ecx\n"
	"	sample mulx (%rdi), %eax, %ecx\n"
	"	sample mulx (%r8), %r14d, %r15d\n"
	"	sample rorx $7, (%rdi), %eax\n"
	"	sample shlx %eax, (%rdi), %ecx\n"
	"	sample sarx %r9d, (%rdi), %ecx\n"
	"	sample shrx %eax, 0x40(%rdi,%rbp,4), %ecx\n"
	"	sample vmovd (%rdi), %xmm7\n"
	"	sample vmovd %xmm7, (%rdi)\n"
	"	sample vcvtsi2sdl (%rdi), %xmm3, %xmm4\n"
	"	sample vpbroadcastd (%r8), %ymm2\n"
	"	sample vbroadcastss (%rdi), %xmm2\n"
	"	sample vpinsrd $1, (%rdi), %xmm5, %xmm6\n"
	"	.quad 0\n"
	"samples_of_avx512:\n"
	"	sample vcvtusi2sdl (%rdi), %xmm1, %xmm2\n"
	"	sample vcvtusi2ssl 0x1fc(%r8), %xmm1, %xmm2\n"
	"	sample vcvttss2usi (%rdi), %eax\n"
	"	sample vpaddd -0x200(%rdi){1to4}, %xmm1, %xmm2\n"
	"	sample vpternlogd $0x96, 4(%rdi,%rbp,4){1to8}, %ymm1, %ymm2\n"
	"	sample vpslld $3, (%rdi){1to4}, %xmm1\n"
	"	sample vpbroadcastd 0x400(%rdi), %xmm2\n"
	"	sample vpbroadcastd (%r8), %zmm2\n"
	"	.quad 0\n"
	".popsection\n");
extern const struct sample samples[], samples_of_registers[], samples_of_new_cpus[],
	samples_of_avx512[];

/* What the CPU holds before or after an instruction. */
struct cpu {
	greg_t greg[REG_EFL + 1]; /* without RSP, which the signals' frames need */
	struct _libc_xmmreg xmm[16];
};

static struct {
	const uint8_t *code;
	struct cpu before, after;
	greg_t saved[REG_EFL + 1];
	bool runs;
} run;

/* INT3 comes before an instruction, to load the registers, and after it, to keep them. */
static void
on_trap(int signal, siginfo_t *info, void *context)
{
	mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
	int i;

	(void)signal, (void)info;
	for (i = 0; i <= REG_EFL; i++) {
		if (!run.runs)
			run.saved[i] = m->gregs[i];
		else
			run.after.greg[i] = m->gregs[i];
		if (i != REG_RSP)
			m->gregs[i] = run.runs ? run.saved[i] : run.before.greg[i];
	}
	if (!run.runs) {
		memcpy(m->fpregs->_xmm, run.before.xmm, sizeof(run.before.xmm));
		m->gregs[REG_RIP] = (greg_t)(uintptr_t)run.code;
	} else {
		memcpy(run.after.xmm, m->fpregs->_xmm, sizeof(run.after.xmm));
		run.after.greg[REG_RSP] = 0;
	}
	run.runs = !run.runs;
}

/* Run what was put at run.code. */
static void
run_code(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO }, before;

	run.runs = false;
	sigaction(SIGTRAP, &action, &before);
	__asm__ volatile("int3" ::: "memory", "cc");
	sigaction(SIGTRAP, &before, NULL);
}

/* A page for code within reach of the trapped memory and of the plain one. */
static uint8_t *page;

static void
load(const struct sample *s)
{
	size_t len = (size_t)(s->end - s->code);

	memcpy(page, s->code, len);
	page[len] = 0xcc; /* INT3 */
	run.code = page;
}

/* Registers of the round-th kind; all but the one of the operand, and RBP: a small index. */
static void
set_cpu(struct cpu *cpu, unsigned int round, int greg, const void *operand)
{
	unsigned int i;

	memset(cpu, 0, sizeof(*cpu));
	for (i = 0; i < 16; i++) {
		cpu->greg[instruction_greg(i)] = (greg_t)(0x100000001u * (uint64_t)(values[(round +
			i) % DIM(values)] ^ i << 28));
		memcpy(&cpu->xmm[i], &values[(round + i) % 4], 16);
	}
	cpu->greg[REG_RBP] = round * 4 + 32;
	cpu->greg[REG_R8] = cpu->greg[REG_RDI] = (greg_t)(uintptr_t)operand;
	cpu->greg[greg] = (greg_t)(uintptr_t)operand;
	/* CF, PF, AF, ZF, SF, OF, and the two that are always set */
	cpu->greg[REG_EFL] = 0x202 | (round % 3 == 0 ? 0x8d5 : round % 3 == 1 ? 0x1 : 0);
}

/* Of two runs on different memory: no register may differ but those that hold its address. */
static void
compare_cpus(const char *text, unsigned int round, const struct cpu *plain, const struct cpu *got,
	intptr_t distance)
{
	unsigned int i;

	for (i = 0; i < 16; i++) {
		int greg = instruction_greg(i);

		if (plain->greg[greg] != got->greg[greg] &&
				plain->greg[greg] + distance != got->greg[greg])
			fail_msg("%s, round %u: register %u is %#llx, not %#llx", text, round, i,
				got->greg[greg], plain->greg[greg]);
	}
	/* RF is set in the image of a fault, manual volume 3, 2.3 */
	if ((plain->greg[REG_EFL] & ~0x10000) != (got->greg[REG_EFL] & ~0x10000))
		fail_msg("%s, round %u: flags are %#llx, not %#llx", text, round,
			got->greg[REG_EFL], plain->greg[REG_EFL]);
	if (memcmp(plain->xmm, got->xmm, sizeof(got->xmm)) != 0)
		fail_msg("%s, round %u: vectors differ", text, round);
}

static void
compare_sample(const struct sample *s, unsigned int round, int greg)
{
	static uint32_t plain[LEN / 4];
	struct instruction in;
	struct cpu expected;

	fill(plain, values[round] - HALF / 4 * 0x9e3779b9u);
	fill(device, values[round] - HALF / 4 * 0x9e3779b9u);
	load(s);
	set_cpu(&run.before, round, greg, plain + HALF / 4);
	run_code();
	expected = run.after;
	set_cpu(&run.before, round, greg, bar + HALF);
	reads = writes = 0;
	run_code();
	compare_cpus(s->text, round, &expected, &run.after,
		(intptr_t)(bar - (uint8_t *)plain));
	if (memcmp(plain, device, LEN) != 0)
		fail_msg("%s, round %u: memory differs", s->text, round);
	assert_true(instruction_decode(s->code, &in));
	assert_int_equal(in.length, s->end - s->code);
	assert_int_equal(reads, in.access & INSTRUCTION_READ ? 1 : 0);
	assert_int_equal(writes, in.access & INSTRUCTION_WRITE ? 1 : 0);
}

static void
test_instructions(void **state)
{
	const struct sample *s;
	unsigned int round;

	(void)state;
	map();
	for (round = 0; round < DIM(values); round++) {
		for (s = samples; s->code != NULL; s++)
			compare_sample(s, round, REG_RDI);
		for (s = samples_of_new_cpus; s->code != NULL && runs_here("x86-64-v3"); s++)
			compare_sample(s, round, REG_RDI);
		for (s = samples_of_avx512; s->code != NULL && runs_here("x86-64-v4"); s++)
			compare_sample(s, round, REG_RDI);
	}
}

static void
test_every_register_of_an_address(void **state)
{
	static const int numbers[] = { 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 12, 13,
		12, 13 };
	unsigned int i;

	(void)state;
	map();
	for (i = 0; samples_of_registers[i].code != NULL; i++)
		compare_sample(&samples_of_registers[i], 5, instruction_greg(numbers[i]));
	assert_int_equal(i, DIM(numbers));
}

/* Addresses that memory of a test cannot have: decoded only. */
static void
test_addresses(void **state)
{
	static const struct {
		uint8_t code[INSTRUCTION_MAX];
		uint8_t length;
		uint64_t address;
	} cases[] = {
		{ { 0x03, 0x04, 0x24 }, 3, 0x7ffff000 },		 /* addl (%rsp), %eax */
		{ { 0x03, 0x44, 0x24, 0xf8 }, 4, 0x7fffeff8 },		 /* addl -8(%rsp), %eax */
		{ { 0x03, 0x04, 0x25, 0, 0x10, 0, 0 }, 7, 0x1000 },	 /* addl 0x1000, %eax */
		{ { 0x03, 0x04, 0x25, 0, 0x10, 0, 0x80 }, 7, 0xffffffff80001000 },
		{ { 0x67, 0x03, 0x03 }, 3, 0x90000004 },		 /* addl (%ebx), %eax */
		{ { 0x67, 0x03, 0x44, 0x0b, 0x7f }, 5, 0x90000084 },	 /* 127(%ebx,%ecx) */
		{ { 0x03, 0x04, 0x8b }, 3, 0x1290000008 },		 /* (%rbx,%rcx,4) */
		{ { 0x42, 0x03, 0x04, 0x63 }, 4, 0x1290000024 },	 /* (%rbx,%r12,2) */
		{ { 0x43, 0x03, 0x44, 0x24, 0x10 }, 5, 0x30 },		 /* 16(%r12,%r12) */
		{ { 0xa1, 1, 2, 3, 4, 5, 6, 7, 8 }, 9, 0x0807060504030201 }, /* movabs, %eax */
		{ { 0xa3, 1, 2, 3, 4, 5, 6, 7, 8 }, 9, 0x0807060504030201 },
		{ { 0x67, 0xa1, 1, 2, 3, 4 }, 6, 0x04030201 },
		{ { 0x0f, 0x38, 0xf9, 0x02 }, 4, 0x1000 },		 /* movdiri %eax, (%rdx) */
		{ { 0x41, 0x0f, 0x38, 0xf9, 0x44, 0x24, 0x18 }, 7, 0x28 }, /* 0x18(%r12) */
		{ { 0x48, 0x0f, 0x38, 0xf9, 0x02 }, 5, 0x1000 },	 /* movdiri %rax, (%rdx) */
		{ { 0x0f, 0xa3, 0x0a }, 3, 0x1000 },			 /* btl %ecx, (%rdx) */
		{ { 0x0f, 0xab, 0x32 }, 3, 0xffc },			 /* btsl %esi, (%rdx) */
		{ { 0xc7, 0x80, 0, 1, 0, 0, 1, 2, 3, 4 }, 10, 0x100 },
		{ { 0x66, 0xc7, 0x00, 1, 2 }, 5, 0 },			 /* movw $0x201, (%rax) */
		{ { 0xc4, 0xc1, 0x79, 0x6e, 0x04, 0x24 }, 6, 0x10 },	 /* vmovd (%r12), %xmm0 */
		{ { 0x62, 0xf1, 0x75, 0x18, 0xfe, 0x52, 0x7f }, 7, 0x11fc },
		/* vpaddd 0x1fc(%rdx){1to4}, %xmm1, %xmm2 */
	};
	greg_t gregs[REG_EFL + 1] = { 0 };
	struct instruction in;
	unsigned int i;

	(void)state;
	gregs[REG_RSP] = 0x7ffff000;
	gregs[REG_RBX] = 0x1290000004;
	gregs[REG_RCX] = 1;
	gregs[REG_RDX] = 0x1000;
	gregs[REG_RSI] = -1;
	gregs[REG_R12] = 0x10;
	for (i = 0; i < DIM(cases); i++) {
		if (!instruction_decode(cases[i].code, &in) || in.length != cases[i].length ||
				instruction_address(&in, gregs) != cases[i].address)
			fail_msg("case %u: length %u, address %#llx", i, in.length,
				(unsigned long long)instruction_address(&in, gregs));
	}
}

/* Relative to the instruction itself: no sample can know the distance. */
static void
test_relative_to_the_instruction(void **state)
{
	uint8_t code[] = { 0x83, 0x2d, 0, 0, 0, 0, 9, 0xcc }; /* subl $9, X(%rip); int3 */
	int64_t distance;
	int32_t displacement;

	(void)state;
	map();
	distance = bar + 0x80 - (page + 7);
	displacement = (int32_t)distance;
	assert_true(distance == displacement);
	memcpy(code + 2, &displacement, 4);
	memcpy(page, code, sizeof(code));
	set_cpu(&run.before, 0, REG_RDI, bar);
	device[0x80 / 4] = 8;
	run_code();
	assert_int_equal(device[0x80 / 4], UINT32_MAX);
	assert_int_equal(run.after.greg[REG_EFL] & 0x8d5, 0x95); /* CF, PF, AF, SF */
}

/* With an address that is part of the instruction. */
static void
test_absolute(void **state)
{
	uint8_t code[] = { 0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0xcc };
	uintptr_t address;

	(void)state;
	map();
	address = (uintptr_t)bar + 0x84;
	memcpy(code + 1, &address, 8);
	memcpy(page, code, sizeof(code));
	set_cpu(&run.before, 0, REG_RDI, bar);
	device[0x84 / 4] = 0xcafecafe;
	run_code();
	assert_int_equal(run.after.greg[REG_RAX], 0xcafecafe);
	page[0] = 0xa3;
	set_cpu(&run.before, 2, REG_RDI, bar);
	run_code();
	assert_int_equal(device[0x84 / 4], 0x7fffffff);
}

/* MOVDIRI, on CPUs that have it and on others, on registers and on plain memory. */
static void
test_direct_store(void **state)
{
	static const uint8_t codes[][8] = {
		{ 0x0f, 0x38, 0xf9, 0x02, 0xcc },		/* movdiri %eax, (%rdx) */
		{ 0x44, 0x0f, 0x38, 0xf9, 0x4a, 0x40, 0xcc },	/* movdiri %r9d, 0x40(%rdx) */
		{ 0x48, 0x0f, 0x38, 0xf9, 0x02, 0xcc },		/* movdiri %rax, (%rdx) */
	};
	static uint64_t plain[16];
	uint64_t before = mmio_direct_stores();

	(void)state;
	map();
	memset(device, 0, sizeof(device));
	set_cpu(&run.before, 5, REG_RDX, bar);
	memcpy(page, codes[0], 8);
	run_code();
	assert_int_equal(device[0], 0x12345678);
	memcpy(page, codes[1], 8);
	run_code();
	assert_int_equal(device[0x10], (uint32_t)run.before.greg[REG_R9]);
	assert_int_equal(mmio_direct_stores(), before + 2);
	set_cpu(&run.before, 5, REG_RDX, plain);
	run_code();
	assert_int_equal(plain[8], (uint32_t)run.before.greg[REG_R9]);
	memcpy(page, codes[2], 8);
	run_code();
	assert_int_equal(plain[0], run.before.greg[REG_RAX]);
	memcpy(page, codes[0], 8);
	plain[0] = UINT64_MAX;
	run_code();
	assert_int_equal(plain[0], 0xffffffff12345678);
}

static void *
count_up(void *arg)
{
	volatile uint32_t *p = arg;
	unsigned int i;

	for (i = 0; i < 3000; i++)
		__asm__ volatile("addl $1, %0\n\tsubl %1, %0\n\taddl %1, %0" : "+m"(*p) : "r"(i));
	return NULL;
}

static void
test_many_threads(void **state)
{
	pthread_t threads[8];
	unsigned int i;

	(void)state;
	map();
	memset(device, 0, sizeof(device));
	for (i = 0; i < DIM(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, bar + 4 * i), 0);
	for (i = 0; i < DIM(threads); i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < DIM(threads); i++)
		assert_int_equal(device[i], 3000);
}

/* What has no meaning for a register, or is not known: the end, and the bytes. */
static void
test_what_cannot_be_decoded(void **state)
{
	static const struct {
		uint8_t code[8], length;
		const char *bytes;
	} cases[] = {
		{ { 0x48, 0x8b, 0x07 }, 3, " 48 8b 07 cc" },		/* movq (%rdi), %rax */
		{ { 0x48, 0x01, 0x07 }, 3, " 48 01 07 cc" },		/* addq %rax, (%rdi) */
		{ { 0x88, 0x07 }, 2, " 88 07 cc" },			/* movb %al, (%rdi) */
		{ { 0x66, 0x89, 0x07 }, 3, " 66 89 07 cc" },		/* movw %ax, (%rdi) */
		{ { 0x80, 0x0f, 0x01 }, 3, " 80 0f 01 cc" },		/* orb $1, (%rdi) */
		{ { 0x8b, 0x47, 0x02 }, 3, " 8b 47 02 cc" },		/* movl 2(%rdi), %eax */
		{ { 0x0f, 0xae, 0x3f }, 3, " 0f ae 3f cc" },		/* clflush (%rdi) */
		{ { 0xff, 0x37 }, 2, " ff 37 cc" },			/* pushq (%rdi) */
		{ { 0xf3, 0x0f, 0x6f, 0x07 }, 4, " f3 0f 6f 07 cc" },	/* movdqu (%rdi), %xmm0 */
		{ { 0xa5 }, 1, " a5 cc" },				/* movsl */
	};
	char text[512];
	int fds[2], status;
	unsigned int i;
	size_t len;
	ssize_t n;

	(void)state;
	map();
	for (i = 0; i < DIM(cases); i++) {
		pid_t child;

		assert_int_equal(pipe(fds), 0);
		child = fork();
		if (child == 0) {
			signal(SIGABRT, SIG_DFL);
			dup2(fds[1], 2);
			/* at the end of a page, with nothing after it */
			run.code = page + 4096 - cases[i].length - 1;
			memcpy((void *)(uintptr_t)run.code, cases[i].code, cases[i].length);
			page[4095] = 0xcc;
			set_cpu(&run.before, 5, REG_RSI, bar + HALF);
			run_code();
			_exit(0);
		}
		close(fds[1]);
		for (len = 0; (n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0;)
			len += (size_t)n;
		text[len] = '\0';
		close(fds[0]);
		waitpid(child, &status, 0);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		assert_non_null(strstr(text,
			"nic82599: cannot decode an access to the registers:"));
		if (strstr(text, cases[i].bytes) == NULL)
			fail_msg("case %u: %s", i, text);
	}
}

/* A fault elsewhere is for the handler that was there before. */
static void
test_other_faults(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		map();
		*(volatile uint32_t *)16 = 1;
		_exit(0);
	}
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_compiled_code, unmap),
		cmocka_unit_test_teardown(test_instructions, unmap),
		cmocka_unit_test_teardown(test_every_register_of_an_address, unmap),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test_teardown(test_relative_to_the_instruction, unmap),
		cmocka_unit_test_teardown(test_absolute, unmap),
		cmocka_unit_test_teardown(test_direct_store, unmap),
		cmocka_unit_test_teardown(test_many_threads, unmap),
		cmocka_unit_test_teardown(test_what_cannot_be_decoded, unmap),
		cmocka_unit_test(test_other_faults),
	};

	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		0);
	if (page == MAP_FAILED || mprotect(page + 4096, 4096, PROT_NONE) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
