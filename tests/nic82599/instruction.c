/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "instruction.h"

#ifndef __x86_64__
#error "the model traps accesses by decoding x86-64 instructions"
#endif

#define R INSTRUCTION_READ
#define W INSTRUCTION_WRITE
#define RW INSTRUCTION_READ_WRITE

/* Sizes of operands that prefixes choose, beside those in bytes. */
#define SIZE_V 0x10 /* 2 with prefix 66, 8 with REX.W, or 4 */
#define SIZE_Y 0x20 /* 8 with REX.W, or 4 */
/* Immediates: bytes, or */
#define IMM_Z 0x10 /* 2 with prefix 66, or 4 */

/* Sets of prefixes, and of values of ModRM.reg where that belongs to the opcode. */
#define NP (1u << PREFIX_NONE)
#define P66 (1u << PREFIX_66)
#define PF3 (1u << PREFIX_F3)
#define PF2 (1u << PREFIX_F2)
#define ANY (NP | P66 | PF3 | PF2)
#define ALL 0xffu
#define REG(n) (1u << (n))

/* Encodings: without VEX, with it. */
#define PLAIN 1u
#define VEX 2u
#define BOTH (PLAIN | VEX)

/* Opcodes whose bits under the mask have one value. The first row that fits counts. */
static const struct form {
	uint8_t map, encodings, prefixes, mask, opcode, regs, size, access, immediate, bit_string;
} forms[] = {
	/* MOV */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x8b, ALL, SIZE_V, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x89, ALL, SIZE_V, W, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xc7, REG(0), SIZE_V, W, IMM_Z, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x8a, ALL, 1, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x88, ALL, 1, W, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xc6, REG(0), 1, W, 1, 0 },
	/* MOVSXD; MOVZX and MOVSX of 1 and 2 bytes */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x63, ALL, 4, R, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xf7, 0xb6, ALL, 1, R, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xf7, 0xb7, ALL, 2, R, 0, 0 },
	/* CMP, then ADD, OR, ADC, SBB, AND, SUB, XOR: of and to a register */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x38, ALL, 1, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x39, ALL, SIZE_V, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xc7, 0x00, ALL, 1, RW, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xc7, 0x01, ALL, SIZE_V, RW, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xc7, 0x02, ALL, 1, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xc7, 0x03, ALL, SIZE_V, R, 0, 0 },
	/* the same with an immediate; CMP is /7 */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x80, REG(7), 1, R, 1, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x80, ALL, 1, RW, 1, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x81, REG(7), SIZE_V, R, IMM_Z, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x81, ALL, SIZE_V, RW, IMM_Z, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x83, REG(7), SIZE_V, R, 1, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x83, ALL, SIZE_V, RW, 1, 0 },
	/* TEST; NOT and NEG; MUL, IMUL, DIV, IDIV */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x84, ALL, 1, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x85, ALL, SIZE_V, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xf6, REG(0) | REG(1), 1, R, 1, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xf7, REG(0) | REG(1), SIZE_V, R, IMM_Z, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xf6, REG(2) | REG(3), 1, RW, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xf7, REG(2) | REG(3), SIZE_V, RW, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xf6, ALL, 1, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xf7, ALL, SIZE_V, R, 0, 0 },
	/* INC and DEC */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xfe, REG(0) | REG(1), 1, RW, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xff, REG(0) | REG(1), SIZE_V, RW, 0, 0 },
	/* IMUL with two and three operands */
	{ MAP_0F, PLAIN, ANY, 0xff, 0xaf, ALL, SIZE_V, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x69, ALL, SIZE_V, R, IMM_Z, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x6b, ALL, SIZE_V, R, 1, 0 },
	/* ROL, ROR, RCL, RCR, SHL, SHR, SAR by an immediate, by 1, by CL; SHLD and SHRD */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xc0, ALL, 1, RW, 1, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xc1, ALL, SIZE_V, RW, 1, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xfd, 0xd0, ALL, 1, RW, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xfd, 0xd1, ALL, SIZE_V, RW, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xf7, 0xa4, ALL, SIZE_V, RW, 1, 0 },
	{ MAP_0F, PLAIN, ANY, 0xf7, 0xa5, ALL, SIZE_V, RW, 0, 0 },
	/* XCHG, CMPXCHG, XADD */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x86, ALL, 1, RW, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0x87, ALL, SIZE_V, RW, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xb0, ALL, 1, RW, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xb1, ALL, SIZE_V, RW, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xc0, ALL, 1, RW, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xc1, ALL, SIZE_V, RW, 0, 0 },
	/* BT, then BTS, BTR, BTC: bit number in a register, or an immediate */
	{ MAP_0F, PLAIN, ANY, 0xff, 0xa3, ALL, SIZE_V, R, 0, 1 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xab, ALL, SIZE_V, RW, 0, 1 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xb3, ALL, SIZE_V, RW, 0, 1 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xbb, ALL, SIZE_V, RW, 0, 1 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xba, REG(4), SIZE_V, R, 1, 0 },
	{ MAP_0F, PLAIN, ANY, 0xff, 0xba, REG(5) | REG(6) | REG(7), SIZE_V, RW, 1, 0 },
	/* CMOVcc reads whatever the condition; SETcc */
	{ MAP_0F, PLAIN, ANY, 0xf0, 0x40, ALL, SIZE_V, R, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xf0, 0x90, ALL, 1, W, 0, 0 },
	/* POPCNT; BSF or TZCNT; BSR or LZCNT */
	{ MAP_0F, PLAIN, PF3, 0xff, 0xb8, ALL, SIZE_V, R, 0, 0 },
	{ MAP_0F, PLAIN, ANY, 0xfe, 0xbc, ALL, SIZE_V, R, 0, 0 },
	/* MOVNTI, MOVDIRI, MOVBE, CRC32, ADCX and ADOX */
	{ MAP_0F, PLAIN, NP, 0xff, 0xc3, ALL, SIZE_Y, W, 0, 0 },
	{ MAP_0F38, PLAIN, NP, 0xff, 0xf9, ALL, SIZE_Y, W, 0, 0 },
	{ MAP_0F38, PLAIN, PF2, 0xff, 0xf0, ALL, 1, R, 0, 0 },
	{ MAP_0F38, PLAIN, PF2, 0xff, 0xf1, ALL, SIZE_V, R, 0, 0 },
	{ MAP_0F38, PLAIN, NP | P66, 0xff, 0xf0, ALL, SIZE_V, R, 0, 0 },
	{ MAP_0F38, PLAIN, NP | P66, 0xff, 0xf1, ALL, SIZE_V, W, 0, 0 },
	{ MAP_0F38, PLAIN, P66 | PF3, 0xff, 0xf6, ALL, SIZE_Y, R, 0, 0 },
	/* BMI: ANDN; BLSR, BLSMSK, BLSI; BZHI, PEXT, PDEP; MULX; BEXTR, SHLX, SARX, SHRX; RORX */
	{ MAP_0F38, VEX, NP, 0xff, 0xf2, ALL, SIZE_Y, R, 0, 0 },
	{ MAP_0F38, VEX, NP, 0xff, 0xf3, REG(1) | REG(2) | REG(3), SIZE_Y, R, 0, 0 },
	{ MAP_0F38, VEX, NP | PF3 | PF2, 0xff, 0xf5, ALL, SIZE_Y, R, 0, 0 },
	{ MAP_0F38, VEX, PF2, 0xff, 0xf6, ALL, SIZE_Y, R, 0, 0 },
	{ MAP_0F38, VEX, ANY, 0xff, 0xf7, ALL, SIZE_Y, R, 0, 0 },
	{ MAP_0F3A, VEX, PF2, 0xff, 0xf0, ALL, SIZE_Y, R, 1, 0 },
	/* vectors and floating point: MOVD */
	{ MAP_0F, BOTH, P66, 0xff, 0x6e, ALL, SIZE_Y, R, 0, 0 },
	{ MAP_0F, BOTH, P66, 0xff, 0x7e, ALL, SIZE_Y, W, 0, 0 },
	/* CVTSI2SS and CVTSI2SD; MOVSS; UCOMISS; CVTTSS2SI and CVTSS2SI */
	{ MAP_0F, BOTH, PF3 | PF2, 0xff, 0x2a, ALL, SIZE_Y, R, 0, 0 },
	{ MAP_0F, BOTH, PF3, 0xff, 0x10, ALL, 4, R, 0, 0 },
	{ MAP_0F, BOTH, PF3, 0xff, 0x11, ALL, 4, W, 0, 0 },
	{ MAP_0F, BOTH, NP, 0xfe, 0x2e, ALL, 4, R, 0, 0 },
	{ MAP_0F, BOTH, PF3, 0xfe, 0x2c, ALL, 4, R, 0, 0 },
	/* SQRTSS; ADDSS, MULSS, CVTSS2SD; SUBSS, MINSS, DIVSS, MAXSS */
	{ MAP_0F, BOTH, PF3, 0xff, 0x51, ALL, 4, R, 0, 0 },
	{ MAP_0F, BOTH, PF3, 0xfe, 0x58, ALL, 4, R, 0, 0 },
	{ MAP_0F, BOTH, PF3, 0xff, 0x5a, ALL, 4, R, 0, 0 },
	{ MAP_0F, BOTH, PF3, 0xfc, 0x5c, ALL, 4, R, 0, 0 },
	/* PINSRD and PEXTRD */
	{ MAP_0F3A, BOTH, P66, 0xff, 0x22, ALL, SIZE_Y, R, 1, 0 },
	{ MAP_0F3A, BOTH, P66, 0xff, 0x16, ALL, SIZE_Y, W, 1, 0 },
	/* VCVTTSS2USI and VCVTSS2USI, VCVTUSI2SS and VCVTUSI2SD; VPBROADCASTD and VBROADCASTSS */
	{ MAP_0F, VEX, PF3, 0xfe, 0x78, ALL, 4, R, 0, 0 },
	{ MAP_0F, VEX, PF3 | PF2, 0xff, 0x7b, ALL, SIZE_Y, R, 0, 0 },
	{ MAP_0F38, VEX, P66, 0xff, 0x58, ALL, 4, R, 0, 0 },
	{ MAP_0F38, VEX, P66, 0xff, 0x18, ALL, 4, R, 0, 0 },
	/* x87: FILD, FISTTP, FIST, FISTP; FLD, FST, FSTP; arithmetic */
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xdb, REG(0), 4, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xdb, REG(1) | REG(2) | REG(3), 4, W, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xd9, REG(0), 4, R, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xff, 0xd9, REG(2) | REG(3), 4, W, 0, 0 },
	{ MAP_ONE_BYTE, PLAIN, ANY, 0xfd, 0xd8, ALL, 4, R, 0, 0 },
};

/* Legacy prefixes and REX (manual, 2.1.1 and 2.2.1). Returns where the opcode begins. */
static const uint8_t *
skip_prefixes(struct instruction *in, bool *has_segment)
{
	const uint8_t *at = in->code;

	for (; at - in->code < INSTRUCTION_MAX - 1; at++) {
		if (*at == 0x66)
			in->operand16 = true;
		else if (*at == 0x67)
			in->address32 = true;
		else if (*at == 0xf3 || *at == 0xf2)
			in->prefix = *at == 0xf3 ? PREFIX_F3 : PREFIX_F2;
		else if (*at == 0x64 || *at == 0x65)
			*has_segment = true;
		else if (*at != 0xf0 && (*at & 0xe7) != 0x26) /* LOCK; segments without effect */
			break;
	}
	if (in->operand16 && in->prefix == PREFIX_NONE)
		in->prefix = PREFIX_66;
	in->prefixes = (uint8_t)(at - in->code);
	if ((*at & 0xf0) == 0x40) {
		in->wide = *at & 8;
		in->rxb = *at++ & 7;
	}
	return at;
}

/*
 * 2.3.5 VEX, 2.7.1 EVEX: two, three or four bytes stand for prefixes, map and REX. Returns where
 * the opcode is, or NULL.
 */
static const uint8_t *
read_vex(struct instruction *in, const uint8_t *at)
{
	in->vex = true;
	in->evex = *at == 0x62;
	if (*at == 0xc5) {
		in->map = MAP_0F;
		in->rxb = at[1] & 0x80 ? 0 : 4;
		in->prefix = at[1] & 3;
		return at + 2;
	}
	in->map = at[1] & (in->evex ? 0x7 : 0x1f);
	if (in->map < MAP_0F || in->map > MAP_0F3A)
		return NULL;
	in->rxb = ~at[1] >> 5 & 7;
	in->wide = at[2] & 0x80;
	in->prefix = at[2] & 3;
	if (!in->evex)
		return at + 3;
	in->broadcast = at[3] & 0x10;
	return at + 4;
}

/* Returns where the last byte of the opcode is, or NULL. */
static const uint8_t *
find_opcode(struct instruction *in, const uint8_t *at)
{
	if (*at == 0xc4 || *at == 0xc5 || *at == 0x62)
		return read_vex(in, at);
	if (*at != 0x0f)
		return at;
	at++;
	in->map = *at == 0x38 ? MAP_0F38 : *at == 0x3a ? MAP_0F3A : MAP_0F;
	return in->map == MAP_0F ? at : at + 1;
}

/*
 * 2.7.7: with EVEX.b an operand in memory is one element for all of a vector, in any instruction
 * that allows it. Of those, all of one map and a few of another have an immediate (appendix A).
 */
static const struct form *
find_broadcast(const struct instruction *in)
{
	static const struct form bare = { .size = SIZE_Y, .access = R },
		with_immediate = { .size = SIZE_Y, .access = R, .immediate = 1 };

	if (in->map == MAP_0F3A || (in->map == MAP_0F && ((in->opcode & 0xfc) == 0x70 ||
			in->opcode == 0xc2 || in->opcode == 0xc6)))
		return &with_immediate;
	return &bare;
}

static const struct form *
find_form(const struct instruction *in, unsigned int reg)
{
	const struct form *form;

	if (in->broadcast)
		return find_broadcast(in);
	for (form = forms; form < forms + sizeof(forms) / sizeof(forms[0]); form++) {
		if (form->map == in->map && (form->encodings & (in->vex ? VEX : PLAIN)) &&
				(form->prefixes >> in->prefix & 1) && (form->regs >> reg & 1) &&
				(in->opcode & form->mask) == form->opcode)
			return form;
	}
	return NULL;
}

/* Bytes of a memory operand from its ModRM byte on (manual, table 2-2 and 2-3). */
static uint8_t
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
	return (uint8_t)(len + (mod == 1 ? 1 : mod == 2 ? 4 : 0));
}

static uint8_t
operand_size(const struct instruction *in, const struct form *form)
{
	if (form->size != SIZE_V && form->size != SIZE_Y)
		return form->size;
	if (in->wide)
		return 8;
	return form->size == SIZE_V && in->operand16 ? 2 : 4;
}

bool
instruction_is_moffs(const struct instruction *in)
{
	return in->map == MAP_ONE_BYTE && (in->opcode & 0xfc) == 0xa0;
}

/* MOV between the accumulator and a 64-bit address that is part of the instruction. */
static bool
decode_moffs(struct instruction *in)
{
	in->access = in->opcode & 2 ? INSTRUCTION_WRITE : INSTRUCTION_READ;
	in->size = !(in->opcode & 1) ? 1 : in->wide ? 8 : in->operand16 ? 2 : 4;
	in->operand = in->address32 ? 4 : 8;
	in->length = (uint8_t)(in->opcode_at + 1 + in->operand);
	return true;
}

bool
instruction_decode(const uint8_t *code, struct instruction *in)
{
	bool has_segment = false;
	const struct form *form;
	const uint8_t *at;

	memset(in, 0, sizeof(*in));
	in->code = code;
	at = find_opcode(in, skip_prefixes(in, &has_segment));
	/* The bases of FS and GS are not among the registers of a signal. */
	if (at == NULL || has_segment)
		return false;
	in->opcode_at = (uint8_t)(at - code);
	in->opcode = *at;
	if (instruction_is_moffs(in))
		return decode_moffs(in);
	form = find_form(in, at[1] >> 3 & 7);
	if (form == NULL || at[1] >> 6 == 3)
		return false;
	in->access = form->access;
	in->bit_string = form->bit_string;
	in->size = operand_size(in, form);
	in->operand = operand_length(at + 1);
	in->immediate = form->immediate != IMM_Z ? form->immediate : in->operand16 ? 2 : 4;
	in->length = (uint8_t)(in->opcode_at + 1 + in->operand + in->immediate);
	return true;
}

unsigned int
instruction_register(const struct instruction *in)
{
	return (in->code[in->opcode_at + 1] >> 3 & 7) | (in->rxb & 4 ? 8 : 0);
}

int
instruction_greg(unsigned int number)
{
	static const int greg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
		REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14,
		REG_R15 };

	return greg_of[number];
}

/* BT and its kin with the bit number in a register reach further than the operand's address. */
static intptr_t
bit_string_offset(const struct instruction *in, const greg_t *gregs)
{
	greg_t bit = gregs[instruction_greg(instruction_register(in))];

	if (!in->bit_string)
		return 0;
	if (in->size == 8)
		return bit >> 6 << 3;
	return in->size == 2 ? (int16_t)bit >> 4 << 1 : (intptr_t)(int32_t)bit >> 5 << 2;
}

/* The sum of base, index and displacement. */
static uintptr_t
address_of_operand(const struct instruction *in, const greg_t *gregs)
{
	const uint8_t *modrm = in->code + in->opcode_at + 1, *end = modrm + in->operand;
	unsigned int mod = modrm[0] >> 6, base = modrm[0] & 7, index;
	uintptr_t address = 0;
	int32_t displacement = 0;

	if (mod == 1) /* 2.7.5: with EVEX it counts operands */
		displacement = (int8_t)end[-1] * (in->evex ? in->size : 1);
	else if (mod == 2 || (mod == 0 && (base == 5 || (base == 4 && (modrm[1] & 7) == 5))))
		memcpy(&displacement, end - 4, 4);
	if (mod == 0 && base == 5)
		return (uintptr_t)(in->code + in->length) + (uintptr_t)(intptr_t)displacement;
	if (base == 4) {
		index = (modrm[1] >> 3 & 7) | (in->rxb & 2 ? 8 : 0);
		if (index != 4)
			address = (uintptr_t)gregs[instruction_greg(index)] << (modrm[1] >> 6);
		base = modrm[1] & 7;
		if (mod == 0 && base == 5)
			return address + (uintptr_t)(intptr_t)displacement;
	}
	base |= in->rxb & 1 ? 8 : 0;
	return address + (uintptr_t)gregs[instruction_greg(base)] +
		(uintptr_t)(intptr_t)displacement;
}

uintptr_t
instruction_address(const struct instruction *in, const greg_t *gregs)
{
	uintptr_t address = 0;

	if (instruction_is_moffs(in)) {
		memcpy(&address, in->code + in->opcode_at + 1, in->operand);
		return address;
	}
	address = address_of_operand(in, gregs) + (uintptr_t)bit_string_offset(in, gregs);
	return in->address32 ? (uint32_t)address : address;
}

/*
 * The operand becomes one that is addressed from the end of the instruction. So prefix 67, and what
 * REX and VEX say of base and index, no longer apply.
 */
size_t
instruction_copy(const struct instruction *in, const greg_t *gregs, uint8_t *to, const void *memory)
{
	const uint8_t *modrm = in->code + in->opcode_at + 1;
	int32_t displacement;
	unsigned int i;
	size_t len = 0;

	for (i = 0; i <= in->opcode_at; i++) {
		uint8_t byte = in->code[i];

		if (i < in->prefixes && byte == 0x67)
			byte = 0x3e; /* DS: without effect */
		else if (i == in->prefixes && (byte & 0xf0) == 0x40)
			byte &= (uint8_t)~3;
		else if (in->vex && i == in->prefixes + 1u && in->code[in->prefixes] != 0xc5)
			byte |= 0x60;
		to[len++] = byte;
	}
	to[len++] = (modrm[0] & 0x38) | 5;
	displacement = (int32_t)((const uint8_t *)memory - (to + len + 4 + in->immediate) -
		bit_string_offset(in, gregs));
	memcpy(to + len, &displacement, 4);
	memcpy(to + len + 4, modrm + in->operand, in->immediate);
	return len + 4 + in->immediate;
}
