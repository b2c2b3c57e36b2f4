/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NIC82599_INSTRUCTION_H
#define NIC82599_INSTRUCTION_H

/**
 * @file
 * Decodes x86-64 instructions that access memory, as far as compilers make them of reads and writes
 * of 32-bit variables.
 *
 * It finds out what an instruction does with its memory operand, where that operand is, and makes a
 * copy of the instruction whose operand is elsewhere. It does not know what else an instruction
 * does: whoever runs the copy gets every result and flag from the CPU.
 *
 * "Manual" is the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
 *
 * No function keeps state: any thread may call any of them, in a signal handler too.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/** No instruction is longer (manual, 2.3.11). */
#define INSTRUCTION_MAX 15

/** What an instruction does with its memory operand. */
enum instruction_access {
	INSTRUCTION_READ = 1,
	INSTRUCTION_WRITE = 2,
	INSTRUCTION_READ_WRITE = 3,
};

/** The maps of opcodes (manual, appendix A). */
enum instruction_map { MAP_ONE_BYTE, MAP_0F, MAP_0F38, MAP_0F3A };

/** Mandatory prefixes, in the numbers of VEX.pp (manual, 2.3.6.1). */
enum instruction_prefix { PREFIX_NONE, PREFIX_66, PREFIX_F3, PREFIX_F2 };

/** A decoded instruction. */
struct instruction {
	const uint8_t *code;	    /**< its first byte */
	enum instruction_map map;
	enum instruction_prefix prefix;
	uint8_t opcode;
	bool vex;		    /**< encoded with VEX or EVEX */
	bool evex;		    /**< with EVEX */
	bool broadcast;		    /**< EVEX.b */
	bool wide;		    /**< W of REX, VEX or EVEX */
	bool operand16;		    /**< has prefix 66 */
	bool address32;		    /**< has prefix 67 */
	uint8_t rxb;		    /**< REX.R, REX.X and REX.B as bits 2, 1 and 0 */
	uint8_t prefixes;	    /**< bytes before REX, VEX, EVEX or the opcode */
	uint8_t opcode_at;	    /**< offset of the opcode's last byte */
	uint8_t operand;	    /**< bytes from ModRM to the end of the displacement */
	uint8_t immediate;	    /**< bytes of the immediate */
	uint8_t length;		    /**< of all, in bytes */
	enum instruction_access access;
	uint8_t size;		    /**< of the memory operand, in bytes */
	bool bit_string;	    /**< a register says which bit after the operand's address */
};

/**
 * Decode the instruction at an address.
 *
 * @param code  where it is; no byte after its end is read
 * @param in    what was found
 * @return whether it is one of those that are known and has its operand in memory
 */
bool instruction_decode(const uint8_t *code, struct instruction *in);

/** Is it MOV with the operand's address as an immediate? It has no ModRM and no copy. */
bool instruction_is_moffs(const struct instruction *in);

/** The register of ModRM, as a number 0 to 15 of the manual's table 2-2. */
unsigned int instruction_register(const struct instruction *in);

/** A general register by that number, as an index of gregs. */
int instruction_greg(unsigned int number);

/**
 * The address of the memory operand.
 *
 * @param in     the instruction
 * @param gregs  registers before it has run
 */
uintptr_t instruction_address(const struct instruction *in, const greg_t *gregs);

/**
 * Write a copy of an instruction whose operand is somewhere else.
 *
 * @param in      the instruction
 * @param gregs   registers before it will run
 * @param to      where to write it; it has to run there. INSTRUCTION_MAX + 6 bytes
 * @param memory  the operand, within 1 GiB of @p to
 * @return its length in bytes
 */
size_t instruction_copy(const struct instruction *in, const greg_t *gregs, uint8_t *to,
	const void *memory);

#endif /* NIC82599_INSTRUCTION_H */
