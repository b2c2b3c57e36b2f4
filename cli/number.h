/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CLI_NUMBER_H
#define CLI_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/**
 * Read a number, as options and keys have it: digits alone, without sign, blank or overflow, which
 * strtoull() would accept. Any thread.
 *
 * @param text the whole number
 * @param base 8, 10 or 16; with 16 the number may begin with 0x
 * @param[out] value the number
 * @return whether @p text is one
 */
bool number_parse(const char *text, int base, uint64_t *value);

#endif /* CLI_NUMBER_H */
