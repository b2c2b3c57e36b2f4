/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_REGISTER_FORMS_H
#define TESTS_UNIT_REGISTER_FORMS_H

/**
 * @file
 * What C code does with a 32-bit register of a device, compiled in many ways: register_forms.c is
 * one set of it, once for each compiler and its options.
 */

#include <stdint.h>

/** A function that accesses the register at @c p, and others near it, with two values. */
struct register_form {
	const char *name;
	uint64_t (*run)(void *p, uint32_t a, uint32_t b);
};

/** All functions of one way to compile. */
struct register_forms {
	const char *compiled; /**< by what, how */
	const char *cpu;      /**< the CPU that it needs, "" for any */
	const struct register_form *form;
	unsigned int n;
	struct register_forms *next;
};

/** The list of them, which each puts itself into before main(). */
extern struct register_forms *register_forms;

#endif /* TESTS_UNIT_REGISTER_FORMS_H */
